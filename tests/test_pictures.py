"""Pictures that teach: what is drawn are the messages, weights and shards of a run."""

from xml.etree import ElementTree

import numpy as np
import pytest

import dsgd
from dsgd.errors import UsageError
from dsgd.data import load
from dsgd.plots import animation, messages, partition, valley, weights
from dsgd.plots.steps import read_steps
from dsgd.study import count_labels, first_weights, losses_between, mistakes, study

SMALL = dict(data="blobs:samples=100", hidden="8", batch_size=16, steps=4, trace=True)


def arrows(figure):
    return [text for axes in figure.axes for text in axes.texts if (text.get_gid() or "").startswith("message")]


@pytest.mark.parametrize("flags", [dict(reduction="ring"), dict(algorithm="parameter-server")])
def test_every_message_of_the_trace_is_in_one_step_and_has_its_arrow(flags):
    result = dsgd.run(**SMALL, **flags, simulate=4)
    each = [read_steps(result.events, step).arrows for step in range(1, 5)]
    assert sorted(sum(each, [])) == sorted(read_steps(result.events, 1, 4).arrows)
    assert sum(map(len, each)) == sum(event["ph"] == "f" for event in result.events)
    assert len(arrows(messages.figure(result.events, step=2))) == len(each[1]) > 0


def test_the_messages_of_a_collective_are_those_of_the_written_tree():
    """They are counted as the communicator counts them, and are the bytes of the summary."""
    for size in (2, 3, 5, 8):
        result = dsgd.run(**SMALL, simulate=size)
        found = read_steps(result.events, 1, 4).arrows
        assert len(found) == result.summary["messages_sent"] and all(arrow.tree for arrow in found)
        assert sum(arrow.nbytes for arrow in found) == result.summary["bytes_sent"]
        up = {arrow.sender for arrow in read_steps(result.events, 2).arrows[: size - 1]}
        assert up == set(range(1, size))  # each but the first hands its sum on, once


def test_the_tree_of_five_workers_goes_up_and_down_round_by_round():
    events = dsgd.run(**SMALL, simulate=5).events
    found = read_steps(events, 3).arrows
    up, down = [{(1, 0), (3, 2)}, {(2, 0)}, {(4, 0)}], [{(0, 4)}, {(0, 2)}, {(0, 1), (2, 3)}]
    times = sorted({arrow.sent for arrow in found})
    rounds = [{(arrow.sender, arrow.receiver) for arrow in found if arrow.sent == time} for time in times]
    assert rounds == up + down
    assert [arrow.arrived for arrow in found[:-2]] == pytest.approx([times[i] for i in (1, 1, 2, 3, 4, 5)])
    sent = sum(arrow.nbytes for arrow in found) / 1000
    assert messages.figure(events, step=3).axes[0].get_title(loc="left") == f"8 messages, {sent:.1f} kB"


def test_a_message_belongs_to_the_step_of_its_sender():
    """The first layers have begun the next step while the last ones wait for what comes of it."""
    events = dsgd.run(**SMALL, simulate=2, algorithm="model-parallel").events
    for step in range(1, 5):
        sent = [(arrow.sender, arrow.receiver) for arrow in read_steps(events, step).arrows if not arrow.tree]
        assert sent == [(0, 1), (1, 0)]  # activations, and what comes back


def test_a_step_that_the_trace_does_not_hold_is_refused():
    events = dsgd.run(**SMALL, simulate=2).events
    with pytest.raises(UsageError, match="--step 5: the trace has gradients of the steps 1 to 4"):
        messages.figure(events, step=5)
    with pytest.raises(UsageError, match="--stop 2 is before --step 3"):
        messages.figure(events, step=3, stop=2)


def test_collectives_that_are_no_trees_are_named_and_their_messages_not_counted_as_none():
    events = dsgd.run(**SMALL, simulate=4, algorithm="sharded-update").events
    (axes,) = messages.figure(events, step=2).axes
    assert axes.get_title(loc="left") == "reduce_scatter, allgather_in_place" and not read_steps(events, 2).arrows


# --- the first layer, and what is misread


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return folder, dsgd.run(simulate=3, epochs=3, hidden="10", output=str(folder), no_plot=True)


def test_what_is_misread_is_what_the_accuracy_lacks_and_looks_as_the_data_do(digits):
    folder, result = digits
    images, labels, guesses = mistakes(study(folder))
    data = load("digits", seed=0, dtype="float32")
    assert len(images) == round((1 - result.summary["test_accuracy"]) * len(data.X_test)) > 0
    assert all(label != guess for label, guess in zip(labels, guesses))
    assert np.abs(images - images.round()).max() < 1e-5 and images.min() >= 0 and round(images.max()) == 16  # pixels


def test_each_unit_and_each_misread_digit_is_an_image(digits):
    folder, result = digits
    W, wrong = weights.read(folder)
    assert np.array_equal(W, result.params[: 64 * 10].reshape(64, 10)) and np.array_equal(
        W, first_weights(study(folder))
    )
    shown = [axes.images[0].get_array() for axes in weights.figure(W, wrong=wrong).axes if axes.images]
    assert len(shown) == 10 + min(64, len(wrong[0]))
    assert np.array_equal(shown[3], W[:, 3].reshape(8, 8)) and np.array_equal(shown[10].ravel(), wrong[0][0])


def test_features_that_are_no_image_are_refused():
    with pytest.raises(UsageError, match="12 features are no square image"):
        weights.figure(np.ones((12, 3)))
    assert len(weights.figure(np.ones((12, 3)), shape=(3, 4)).axes) > 3


