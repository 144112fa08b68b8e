"""The configuration: flags, TOML and run(**flags) are one thing; every bad value is one line with the remedy."""

import json
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsgd.algorithms import ALGORITHMS
from dsgd.arguments import GROUPS, make, parser, read_arguments, to_toml
from dsgd.config import Config
from dsgd.errors import UsageError
from dsgd.optimizers import DEFAULT_LR

CHANGED = dict(
    data="teacher:samples=100", batch_size=7, hidden="3", activation="tanh", loss="mse", init="glorot", dtype="float64",
    optimizer="adam:eps=1e-6", lr=1e-05, epochs=4, seed=9, partition="iid", dropout=0.25, l1=1e-4, l2=1e-3,
    schedule="cosine:eta_min=1e-6", warmup_steps=3, lr_scaling="linear", clip_norm=2.5, tolerance=0.01, patience=3, algorithm="parameter-server:servers=2", simulate=4, threads=2,
    compute="pareto:mean=1e-3,alpha=2.5,stragglers=0.1", network="uniform:jitter=1e-5",
    timeout=2.5, debug_collectives=True, check_replicas=3, stop_on_divergence=2, faults="kill:rank=1,step=2; drop:p=0.1",
    output='runs/"a\\b" é 😀', checkpoint_every=5, log_every=6, quiet=True, no_plot=True, trace=True, controller="step-size",
)  # fmt: skip


def read(*argv):
    return read_arguments(list(argv))[0]


def flags(**values):
    """The command line that says so."""
    argv = []
    for key, value in values.items():
        name = "--" + key.replace("_", "-")
        argv += [name] * value if isinstance(value, bool) else [name, str(value)]
    return argv


def refused(*argv):
    """The message of a command line that cannot be meant."""
    with pytest.raises(UsageError) as error:
        read(*argv)
    assert "\n" not in str(error.value) and error.value.code == 2
    return str(error.value)


def test_no_flags_are_the_defaults():
    assert read() == Config() == make({})


def test_flags_and_keywords_are_the_same():
    assert read(*flags(**CHANGED)) == make(CHANGED) == Config(**CHANGED)


def test_every_field_but_one_of_a_pair_is_changed_in_this_file():
    """So that a new field cannot be forgotten here."""
    left = {f.name for f in fields(Config) if getattr(Config(**CHANGED), f.name) == f.default}
    assert left == {"steps", "resume", "reduction", "device", "replay"}


def test_every_field_is_a_flag_with_a_help_text():
    text = parser().format_help()
    for f in fields(Config):
        assert "--" + f.name.replace("_", "-") in text and f.metadata["help"] and f.metadata["group"] in GROUPS
    assert all(group + ":" in text for group in GROUPS)
    assert all(name in text for name in ALGORITHMS)


@pytest.mark.parametrize("changes", [{}, CHANGED, {"steps": 12, "hidden": ""}], ids=["defaults", "changed", "steps"])
def test_the_printed_configuration_is_read_back(changes, tmp_path):
    config, shown = read_arguments([*flags(**changes), "--print-config"])
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config), encoding="utf-8")
    assert shown and read("--config", str(file)) == config


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])), st.floats(0, 1e300))
def test_any_text_and_number_survive_toml(tmp_path_factory, output, lr):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(to_toml(Config(output=output, lr=lr)), encoding="utf-8")
    again = read("--config", str(file))
    assert (again.output, again.lr) == (output, lr)


def toml(tmp_path, text):
    file = tmp_path / "config.toml"
    file.write_text(text)
    return str(file)


def test_a_file_may_be_written_by_hand(tmp_path):
    config = read(
        "--config", toml(tmp_path, 'batch-size = 64\nhidden = [8, 4]\nlr = 1\ndata = "teacher"\nquiet = true')
    )
    assert config == Config(batch_size=64, hidden="8,4", lr=1.0, data="teacher", quiet=True)


def test_the_command_line_wins_over_the_file(tmp_path):
    assert read("--config", toml(tmp_path, "lr = 0.5\nseed = 3"), "--lr", "0.25") == Config(lr=0.25, seed=3)


