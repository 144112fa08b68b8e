"""Pictures that teach: what is drawn are the messages, weights and shards of a run."""

import pytest

import dsgd
from dsgd.errors import UsageError
from dsgd.plots import messages
from dsgd.plots.steps import read_steps

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


def test_a_step_that_the_trace_does_not_hold_is_refused():
    events = dsgd.run(**SMALL, simulate=2).events
    with pytest.raises(UsageError, match="--step 5: the trace has gradients of the steps 1 to 4"):
        messages.figure(events, step=5)
