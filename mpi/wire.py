"""What a message looks like on its way: 64 bytes in front, the head, then the data.

The head is eight integers: the header's four, the dtype's number, and two that announce data which come in a message of
their own: how many bytes, and under which tag.
"""

import numpy as np

from dsgd.comm import DTYPES, Header
from dsgd.errors import WireError

TAGS = 32767  # what MPI promises at least
HEAD = 64  # bytes: the data behind them stay aligned
LARGEST = 2**33  # bytes of data: 10⁹ parameters in float64, and some


def encode(x, header, apart=(0, 0)):
    """The integers (8,) that travel in front of x (n,).   apart: (bytes, tag) of its data, if they do not follow here"""
    words = np.zeros(HEAD // 8, np.int64)
    words[:4], words[4], words[5:7] = header, DTYPES.index(x.dtype), apart
    return words


def announced(buffer, apart):
    """(bytes, tag) of the data of this message that come apart; (0, 0) if all are here.

    Args:
        apart: whether data may come apart at all.
    Raises:
        WireError: it announces what cannot come.
    """
    if buffer.shape[0] != HEAD:
        return 0, 0
    nbytes, tag = buffer.view(np.int64)[5:7].tolist()
    if (nbytes, tag) != (0, 0) and not (apart and 0 < nbytes <= LARGEST and 0 <= tag < TAGS):
        may = f"1 to {LARGEST} bytes under a tag below {TAGS} may" if apart else "none may here"
        raise WireError(f"a message announces {nbytes} bytes under tag {tag}, and {may}")
    return nbytes, tag


def decode(buffer):
    """(header, data) of a message that came as bytes (n,); the data (m,) are a view of them.

    Raises:
        WireError: this is no message of ours.
    """
    nbytes = buffer.shape[0]
    if nbytes < HEAD:
        raise WireError(f"a message of {nbytes} bytes is shorter than its header, {HEAD} bytes")
    *header, number = map(int, buffer[:HEAD].view(np.int64)[:5])
    if not 0 <= number < len(DTYPES):
        raise WireError(f"a message names dtype {number}, and there are 0 to {len(DTYPES) - 1}")
    dtype = DTYPES[number]
    if (nbytes - HEAD) % dtype.itemsize:
        raise WireError(f"a message has {nbytes - HEAD} bytes of data, which is no whole number of {dtype}")
    return Header(*header), buffer[HEAD:].view(dtype)
