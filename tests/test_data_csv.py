"""Tables: what is read from a .csv, and that what is wrong in it is told with line and column."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data import refused, rows

from dsgd.data import class_numbers, files, load, load_raw
from dsgd.errors import DataError, UsageError

IRIS = "length,width,species\n" + "".join(f"{i}.5,{-i},{'ab'[i % 2]}\n" for i in range(20))


@pytest.fixture
def table(tmp_path):
    """A function that writes a .csv and returns its path."""

    def write(text):
        path = tmp_path / "own.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def whole(path, options="scale=none"):
    """X and y of all samples, in the order of the first feature, and the labels."""
    data = load(f"{path}:{options}", seed=0, dtype="float64")
    X, y = np.vstack([data.X, data.X_test]), np.concatenate([data.y, data.y_test])
    order = np.argsort(X[:, 0])
    return X[order], y[order], data.labels


def test_the_last_column_is_the_label_and_words_in_front_are_a_header(table):
    X, y, labels = whole(table(IRIS))
    assert X.tolist() == [[i + 0.5, -i] for i in range(20)] and labels == ("a", "b")
    assert y.tolist() == [i % 2 for i in range(20)]
    assert load_raw(str(table(IRIS))).names == ("length", "width")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.partition("\n")[2],  # no header
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace(",", "|"),
        lambda text: text.replace(",", " , "),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n \n"),
        lambda text: "\ufeff" + text.partition("\n")[2],
        lambda text: text.rstrip(),
        lambda text: "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines()),
    ],
)
def test_the_ways_to_write_a_table_make_no_difference(table, change):
    expected = load(str(table(IRIS)), seed=0, dtype="float64")
    found = load(str(table(change(IRIS))), seed=0, dtype="float64")
    assert found.digest() == expected.digest() and found.labels == expected.labels


def test_a_quoted_field_may_hold_what_parts_fields(table):
    text = 'x,"a ""fine"", long\nname"\n1,"red, or so"\n2,blue\n3,"red, or so"\n4,blue\n'
    assert whole(table(text))[2] == ("blue", "red, or so")
    assert "line 5, column 1 ('x'): 'two' is not a number" in refused(table(text.replace("\n2,", "\n\ntwo,")))


@pytest.mark.parametrize("label", ["species", "2", "-2"])
def test_the_label_is_a_column_of_any_name_or_number(table, label):
    path = table("x,species,z\n" + "".join(f"{i},{'uv'[i % 2]},{i * i}\n" for i in range(20)))
    X, y, labels = whole(path, f"scale=none,label={label}")
    assert X.tolist() == [[i, i * i] for i in range(20)] and labels == ("u", "v") and y[:3].tolist() == [0, 1, 0]
    assert load_raw(f"{path}:label={label}").names == ("x", "z")


def test_a_name_that_is_a_number_is_a_name_where_there_is_a_header(table):
    path = table("x,2,y\n1,0,7\n2,1,8\n3,0,9\n")
    assert whole(path, "scale=none,header=true,label=2")[2] == (0, 1)
    assert load_raw(f"{path}:header=true,label=2").names == ("x", "y")


def test_minus_one_in_the_first_row_is_no_name(table):
    """XOR: no header, and the text of the default, label=-1, in the first cell."""
    X, y, labels = whole(table("-1,-1,0\n-1,1,1\n1,-1,1\n1,1,0\n"), "scale=none,test=0.25")
    assert rows(X) == [(-1, -1), (-1, 1), (1, -1), (1, 1)] and labels == (0, 1)


def test_a_row_with_the_name_of_the_label_is_a_header(table):
    path = table("2019,2020,price\n1,2,0.5\n3,4,1.5\n")
    assert load_raw(f"{path}:label=price").names == ("2019", "2020")


def test_what_a_header_is_may_be_said(table):
    path = table("1,2,3\n4,5,6\n7,8,9\n1,1,9\n")
    assert len(load_raw(str(path)).X) == 4 and load_raw(f"{path}:header=true").names == ("1", "2")
    assert "line 1, column 1: 'length' is not a number; if this is the header, say header=true" in refused(
        f"{table(IRIS)}:header=false"
    )
    mixed = table("id,2020,y\n1,2,3\n")
    assert "line 1, column 1: 'id' is not a number; if this is the header, say header=true" in refused(mixed)


def test_a_delimiter_may_be_said(table):
    path = table("a;b,c;y\n1;2;0\n3;4;1\n5;6;0\n")
    assert load_raw(str(path)).X.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert "line 2 has 1 columns, and line 1 has 2" in refused(f"{path}:delimiter=comma")


@pytest.mark.parametrize(
    "values, target, labels",
    [
        ("1 0 1 0", "auto", (0, 1)),
        ("+1 -1 +1 -1", "auto", (-1, 1)),
        ("1.0 0.0 1.0 0.0", "auto", ()),
        ("1.0 0.0 1.0 0.0", "class", (0, 1)),
        ("1 0 1 0", "number", ()),
        ("1e3 2 1 5", "auto", ()),
        ("0.5 1.5 0.5 1.5", "class", ("0.5", "1.5")),
        ("1 2 few 2", "auto", ("1", "2", "few")),
        ("1.5 2 few 2", "class", ("1.5", "2", "few")),
        ("NA DE NA DE", "class", ("DE", "NA")),
        ("True False True False", "auto", ("False", "True")),
        ("99999999999999999999 1 1 1", "auto", ("1", "99999999999999999999")),
    ],
)
def test_whole_numbers_and_words_are_classes_and_other_numbers_are_not(table, values, target, labels):
    path = table("x,y\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values.split())))
    found = load(f"{path}:target={target}", seed=0, dtype="float64")
    assert found.labels == labels and found.classes == len(labels)
    assert labels or found.y.shape == (3, 1)


ROWS = "a,width,y\n1,2,0\n3,4,1\n5,6,0\n"


@pytest.mark.fault("N2")
@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a,b,y\n", "has a header and no rows"),
        (ROWS + "7,abc,1\n", "line 5, column 2 ('width'): 'abc' is not a number; if these are the labels, say label=2"),
        (ROWS + "7,1_000,1\n", "line 5, column 2 ('width'): '1_000' is not a number"),
        (ROWS + "7,inf,1\n", "line 5, column 2 ('width'): 'inf' is not a number"),
        (ROWS + "7,,1\n", "line 5, column 2 ('width'): a value is missing; fill it in or leave the row out"),
        (ROWS + "NA,1,1\n", "line 5, column 1 ('a'): a value is missing ('NA')"),
        (ROWS + "7,nan,1\n", "line 5, column 2 ('width'): a value is missing ('nan')"),
        (ROWS + "7,8,\n", "line 5, column 3 ('y'): a value is missing"),
        (ROWS + "7,8,?\n", "line 5, column 3 ('y'): a value is missing ('?')"),
        (ROWS + "7,8,0.5\n9,9,abc\n", "line 6, column 3 ('y'): 'abc' is not a number; target=class takes them all"),
        (ROWS + "7,8\n", "line 5 has 2 columns, and line 1 has 3"),
        (ROWS + "7,8,9,\n", "line 5 has 4 columns, and line 1 has 3"),
        (ROWS + '7,"8,1\n', "line 5: unexpected end of data"),
        (ROWS + '7,"8"9,1\n', "line 5: ',' expected after '\"'"),
        (ROWS + f"7,8,{'long' * 500}\n", "line 5, column 3 ('y'): a label of 2000 characters"),
        (ROWS + f"7,{'9' * 200_000},1\n", "line 5: field larger than field limit"),
        (ROWS + f"7,{'x' * 2000},1\n", f"line 5, column 2 ('width'): '{'x' * 40}' is not a number"),
        (",b,y\n1,2,0\n,4,1\n", "line 3, column 1 (''): a value is missing"),
        ("1,,0\n1,4,1\n", "line 1, column 2: a value is missing"),
        (",0\n4,1\n", "line 1, column 1: a value is missing"),
        ("y\n1\n2\n", "has one column, and needs features and a label; is delimiter=NAME wanted?"),
        (ROWS.encode() + b"\xff\xfe,1,2\n", "is not UTF-8 text, at byte"),
        ("a,b,y\n1,2,3\n4,5,3\n", "y holds one class only (3)"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_column(table, text, message):
    path = table(text)
    said = refused(path)
    assert said.startswith(f"{path}: ") and message in said and len(said) < 300


def test_a_number_that_is_wrong_among_those_to_be_learnt_is_told(table):
    path = table(ROWS + "7,8,abc\n")
    assert "line 5, column 3 ('y'): 'abc' is not a number" in refused(f"{path}:target=number")
    assert "line 5, column 3 ('y'): 'abc' is not a number; if these" in refused(f"{path}:label=1")
    assert load(str(path), seed=0, dtype="float32").labels == ("0", "1", "abc")


@pytest.mark.parametrize(
    "options, message",
    [
        ("label=widht", "has no column 'widht'; did you mean 'width'? choices: a, width, y"),
        ("label=4", "has no column 4: it has 3; the nearest is label=3"),
        ("label=-9", "has no column -9: it has 3; the nearest is label=-3"),
        ("label=0", "has no column 0: it has 3; the nearest is label=1"),
        ("label=y,header=false", "has no header, and label=y is a name; give the number of the column"),
    ],
)
def test_a_label_column_that_does_not_exist_is_refused_with_the_nearest(table, options, message):
    assert message in refused(f"{table(ROWS)}:{options}")


def test_a_wide_table_does_not_list_its_columns(table):
    names = [f"pixel {i}" for i in range(500)]
    said = refused(f"{table(','.join([*names, 'klass']))}:label=class")
    assert said.endswith("has no column 'class'; did you mean 'klass'? there are 501 of them")
    assert refused(f"{table('x,' + chr(34) + 'two' + chr(10) + 'lines' + chr(34))}:label=z").endswith(
        "choices: x, two lines"
    )


def test_a_name_of_two_columns_is_refused(table):
    assert "has 2 columns 'y'; give the number of the column" in refused(f"{table('y,x,y' + ROWS[9:])}:label=y")


@pytest.mark.parametrize(
    "options, message",
    [
        ("header=ture", "unknown header 'ture'; did you mean 'true'? choices: auto, true, false"),
        ("delimiter=coma", "unknown delimiter 'coma'; did you mean 'comma'?"),
        ("target=klass", "unknown target 'klass'; did you mean 'class'?"),
        ("scale=rang", "unknown scale 'rang'; did you mean 'range'?"),
        ("lable=y", "did you mean 'label'?"),
    ],
)
def test_an_option_that_cannot_be_is_refused(table, options, message):
    assert message in refused(f"{table(ROWS)}:{options}", UsageError)


def test_a_file_over_the_limit_is_refused_unread(table, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    assert "claims to hold 28 bytes, over the limit of 10" in refused(table(ROWS))


# --- rows for predictions


def test_a_table_of_as_many_columns_as_features_has_no_labels(table):
    with_labels, without = "a,b,y\n1,2,u\n3,4,v\n", "a,b\n1,2\n3,4\n"
    for text in (without, without[4:], with_labels):
        raw = load_raw(str(table(text)), features=2)
        assert raw.X.tolist() == [[1, 2], [3, 4]]
        assert raw.y is None or (text == with_labels and class_numbers("f", raw.y, ("u", "v")).tolist() == [0, 1])
    assert (raw.y, raw.names)[1] == ("a", "b") and raw.y.tolist() == ["u", "v"]
    with pytest.raises(DataError, match="has 2 features, and the network takes 5"):
        load_raw(str(table(with_labels)), features=5)
    with pytest.raises(DataError, match="has 1 features, and the network takes 2"):
        load_raw(f"{table(without)}:label=1", features=2)
    with pytest.raises(DataError, match="line 2, column 1: a value is missing"):
        load_raw(str(table('7\n""\n8\n')), features=1)
    assert load_raw(str(table("7\n8\n")), features=1).X.tolist() == [[7], [8]]


def test_a_table_is_read_as_the_one_that_was_trained_on_unless_told_otherwise(table):
    like = "train.csv:label=y,header=true,test=0.3"
    path = table("y,a,b\nu,1,2\nv,3,4\n")
    raw = load_raw(str(path), features=2, like=like)
    assert raw.X.tolist() == [[1, 2], [3, 4]] and raw.y.tolist() == ["u", "v"] and raw.names == ("a", "b")
    assert load_raw(f"{path}:label=1", features=2, like="train.csv:label=3").names == ("a", "b")
    without = load_raw(str(table("a,b\n1,2\n")), features=2, like=like)
    assert without.y is None and without.X.tolist() == [[1, 2]]
    assert load_raw(str(table("a,b,y\n1,2,u\n")), features=2, like="digits:test=0.3").names == ("a", "b")


# --- anything at all

CELL = st.sampled_from(["1", "-2.5", "x", "", "nan", '"', '""', '"a', "1_0", "é", "\0", " ", "9" * 30, "\u2028", "\r"])
TEXT = st.lists(st.lists(CELL, max_size=4).map(",".join), max_size=6).map("\n".join)


@pytest.mark.fault("D5")
@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    content=st.binary(max_size=60) | TEXT.map(str.encode),
    options=st.sampled_from(["", ":label=1", ":label=x", ":target=class"]),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, options):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes(content)
    try:
        load(f"{path}{options}", seed=0, dtype="float32")
    except DataError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    except UsageError as error:
        assert "leaves no training sample of 1" in str(error)
