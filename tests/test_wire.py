"""The bytes of a message: what is written is read, and what nobody wrote is refused with one exception type."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgd.comm import DTYPES, Header
from dsgd.errors import WireError
from dsgd.mpi.wire import HEAD, LARGEST, TAGS, announced, decode, encode
from launching import python

INT64 = st.integers(-(2**63), 2**63 - 1)


def message(x, header=Header()):
    return np.concatenate([encode(x, header).view(np.uint8), x.view(np.uint8)])


@given(dtype=st.sampled_from(DTYPES), n=st.integers(0, 20), header=st.tuples(INT64, INT64, INT64, INT64))
def test_what_is_written_is_read(dtype, n, header):
    x = np.arange(n).astype(dtype)
    arrived, data = decode(message(x, Header(*header)))
    assert arrived == header and isinstance(arrived, Header)
    assert data.dtype == dtype and data.tobytes() == x.tobytes()


def test_the_data_are_a_view():
    buffer = message(np.ones(1000))
    assert np.shares_memory(decode(buffer)[1], buffer)


@pytest.mark.parametrize(
    "buffer, said",
    [
        (np.zeros(0, np.uint8), "a message of 0 bytes is shorter than its header, 64 bytes"),
        (message(np.ones(3))[: HEAD - 1], "63 bytes is shorter"),
        (message(np.ones(3))[:-1], "23 bytes of data, which is no whole number of float64"),
    ],
)
def test_a_message_that_was_cut_is_refused(buffer, said):
    with pytest.raises(WireError, match=said):
        decode(buffer)


@pytest.mark.parametrize("number", [-1, len(DTYPES), 2**40])
def test_a_dtype_that_nobody_knows_is_refused(number):
    """Minus one, too: Python would take the last of the list."""
    buffer = message(np.ones(3))
    buffer[:HEAD].view(np.int64)[4] = number
    with pytest.raises(WireError, match=f"names dtype {number}, and there are 0 to 3"):
        decode(buffer)


@pytest.mark.parametrize("nbytes, tag", [(1, 0), (LARGEST, TAGS - 1)])
def test_data_that_come_apart_are_announced(nbytes, tag):
    head = encode(np.ones(3), Header(), (nbytes, tag)).view(np.uint8)
    assert announced(head, apart=True) == (nbytes, tag)
    with pytest.raises(WireError, match=f"announces {nbytes} bytes under tag {tag}, and none may here"):
        announced(head, apart=False)


@pytest.mark.parametrize("nbytes, tag", [(2**45, 1), (LARGEST + 1, 1), (-1, 1), (0, 1), (8, -1), (8, TAGS)])
def test_an_announcement_of_what_cannot_come_is_refused(nbytes, tag):
    head = encode(np.ones(3), Header(), (nbytes, tag)).view(np.uint8)
    with pytest.raises(WireError, match=f"announces {nbytes} bytes under tag {tag}, and 1 to {LARGEST} bytes"):
        announced(head, apart=True)


def test_what_is_no_head_announces_nothing():
    assert announced(message(np.ones(3)), apart=False) == announced(np.zeros(HEAD, np.uint8), apart=False) == (0, 0)
    assert announced(np.zeros(3, np.uint8), apart=True) == (0, 0)


FORGED = """
from mpi4py import MPI
import numpy as np
from dsgd.comm import Header
from dsgd.errors import WireError
from dsgd.mpi.comm import MPIComm
from dsgd.mpi.wire import encode
for crowded, nbytes in ((True, 2**45), (False, 2**45), (False, 8)):
    world = MPI.COMM_SELF.Dup()
    sent = world.Isend(encode(np.ones(1), Header(), (nbytes, 1)), 0, 0)
    try:
        MPIComm(world, crowded=crowded).recv(0)
    except WireError as error:
        print(error)
    sent.wait()
"""


def test_a_forged_head_is_refused_by_the_rank_that_receives_it():
    ended = python("-c", FORGED)
    assert ended.code == 0 and ended.out.count("a message announces ") == 3, ended


@given(st.binary(max_size=200), st.integers(-2, 5))
def test_whatever_comes_is_read_or_refused(data, number):
    """With a dtype that is often a known one, so that the rest is reached."""
    buffer = np.frombuffer(data, np.uint8).copy()
    if len(buffer) >= HEAD:
        buffer[:HEAD].view(np.int64)[4] = number
    try:
        header, values = decode(buffer)
    except WireError:
        return
    assert values.nbytes == len(buffer) - HEAD and values.dtype in DTYPES and len(header) == 4
