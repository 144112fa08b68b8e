"""What the checks of exercises say of wrong answers of any kind, and the curves that notebooks draw."""

import numpy as np
import pytest

from checking import check_calls, check_ranks, compare
from dsgd.plots import curves
from watching import watch

RIGHT = np.arange(6.0).reshape(2, 3)
WRONG = {
    "it is missing.": None,
    "its shape is (3, 2), not (2, 3).": RIGHT.T,
    "its shape is (), not (2, 3).": 3.0,
    "it is no array of numbers, but 'text'.": "text",
    "it is no array, but [[1], [2, 3]].": [[1], [2, 3]],
    "1 of 6 numbers are wrong, the first, [1, 2], is 5.5, not 5.": RIGHT + [[0, 0, 0], [0, 0, 0.5]],
    "1 of 6 numbers are wrong, the first, [0, 1], is nan, not 1.": RIGHT + [[0, np.nan, 0], [0, 0, 0]],
    "it raised KeyError: 'x'": KeyError("x"),
}


@pytest.mark.parametrize("reason", WRONG)
def test_a_wrong_tensor_is_named_with_step_worker_and_reason(reason, capsys):
    expected = [{worker: {"first": RIGHT, "second": RIGHT} for worker in (0, 1)} for _ in range(3)]
    got = [{worker: dict(tensors) for worker, tensors in step.items()} for step in expected]
    got[2][0]["first"] = 7 * RIGHT  # later than the first
    got[1][1]["second"] = WRONG[reason]
    assert not compare("title", expected, got)
    assert capsys.readouterr().out == f"title: not yet. Step 2, worker 1, second: {reason}\n"
    assert compare("title", expected, expected, rtol=0) and capsys.readouterr().out == "title: right.\n"


def test_the_last_bit_counts_where_bits_are_asked_for(capsys):
    expected, got = ([{"": {"x": x}}] for x in (np.float32([1]), np.nextafter(np.float32([1]), np.float32(2))))
    assert not compare("title", expected, got, rtol=0)
    assert "Step 1, x: 1 of 1" in capsys.readouterr().out
    assert compare("title", expected, got, rtol=1e-6)
    assert not compare("title", expected, [])
    assert "Wanted a list of 1 steps, found 0 steps." in capsys.readouterr().out


def test_an_answer_may_not_change_what_it_is_given(capsys):
    def doubles(x):
        x *= 2
        return x

    x = np.ones(2)
    assert check_calls("title", doubles, [{"": ((x,), {"x": 2 * x})}] * 2) and (x == 1).all()


def raises_on_one(comm, x):
    if comm.rank == 1:
        raise ValueError("oh")
    return comm.allreduce(x)


RANKS = {
    "Step 1, worker 0, sum: it raised Deadlock: nothing is left": lambda comm, x: comm.recv(1) if not comm.rank else x,
    "Step 1, worker 1, sum: it raised ValueError: oh": raises_on_one,
    "Step 1, worker 0, sum: it raised ValueError: output array is read-only": lambda comm, x: np.add(
        comm.allreduce(x), 1, out=comm.allreduce(x)
    ),
    "Step 1, worker 0, sum: it is missing.": lambda comm, x: None,
    "Step 1, worker 2, sum: 1 of 2": lambda comm, x: comm.allreduce(x) + [0, comm.rank == 2],
}


@pytest.mark.parametrize("words", RANKS)
def test_a_wrong_rank_is_named_and_nobody_who_waited_for_it(words, capsys):
    steps = [{rank: ((np.full(2, float(rank)),), {"sum": np.full(2, 3.0)}) for rank in range(3)}] * 2
    assert not check_ranks("title", RANKS[words], steps)
    assert capsys.readouterr().out.startswith(f"title: not yet. {words}")
    assert check_ranks("title", lambda comm, x: comm.allreduce(x), steps)


class Rude:
    """What neither shows itself nor becomes an array."""

    def __array__(self, *_, **__):
        raise RuntimeError("no")

    __repr__ = __array__


def test_the_rudest_answers_are_reported_in_a_line(capsys):
    steps = [{"": ((), {"x": np.zeros(3)})}]
    for answer in (lambda: Rude(), lambda: exit(), lambda: [[0.0] * 9999, [1.0]]):
        assert not check_calls("rude", answer, steps)
        assert len(capsys.readouterr().out) < 300


def test_a_watched_run_is_the_run():
    """Each step's gradients, in the order of the workers, lead from its x to the next one's."""
    _, steps, result = watch(simulate=4, batch_size=160, epochs=1, optimizer="sgd", lr=0.1)
    assert [len(call.batch) for call in steps[8]] == [39, 40, 39, 40]
    x = steps[0][0].x
    for workers in steps:
        assert all((call.x == workers[0].x).all() for call in workers)
        np.testing.assert_allclose(workers[0].x, x, rtol=0, atol=1e-15)
        x = x - 0.1 * sum(call.g for call in workers)
    np.testing.assert_allclose(result.params, x, rtol=0, atol=1e-15)


def test_curves_are_drawn_as_given():
    given = {"a": ([1, 2, 4], [3.0, 2.0, 1.0]), "b": ([1, 8], [1.0, 1.0])}
    figure = curves.figure(given, x="workers", y="time (s)", log="x", lines={"here": 3})
    (axes,) = figure.axes
    *drawn, line = axes.lines
    assert [(list(each.get_xdata()), list(each.get_ydata())) for each in drawn] == list(given.values())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "here"]
    assert list(line.get_xdata()) == [3, 3]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale(), axes.get_yscale()) == (
        "workers",
        "time (s)",
        "log",
        "linear",
    )
    figure.draw_without_rendering()
    assert "2" in [tick.get_text() for tick in axes.get_xticklabels()]
