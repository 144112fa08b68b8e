"""The log of a run's order: what stands in it, and that a damaged one is refused with the reason."""

import json

import pytest

import dsgd
from dsgd.algorithms.consistency import choose_model
from dsgd.algorithms.history import find_impossible
from dsgd.errors import DataError
from dsgd.order import Order, log, read_order, staleness, text

DATA = dict(data="teacher:samples=160,features=6,hidden=4,classes=3", batch_size=24, hidden="8", steps=6, no_plot=True)
HEAD = {"format": 1, "dsgd": "1", "ranks": 3, "workers": 2, "data": "abc", "config": {"lr": 0.1}}
# Two workers; worker 1 is slow: its first push was computed on version 0, and goes into version 3.
ENTRIES = [[0, 0, 0, 1], [0, 1, 1, 2], [1, 0, 0, 3], [1, 1, 3, 4], {"rest": 4, "step": 2}]


def test_a_run_leaves_its_order(tmp_path):
    result = dsgd.run(
        **DATA, algorithm="parameter-server:consistency=asp", simulate=4, checkpoint_every=3, output=str(tmp_path)
    )
    head, entries = read_order(tmp_path)
    assert head["format"] == 1 and head["workers"] == 3 and head["ranks"] == 4 and head["config"]["steps"] == 6
    assert entries == result.order and len(entries) == 18 + 2
    pushes = [entry for entry in entries if isinstance(entry, list)]
    assert sorted(into for *_, into in pushes) == list(range(1, 19))
    assert [entry for entry in entries if isinstance(entry, dict)] == [{"rest": 9, "step": 3}, {"rest": 18, "step": 6}]
    stale = staleness(entries)
    assert result.summary["mean_staleness"] == sum(stale) / 18 and result.summary["max_staleness"] == max(stale)
    assert result.summary["updates"] == 18 and sum(result.summary["pushes_per_worker"]) == 18


def test_a_run_without_a_server_leaves_none(tmp_path):
    dsgd.run(**DATA, algorithm="data-parallel", simulate=2, output=str(tmp_path))
    assert not (tmp_path / "order.jsonl").exists()


def test_the_file_is_appended_to_and_ends_with_a_hash(tmp_path):
    order = Order(tmp_path, HEAD)
    for number, entry in enumerate(ENTRIES):
        order.add(entry)
        order.write()
        assert read_order(tmp_path, whole=False) == (HEAD, ENTRIES[: number + 1])
    order.finish()
    assert read_order(tmp_path) == (HEAD, ENTRIES)
    assert (tmp_path / "order.jsonl").read_bytes() == log(HEAD, ENTRIES)


def test_a_line_that_the_disk_took_in_part_is_written_anew(tmp_path, monkeypatch):
    order = Order(tmp_path, HEAD, ENTRIES[:2])
    order.write()
    order.add(ENTRIES[2])
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no room"):
        patch.setattr("dsgd.order.os.fsync", lambda file: (_ for _ in ()).throw(OSError("no room")))
        order.write()
    order.write()
    assert read_order(tmp_path, whole=False)[1] == ENTRIES[:3]


def flipped(data):
    """The log with one digit changed: another worker."""
    return data.replace(b"[1, 0, 0, 3]", b"[0, 0, 0, 3]")


WHOLE = log(HEAD, ENTRIES)
BROKEN = {
    "cut between lines": (WHOLE[: WHOLE.rfind(b'{"end"')], "is cut off: its last line is missing"),
    "cut in a line": (WHOLE[:-20], "is cut off: its last line is missing"),
    "a digit flipped": (flipped(WHOLE), "not those that its last line was written for"),
    "an entry less": (WHOLE.replace(b"[0, 1, 1, 2]\n", b""), "not those that its last line was written for"),
    "another format": (log(HEAD | {"format": 2}, ENTRIES), "is in format 2, and dsgd .* reads format 1"),
    "no JSON": (WHOLE.replace(b"[0, 1, 1, 2]", b"[0, 1, 1, 2"), "line 3 is no JSON"),
    "another file": (b'{"step": 1}\n', "no 'format'"),
    "a list in front": (b"[1]\n", "is damaged"),
    "no header": (log({"format": 1}, ENTRIES), "no 'dsgd'"),
    "a header of other kinds": (log(HEAD | {"workers": "2"}, ENTRIES), "workers '2' in its first line"),
    "three numbers": (log(HEAD, [[0, 0, 0]]), r"line 2 is \[0, 0, 0\]"),
    "no number": (log(HEAD, [[0, 0, 0, True]]), r"line 2 is \[0, 0, 0, true\]"),
    "an entry of another version": (log(HEAD, [{"merge": 3}]), "no 'rest'"),
    "empty": (b"", "its first line is cut off"),
    "cut in the first line": (WHOLE[:30], "its first line is cut off"),
}


