"""The bytes of a message: what is written is read, and what nobody wrote is refused with one exception type."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgd.comm import DTYPES, Header
from dsgd.errors import WireError
from dsgd.mpi.wire import HEAD, decode, encode

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