def test_data_that_have_changed_are_refused(tmp_path):
    """A picture would show the old network's mistakes on samples it never met."""
    X = np.random.default_rng(0).normal(size=(40, 4))
    file, run = tmp_path / "data.npz", tmp_path / "run"
    np.savez(file, X=X, y=np.arange(40) % 2)
    dsgd.run(data=str(file), steps=2, output=str(run), no_plot=True)
    assert study(run).x.size
    np.savez(file, X=X[::-1], y=np.arange(40) % 2)
    with pytest.raises(UsageError, match="data.npz holds other data now"):
        study(run)


# --- who has which labels


@pytest.mark.parametrize("spec", ["shuffled", "iid", "by-label", "dirichlet:alpha=0.1"])
def test_the_labels_of_the_workers_are_those_that_they_compute_on(tmp_path, spec):
    flags = dict(simulate=5, algorithm="dsgd", data="blobs:samples=200", batch_size=40, partition=spec, epochs=1)
    result = dsgd.run(**flags, output=str(tmp_path), no_plot=True)
    counts = count_labels(study(tmp_path))
    assert counts.sum(axis=1).tolist() == [worker["samples"] for worker in result.summary["samples_per_worker"]]
    labels = load(flags["data"], seed=0, dtype="float32").y
    assert counts.sum(axis=0).tolist() == np.bincount(labels).tolist()
    circles = partition.figure({"run": counts}).axes[0].collections[0]
    assert len(circles.get_offsets()) == np.count_nonzero(counts)


def test_who_holds_a_part_of_x_sees_every_label(tmp_path):
    result = dsgd.run(simulate=2, algorithm="model-parallel", epochs=1, output=str(tmp_path), no_plot=True)
    counts = count_labels(study(tmp_path))
    assert counts.sum(axis=1).tolist() == [worker["samples"] for worker in result.summary["samples_per_worker"]]
    assert (counts[0] == counts[1]).all()


def test_a_run_without_a_checkpoint_holds_no_network(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UsageError, match="holds no trained network: it has no checkpoint.npz; train anew"):
        study(tmp_path)


def test_a_regression_has_no_labels(tmp_path):
    dsgd.run(data="linear:samples=50", steps=1, output=str(tmp_path), no_plot=True)
    for look in (count_labels, mistakes):
        with pytest.raises(UsageError, match="has no classes"):
            look(study(tmp_path))


# --- the line between two networks


def test_the_ends_of_the_line_are_the_two_networks_to_the_bit(tmp_path):
    flags = dict(data="blobs:samples=200,classes=2", loss="binary-cross-entropy", hidden="8", epochs=4, no_plot=True)
    runs = [dsgd.run(**flags, **more, output=str(tmp_path / name)) for name, more in (("a", {}), ("b", {"lr": 0.2}))]
    one, other = study(tmp_path / "a"), study(tmp_path / "b")
    rows = losses_between(one, other, valley.ALPHAS)
    ends = [row["test_loss"] for row in rows if row["alpha"] in (0, 1)]
    assert ends == [run.summary["test_loss"] for run in runs] and ends[0] != ends[1]
    middle = losses_between(one, other, [0.5])[0]["test_loss"]
    assert middle == one.objective.evaluate((one.x + other.x) / 2)["test_loss"]
    z, y = one.objective.predict(one.x, one.objective.data.X)[:, 0].astype(float), one.objective.data.y[:, 0]
    by_hand = float(np.mean(np.logaddexp(0, z) - z * y))  # binary cross-entropy of the training part
    assert next(row["train_loss"] for row in rows if row["alpha"] == 0) == pytest.approx(by_hand, rel=1e-5)
    drawn = valley.figure({"a to b": rows}).axes[0].lines
    assert drawn[0].get_ydata().tolist() == [row["train_loss"] for row in rows]


def test_there_is_no_line_between_other_networks(tmp_path):
    for name, hidden in (("a", "8"), ("b", "9")):
        dsgd.run(data="blobs", hidden=hidden, steps=1, output=str(tmp_path / name), no_plot=True)
    with pytest.raises(UsageError, match="other networks or data"):
        losses_between(study(tmp_path / "a"), study(tmp_path / "b"), [0.5])


# --- the animation


@pytest.mark.parametrize("flags", [dict(reduction="ring"), dict(algorithm="dsgd"), dict(algorithm="parameter-server")])
def test_every_message_of_the_step_travels_and_every_rank_computes(flags):
    events = dsgd.run(**SMALL, **flags, simulate=4).events
    part, drawn = read_steps(events, 2), ElementTree.fromstring(animation.draw(events, step=2, title="<&>"))
    circles = drawn.findall("{*}circle")
    dots = [circle for circle in circles if circle.get("opacity") == "0"]
    assert len(dots) == len(part.arrows) and len(circles) - len(dots) == len(part.names) == 4
    for moves in drawn.iter("{http://www.w3.org/2000/svg}animate"):
        times = [float(time) for time in moves.get("keyTimes").split(";")]
        assert times == sorted(times) and times[0] == 0 and times[-1] <= 1
        assert len(times) == len(moves.get("values").split(";"))
    places = animation.place(part.names)
    for dot, arrow in zip(dots, part.arrows):
        x = next(move for move in dot if move.get("attributeName") == "cx").get("values").split(";")
        assert [float(x[0]), float(x[-1])] == pytest.approx(
            [places[arrow.sender][0], places[arrow.receiver][0]], abs=0.1
        )
    assert drawn.find("{*}text").text == "<&>" and animation.draw(events, step=2) == animation.draw(events, step=2)