@pytest.mark.fault(
    "K8",
    "a replay log is cut off, damaged, of another format, of another run or of other data",
    "it is refused before the first step, with the reason in one line, and code 65 or 2",
)
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_log_is_refused_with_the_reason(case, tmp_path):
    data, reason = BROKEN[case]
    (tmp_path / "order.jsonl").write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        read_order(tmp_path)
    assert "order.jsonl" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_log_says_what_leaves_one(tmp_path):
    with pytest.raises(DataError, match="No such file .*; runs of a parameter server leave one"):
        read_order(tmp_path)


def test_the_log_of_a_run_under_way_is_read_without_a_line_that_was_cut_off(tmp_path):
    (tmp_path / "order.jsonl").write_text(text([HEAD, *ENTRIES[:3]]) + "[1, 1")
    assert read_order(tmp_path, whole=False) == (HEAD, ENTRIES[:3])


# --- what can have been

ASP, SOFT, SYNC, CLOCK = (
    choose_model("asp", 2),
    choose_model("softsync", 2, n=1),
    choose_model("k-sync", 2, k=1),
    choose_model("ssp", 2, bound=1, apply="clock"),
)
ROUNDS = [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 1, 2], [1, 1, 1, 0], {"rest": 2, "step": 2}]
PAIRS = [[0, 0, 0, 1], [1, 0, 0, 1], [0, 1, 0, 2], [1, 1, 0, 2], {"rest": 2, "step": 2}]


def test_these_can_have_been():
    assert find_impossible(ENTRIES, ASP, 2) is None
    assert find_impossible(ROUNDS, SYNC, 2) is None
    assert find_impossible(PAIRS, SOFT, 2) is None and find_impossible(PAIRS, CLOCK, 2) is None
    # the first push of worker 0 waits for another one while its second is rejected
    late = [[0, 1, 0, -1], [0, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 2], {"rest": 2, "step": 2}]
    assert find_impossible(late, SOFT, 2) is None


def changed(entries, number, entry):
    return [*entries[:number], entry, *entries[number + 1 :]]


IMPOSSIBLE = {
    "a version that is not there yet": (ASP, changed(ENTRIES, 1, [0, 1, 2, 2]), 1, "computed on version 2 goes into"),
    "a rejected push of the future": (ASP, changed(ENTRIES, 2, [1, 0, 0, -1])[:3] + [[1, 1, 3, -1]], 3, "version 3"),
    "a version left out": (
        ASP,
        changed(ENTRIES, 2, [1, 0, 0, 4]),
        2,
        "goes into version 4, and the one to be made is 3",
    ),
    "a push left out": (ASP, changed(ENTRIES, 1, [0, 2, 1, 2]), 1, "worker 0's push 2, where its push 1 has to be"),
    "a push twice": (ASP, changed(ENTRIES, 1, [0, 0, 1, 2]), 1, "worker 0's push 0, where its push 1 has to be"),
    "a worker too many": (ASP, changed(ENTRIES, 2, [2, 0, 0, 3]), 2, "worker 2, and there are 2"),
    "a worker that goes back": (ASP, changed(ENTRIES, 3, [1, 1, 0, 4])[:3] + [[1, 1, 1, 4], [1, 2, 0, 5]], 4, "after"),
    "a worker that starts elsewhere": (
        ASP,
        changed(ENTRIES, 2, [1, 0, 1, 3]),
        2,
        "computed on version 1, after version 0",
    ),
    "a worker that does nothing": (ASP, ENTRIES[:2], 2, "worker 1 has not pushed"),
    "a rest elsewhere": (
        ASP,
        changed(ENTRIES, 4, {"rest": 3, "step": 2}),
        4,
        "with version 3, and the last one made is 4",
    ),
    "two pushes in an update of one": (ASP, changed(ENTRIES, 1, [0, 1, 0, 1]), 1, "2 pushes go into version 1"),
    "another round's push": (SYNC, changed(ROUNDS, 2, [0, 1, 0, 2]), 2, "does not belong to the update of version 2"),
    "another clock's push": (CLOCK, [[0, 0, 0, 1], [0, 1, 0, 1], [1, 0, 0, 2], [1, 1, 0, 2]], 1, "does not belong"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_have_been_is_found(case):
    model, entries, number, why = IMPOSSIBLE[case]
    if not isinstance(entries[-1], dict):
        version = max([0, *(push[3] for push in entries)])
        entries = [*entries, {"rest": version, "step": 2}]
    found = find_impossible(entries, model, 2)
    assert found and found[0] == number and why in found[1], found


def test_a_log_is_text(tmp_path):
    """One JSON value on each line, so that any tool reads it."""
    lines = log(HEAD, ENTRIES).decode().splitlines()
    assert [json.loads(line) for line in lines[:-1]] == [HEAD, *ENTRIES]
    assert json.loads(lines[-1])["end"] == len(ENTRIES)
