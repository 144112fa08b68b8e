"""What a message looks like on its way: 64 bytes in front (the header and the dtype's number), then the data."""

import numpy as np

from dsgd.comm import DTYPES, Header
from dsgd.errors import WireError

HEADER = 64  # bytes: eight integers, of which five are in use; the data behind them stay aligned
WORDS = HEADER // 8


def encode(x, header):
    """The integers (8,) that travel in front of x (n,)."""
    words = np.zeros(WORDS, np.int64)
    words[:4], words[4] = header, DTYPES.index(x.dtype)
    return words


def decode(buffer):
    """(header, data) of a message that came as bytes (n,); the data (m,) are a view of them.

    Raises:
        WireError: this is no message of ours.
    """
    nbytes = buffer.shape[0]
    if nbytes < HEADER:
        raise WireError(f"a message of {nbytes} bytes is shorter than its header, {HEADER} bytes")
    *header, number = map(int, buffer[:HEADER].view(np.int64)[:5])
    if not 0 <= number < len(DTYPES):
        raise WireError(f"a message names dtype {number}, and there are 0 to {len(DTYPES) - 1}")
    dtype = DTYPES[number]
    if (nbytes - HEADER) % dtype.itemsize:
        raise WireError(f"a message has {nbytes - HEADER} bytes of data, which is no whole number of {dtype}")
    return Header(*header), buffer[HEADER:].view(dtype)
