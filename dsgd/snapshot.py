"""What ranks hand in for a checkpoint, how it is put together, and how a rank takes its part out of it again."""

import io

import numpy as np

from dsgd.arrays import to_host
from dsgd.state import State


def hand_in(rank):
    """The bytes of what this rank owns, and of what only it has.   rank: rank.Rank"""
    number = rank.comm.rank
    kept = {f"{number}/own/{name}": array for name, array in rank.state.own.items()}
    kept[f"{number}/counters"] = np.array([rank.comm.sent.messages, rank.comm.sent.bytes, rank.local.computed])
    if rank.owner:
        kept["x"] = rank.state.x
        kept |= {f"optimizer/{name}": array for name, array in rank.update.slots.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: to_host(array) for name, array in kept.items()})
    return np.frombuffer(buffer.getbuffer(), np.uint8)


def join(parts, roles, dtype):
    """{name: array} of a checkpoint from what each rank handed in: the ranges of x and of vectors like it are put together.

    Args:
        parts: {rank: its bytes}.  roles: comm.Roles.  dtype: of x.
    """
    ranks = {rank: dict(np.load(io.BytesIO(part))) for rank, part in parts.items()}
    arrays = {}
    for rank, _, _ in roles.owners:
        size = len(ranks[rank]["x"])
        for name in [name for name in ranks[rank] if name == "x" or name.startswith("optimizer/")]:
            array = ranks[rank].pop(name)
            joined = name in arrays and len(array) == size and array.dtype == dtype
            arrays[name] = np.concatenate([arrays[name], array]) if joined else array
    first = next((worker for worker in roles.workers if worker in ranks), None)
    for worker in roles.workers:
        if worker not in ranks:
            # It was given up: a run that goes on has it again, as if it were the first of the others.
            own = {name: array for name, array in ranks[first].items() if "/own/" in name}
            arrays |= {name.replace(f"{first}/", f"{worker}/", 1): array for name, array in own.items()}
    for kept in ranks.values():
        arrays |= kept
    return arrays


def take_out(rank, arrays, manifest):
    """Give a rank its state, its optimizer's vectors and its counters from a checkpoint, of any number of ranks.

    What only one rank had means nothing to another number of them and is left out; the last rank takes over what ranks
    that are there no more have counted, so that totals stay right.
    """
    comm, lo, hi, xp = rank.comm, rank.lo, rank.hi, rank.job.xp
    rank.state = State(*rank.share_of(xp.asarray(arrays["x"])))
    rank.state.t = manifest["step"]
    before, prefix = manifest["ranks"], f"{comm.rank}/own/"
    if before == comm.size:
        rank.state.own = {
            name.removeprefix(prefix): array.copy() for name, array in arrays.items() if name.startswith(prefix)
        }
    slots = {}
    for name, array in arrays.items():
        if name.startswith("optimizer/"):
            whole = array.shape == (rank.job.objective.layout.size,) and array.dtype == comm.dtype
            slots[name.removeprefix("optimizer/")] = xp.asarray(array[lo:hi].copy()) if whole else array.copy()
    rank.update.slots = slots
    counters = np.zeros(3, np.int64)
    for old in range(before):
        if min(old, comm.size - 1) == comm.rank:
            counters += arrays.get(f"{old}/counters", 0)  # none of a rank that was given up
    comm.sent.messages, comm.sent.bytes, rank.local.computed = counters.tolist()
    rank.progress.state = manifest["progress"]