@pytest.mark.parametrize(
    "file, argv, expected", [("steps = 10", "--epochs", Config(epochs=5)), ("epochs = 10", "--steps", Config(steps=5))]
)
def test_a_length_on_the_command_line_replaces_either_length_of_the_file(tmp_path, file, argv, expected):
    """A file's steps must not overrule --epochs."""
    assert read("--config", toml(tmp_path, file), argv, "5") == expected


def test_a_resumed_run_takes_its_flags_from_its_folder(tmp_path):
    run = Config(**CHANGED | {"output": str(tmp_path)})
    (tmp_path / "config.json").write_text(json.dumps(asdict(run)))
    assert read("--resume", "--output", str(tmp_path)) == replace(run, resume=True, faults="")
    assert read("--resume", "--output", str(tmp_path), "--steps", "9") == replace(
        run, resume=True, faults="", epochs=Config.epochs, steps=9
    )


@pytest.mark.fault("K2")
@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "3", "\xff"])
def test_a_resumed_run_whose_flags_are_damaged_says_so(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    assert f"{tmp_path / 'config.json'} is damaged" in refused("--resume", "--output", str(tmp_path))


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    assert "holds no run to resume; leave out --resume" in refused("--resume", "--output", str(tmp_path))


@pytest.mark.parametrize(
    "text, message",
    [
        ("batchsize = 3", "unknown option 'batchsize'; did you mean 'batch_size'?"),
        ("batch-size = 3.5", "batch_size = 3.5 is not an int"),
        ("batch-size = true", "batch_size = True is not an int"),
        ("resume = 1", "resume = 1 is not a bool"),
        ("data = 3", "data = 3 is not a str"),
        ("[data]\nname = 'digits'", "data = {'name': 'digits'} is not a str"),
        ("lr = 'fast'", "--lr=fast is not a number"),
        ("lr = ", "config.toml: Invalid value"),
        ("steps = 5\nepochs = 5", "both say how long to train"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path, text, message):
    assert message in refused("--config", toml(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert "No such file" in refused("--config", str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--epochs 3 --steps 4", "--epochs and --steps both say how long to train"),
        ("--bach-size 3", "unknown argument '--bach-size'; did you mean '--batch-size'?"),
        ("--batch 3", "unknown argument '--batch'; did you mean '--batch-size'?"),
        ("digits", "unknown argument 'digits'; flags begin with --"),
        ("--lr", "expected one argument"),
        ("--lr fast", "--lr=fast is not a number"),
        ("--lr -1", "--lr -1.0 must be 0 or more"),
        ("--lr nan", "--lr nan must be"),
        ("--lr inf", "--lr inf must be"),
        ("--batch-size 0", "--batch-size 0 must be at least 1"),
        ("--batch-size 1.5", "--batch-size=1.5 is not a whole number"),
        ("--epochs 0", "--epochs 0 must be at least 1"),
        ("--steps -1", "--steps -1 must be at least 0"),
        ("--simulate -2", "--simulate -2 must be at least 0"),
        ("--threads 0", "--threads 0 must be at least 1"),
        ("--checkpoint-every -1", "--checkpoint-every -1 must be at least 0"),
        ("--log-every -1", "--log-every -1 must be at least 0"),
        ("--seed -1", "--seed -1 must be at least 0"),
        ("--hidden 64,many", "--hidden '64,many' is not a list of whole numbers"),
        ("--hidden 64,,32", "--hidden '64,,32' is not a list of whole numbers"),
        ("--hidden 64,0", "a layer needs at least one unit"),
        ("--activation rel", "unknown activation 'rel'; did you mean 'relu'?"),
        ("--init hee", "unknown init 'hee'; did you mean 'he'?"),
        ("--loss crossentropy", "did you mean 'cross-entropy'?"),
        ("--partition shuffle", "did you mean 'shuffled'?"),
        ("--dtype float16", "unknown dtype 'float16'; did you mean"),
        ("--reduction tre", "did you mean 'tree'?"),
        ("--device tpu", "unknown device 'tpu'"),
        ("--optimizer adan", "unknown optimizer 'adan'; did you mean 'adam'?"),
        ("--optimizer sgd:momentun=0.9", "did you mean 'momentum'?"),
        ("--optimizer sgd:momentum=1", "momentum=1.0 is not in [0, 1)"),
        ("--optimizer adam:beta1=2", "beta1=2.0 is not in [0, 1)"),
        ("--algorithm data-paralel", "did you mean 'data-parallel'?"),
        ("--algorithm parameter-server:server=2", "did you mean 'servers'?"),
        ("--algorithm dsgd:servers=2", "it has none"),
        ("--algorithm sgd --reduction native", "sgd has no reduction over workers"),
        ("--algorithm dsgd --reduction ring", "--reduction ring is a way to all-reduce, and dsgd does not"),
        ("--algorithm parameter-server --reduction star", "parameter-server does not"),
        ("--reduction rings", "did you mean 'ring'?"),
        ("--partition dirichlet:alfa=1", "did you mean 'alpha'?"),
        ("--partition by-label:alpha=1", "it has none"),
        ("--init he:gain=big", "init he:gain=big is not a number"),
        ("--init he:gain=0", "--init he:gain=0: the gain must be a positive number"),
        ("--init he:gain=nan", "the gain must be a positive number"),
        ("--dropout 1", "--dropout 1.0 is not a probability in [0, 1)"),
        ("--dropout -0.1", "--dropout -0.1 is not a probability"),
        ("--dropout 0.5 --hidden=", "--hidden '' has none"),
        ("--l2 -1", "--l2 -1.0 must be 0 or more"),
        ("--l1 nan", "--l1 nan must be"),
        ("--clip-norm -1", "--clip-norm -1.0 must be"),
        ("--l2 0.1 --optimizer sgd:weight_decay=0.1", "given in two places; keep one of them"),
        ("--optimizer sgd:momentum=0.9,momentum=0.8", "momentum is given twice"),
        ("--lr 0.1 --lr 0.2", "--lr is given twice; keep one of them"),
        ("--lr 0.1 --lr=0.2", "--lr is given twice; keep one of them"),
        ("--patience 3", "--patience 3 needs a --tolerance"),
        ("--tolerance -2", "--tolerance -2.0 must be"),
        ("--warmup-steps -1", "--warmup-steps -1 must be at least 0"),
        ("--schedule cosin", "did you mean 'cosine'?"),
        ("--schedule step:size=3", "did you mean 'step_size'?"),
        ("--lr-scaling sqrt", "unknown lr-scaling 'sqrt'"),
        (
            "--algorithm parameter-server:consistency=asp --tolerance 0.1",
            "--tolerance needs a loss that all ranks agree on",
        ),
        ("--algorithm parameter-server:consistency=asp --schedule plateau", "--schedule plateau needs a loss"),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_refused(argv, message):
    assert message in refused(*argv.split())


def test_an_unknown_or_mistyped_keyword_is_refused():
    with pytest.raises(UsageError, match="did you mean 'simulate'"):
        make({"simulated": 3})
    with pytest.raises(UsageError, match="batch_size = 3.5"):
        make({"batch_size": 3.5})


def test_the_number_of_ranks_settles_the_rest():
    assert (Config().settle(1).algorithm, Config().settle(4).algorithm) == ("sgd", "data-parallel")
    assert (Config().settle(1).lr, Config(optimizer="adam:eps=1e-7").settle(1).lr) == (
        DEFAULT_LR["sgd"],
        DEFAULT_LR["adam"],
    )
    assert Config(algorithm="dsgd", lr=0.3).settle(4) == Config(algorithm="dsgd", lr=0.3)


def test_the_identity_leaves_out_what_a_resumed_run_may_change():
    free = dict(epochs=99, steps=5, simulate=3, output="x", resume=True, quiet=True, no_plot=True, trace=True)
    free |= dict(timeout=1.0, debug_collectives=True, check_replicas=2, faults="kill:rank=0,step=3")
    assert Config(**free).digest() == Config().digest()
    for key, value in CHANGED.items():
        base = {"tolerance": CHANGED["tolerance"]} if key == "patience" else {}  # it makes no sense alone
        assert (make(base | {key: value}).digest() == make(base).digest()) == (key in free), key


def test_a_configuration_cannot_be_changed():
    with pytest.raises(AttributeError):
        Config().lr = 3
    assert make(asdict(Config())) == Config()
