"""The network: links and cards that differ, the server's card as the bottleneck it is, jitter, and what is refused."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import dsgd
from dsgd.comm import Header
from dsgd.errors import DataError, UsageError
from dsgd.faults import read_faults
from dsgd.network import Cards, Links, Network, read_network
from dsgd.simulator import simulate

ALPHA, BANDWIDTH = 1e-3, 1e6
PLAIN = Network(ALPHA, BANDWIDTH)
N = 800  # bytes of 100 numbers
FILE = """
latency = 1e-3
bandwidth = 1e6
jitter = 0.5
eager_limit = 100

[[card]]
ranks = "1-2/5"
bandwidth = 2e6

[[card]]
ranks = 2
bandwidth = 3e6

[[link]]
from = "0-1"
to = 2
latency = 7

[[link]]
from = 3
to = "0-9"
bandwidth = 5
"""


def write(tmp_path, text):
    path = tmp_path / "net.toml"
    path.write_text(text)
    return f"file:path={path}"


def one_way(network, sender=0, receiver=1, size=3):
    """When 100 numbers arrive."""

    def program(comm):
        if comm.rank == sender:
            comm.send(np.ones(100), receiver)
        return comm.rank == receiver and comm.recv() and comm.clock()

    return simulate(program, size, network=network)[receiver]


# --- the cards


@pytest.mark.parametrize("size", [2, 5, 33])
@pytest.mark.parametrize("latency", [0, ALPHA])
def test_a_servers_card_takes_in_what_its_bandwidth_says(size, latency):
    """Pushes of however many workers come one after the other, α + nβ apart: without α that is bandwidth / bytes a second."""
    pushes = 20

    def program(comm):
        if comm.rank:
            for _ in range(pushes):
                comm.isend(np.ones(100), 0)
            return None
        return [comm.recv() and comm.clock() for _ in range(pushes * (comm.size - 1))]

    cards = (Cards((range(1),), BANDWIDTH),)
    network = Network(latency, 1e9, cards=cards)  # the workers' are a thousand times faster
    times = simulate(program, size, network=network)[0]
    assert np.diff(times) == pytest.approx(latency + N / BANDWIDTH)
    assert times[-1] == pytest.approx(len(times) * (latency + N / BANDWIDTH), rel=1e-6)


def test_a_message_takes_the_slower_of_both_cards():
    for slow in (0, 1):
        assert one_way(PLAIN._replace(cards=(Cards((range(slow, slow + 1),), 1e5),))) == pytest.approx(ALPHA + N / 1e5)
    assert one_way(PLAIN._replace(cards=(Cards((range(9),), 1e7),))) == pytest.approx(ALPHA + N / 1e7)


def test_a_fast_card_sends_to_two_slow_ones_while_each_takes_its_own_time():
    network = PLAIN._replace(cards=(Cards((range(1),), 1e7),))

    def program(comm):
        if comm.rank:
            return comm.recv() and comm.clock()
        for dest in (1, 2):
            comm.isend(np.ones(100), dest)

    first = ALPHA + N / BANDWIDTH
    assert simulate(program, 3, network=network)[1:] == pytest.approx([first, first + ALPHA + N / 1e7])


def test_a_link_goes_one_way():
    network = PLAIN._replace(links=(Links((range(1),), (range(1, 2),), 0.5, 100.0),))
    assert one_way(network, 0, 1) == pytest.approx(0.5 + N / 100)
    assert one_way(network, 1, 0) == one_way(network, 0, 2) == pytest.approx(ALPHA + N / BANDWIDTH)


def test_over_the_eager_limit_the_envelope_takes_the_links_latency_too():
    network = PLAIN._replace(links=(Links((range(1),), (range(1, 2),), 0.5, 100.0),), eager_limit=0)
    assert one_way(network) == pytest.approx(2 * 0.5 + N / 100)


def test_a_collective_goes_at_the_pace_of_the_slowest_path_among_its_ranks():
    slow = PLAIN._replace(links=(Links((range(1),), (range(3, 4),), 0.5, 100.0),))

    def program(comm):
        group = comm.split(comm.rank // 2)
        begun = comm.clock()
        group.allreduce(np.ones(100))
        between = comm.clock()
        comm.barrier()
        after = comm.clock()
        comm.allreduce(np.ones(100))
        return between - begun, comm.clock() - after

    (apart, together), *_ = simulate(program, 4, network=slow)
    assert apart == pytest.approx(2 * (ALPHA + N / BANDWIDTH)) and together == pytest.approx(4 * (0.5 + N / 100))


def test_the_slowest_path_of_a_crowd_is_that_of_all_pairs():
    network = PLAIN._replace(
        cards=(Cards((range(2, 4),), 3e5), Cards((range(3, 4),), 2e5)),
        links=(Links((range(4),), (range(2, 6),), 2.0, 1e9), Links((range(2),), (range(5, 6),), 0.1, 1e5)),
    )
    for ranks in ((0, 1), (1, 2), (2, 3), (0, 5), (4, 5), range(6), range(3, 6)):
        paths = [network.path(a, b) for a in ranks for b in ranks if a != b]
        worst = max(p.latency for p in paths), min(min(p.out, p.into) for p in paths)
        assert network.slowest(tuple(ranks)) == worst


# --- jitter


def numbered(comm, messages=200):
    """When each of the messages arrives, all sent at once."""
    if comm.rank == 0:
        for i in range(messages):
            comm.isend(np.empty(0), 1, header=Header(push=i))
        return None
    got = [(comm.recv(0).header.push, comm.clock()) for _ in range(messages)]
    assert [push for push, _ in got] == list(range(messages))
    return [time for _, time in got]


@pytest.mark.parametrize("jitter", [1e-4, 0.1])
def test_jitter_comes_between_the_cards_and_messages_keep_their_order(jitter):
    network, expected = PLAIN._replace(jitter=jitter), []
    left = reached = arrived = 0.0
    for _ in range(200):
        left += ALPHA
        reached = max(reached, left + network.lateness(0, 1, left))
        arrived = max(reached, arrived + ALPHA)
        expected.append(arrived)
    assert simulate(numbered, 2, network=network)[1] == pytest.approx(expected, rel=1e-12)


def test_jitter_is_exponential_and_a_function_of_seed_pair_and_time():
    network = Network(jitter=2.0)
    late = np.array([network.lateness(0, 1, 0.001 * i) for i in range(20_000)])
    assert late.mean() == pytest.approx(2, rel=0.03) and np.median(late) == pytest.approx(2 * np.log(2), rel=0.03)
    others = network.lateness(1, 0, 0.0), network.lateness(0, 2, 0.0), network._replace(seed=1).lateness(0, 1, 0.0)
    assert late[0] == network.lateness(0, 1, 0.0) and late[0] not in others


RUN = """
import dsgd
from dsgd.simulator.trace import lines
result = dsgd.run(
    data="digits", hidden="8", batch_size=12, steps=6, simulate=4, algorithm="parameter-server:consistency=asp", seed=3,
    optimizer="sgd", lr=0.01, compute="lognormal:mean=1e-4,sigma=1,stragglers=0.2", network="uniform:jitter=1e-4",
    faults="drop:p=0.2", world={"trace": True},
)
print(*lines(result.trace), result.summary["params_sha256"], sep="\\n")
"""


def test_the_trace_does_not_depend_on_the_hash_seed():
    """With jitter, drops and random compute times at once."""
    told = [
        subprocess.run(
            [sys.executable, "-c", RUN], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        for seed in ("1", "2")
    ]
    assert not told[0].returncode, told[0].stderr
    assert "dropped: message" in told[0].stdout and told[0].stdout == told[1].stdout


def test_a_lossy_network_with_links_cards_and_jitter_delivers_everything_in_order():
    network = Network(
        ALPHA,
        BANDWIDTH,
        jitter=1e-3,
        cards=(Cards((range(1),), 1e5),),
        links=(Links((range(1),), (range(9),), 0.01, 1e6),),
    )
    bad = read_faults("drop:p=0.3; duplicate:p=0.3; reorder:p=0.3,s=0.01", 1)
    assert simulate(numbered, 2, network=network, faults=bad)[1]


# --- files and flags


def test_a_file_says_what_links_and_cards_are(tmp_path):
    network = read_network(write(tmp_path, FILE), seed=4)
    assert network[:5] == (1e-3, 1e6, 100, 0.5, 4)
    assert network.path(0, 1) == (1e-3, 1e6, 2e6) and network.path(5, 1) == (1e-3, 2e6, 2e6)
    assert network.path(0, 2) == (7, 1e6, 3e6) and network.path(2, 0) == (1e-3, 3e6, 1e6)
    assert network.path(3, 0) == (1e-3, 5, 5)


def test_the_default_is_the_network_without_flags():
    assert read_network("uniform") == Network()
    assert read_network("uniform:latency=1,bandwidth=2,jitter=3,eager_limit=4", 5) == (1, 2, 4, 3, 5, (), ())


@pytest.mark.parametrize(
    "text, reason",
    [
        ("latancy = 1", "unknown key 'latancy'; did you mean 'latency'?"),
        ("[[cards]]\nranks = 0", "unknown key 'cards'"),
        ("[[card]]\nrank = 0\nbandwidth = 1", "[[card]]: unknown key 'rank'; did you mean 'ranks'?"),
        ("[[card]]\nranks = 0", "[[card]]: bandwidth is missing"),
        ("[[link]]\nfrom = 0\nlatency = 1", "[[link]]: to is missing"),
        ("[[link]]\nfrom = 0\nto = 'x'", "x is no list of ranks such as 0-1/4"),
        ("[card]\nranks = 0", "card is not a list of tables; write [[card]]"),
        ("latency = -1", "latency = -1 is not a number of at least 0"),
        ("bandwidth = 0", "bandwidth = 0 is not a number above 0"),
        ("[[card]]\nranks = 0\nbandwidth = 'fast'", "[[card]]: bandwidth = 'fast' is not a number above 0"),
        ("jitter = nan", "jitter = nan is not a number of at least 0"),
        ("latency", "Expected '='"),
    ],
)
def test_a_bad_file_is_refused_with_the_reason(tmp_path, text, reason):
    with pytest.raises(DataError, match=re.escape(reason)) as caught:
        read_network(write(tmp_path, text))
    assert str(tmp_path) in str(caught.value)


def test_bad_flags_are_refused():
    for spec in ("mesh", "uniform:speed=1", "uniform:bandwidth=0", "file", "uniform:jitter=-1"):
        with pytest.raises(UsageError):
            dsgd.run(network=spec, steps=1)
    with pytest.raises(DataError, match="No such file"):
        dsgd.run(network="file:path=nowhere.toml", steps=1)


def test_a_run_on_a_network_from_a_file(tmp_path):
    """A slow card at the server, and the same bits."""
    small = dict(data="digits", hidden="8", batch_size=12, steps=4, simulate=3, algorithm="parameter-server")
    plain = dsgd.run(**small)
    slow = dsgd.run(**small, network=write(tmp_path, "[[card]]\nranks = 0\nbandwidth = 1e5"))
    assert slow.summary["params_sha256"] == plain.summary["params_sha256"]
    assert slow.summary["virtual_seconds"] > 10 * plain.summary["virtual_seconds"]
