"""python -m dsgd.diff RUN RUN: the first step, worker and layer at which two runs part, and by how many ulps.

Compares what their folders hold: configurations, orders of pushes, last checkpoints.  Then both are made once more in
the simulator, in the order of their logs, and their parameters are compared version by version: after every update of a
parameter server, after every step of the other algorithms.  Exit code: 0 the same parameters, 1 others, 2 a usage error.
"""

import sys

import numpy as np

from dsgd.arguments import Parser
from dsgd.checkpoint import digest
from dsgd.command import run_command
from dsgd.order import is_push
from dsgd.rerun import read_run, rerun


def main(argv):
    """Compare as the command line says and print it; returns the exit code."""
    known = Parser(prog="python -m dsgd.diff", allow_abbrev=False, description=__doc__.partition("\n\n")[0])
    known.add_argument("runs", nargs=2, metavar="RUN", help="folder of a run")
    one, two = map(read_run, known.parse_args(argv).runs)
    for run in (one, two):
        pushes = f", {sum(map(is_push, run.log[1]))} pushes" if run.log else ""
        print(
            f"{run.name}: {run.config.algorithm} on {run.ranks} ranks, {run.step} steps{pushes}, sha256 {run.sha[:16]}"
        )
    print(f"configuration: {compare_values(one.identity, two.identity)}")
    if one.log and two.log:
        print(f"order: {compare_entries(one.log[1], two.log[1])}")
    traces = [rerun(run) for run in (one, two)]
    if traces[0].seen[0][1].keys() != traces[1].seen[0][1].keys() or one.x.shape != two.x.shape:
        print("parameters: of different networks, which cannot be compared")
        return 1
    parted = first_difference(*(trace.seen for trace in traces))
    print("\n".join([*describe(one, two, traces, parted), *check(one, traces[0]), *check(two, traces[1])]), flush=True)
    return int(parted is not None or one.sha != two.sha)


def compare_values(one, two):
    """What differs between two {key: value}."""
    keys = [key for key in one if one[key] != two.get(key)]
    return "; ".join(f"{key} = {one[key]} | {two.get(key)}" for key in keys) or "the same"


def compare_entries(one, two):
    """Where two orders part."""
    same = next((i for i, (a, b) in enumerate(zip(one, two)) if a != b), min(len(one), len(two)))
    if same == len(one) == len(two):
        return "the same"
    there = [entries[same] if same < len(entries) else "the end" for entries in (one, two)]
    return f"parts at line {same + 2} of order.jsonl: {there[0]} | {there[1]}"


def first_difference(one, two):
    """The first version whose digests differ, or that only one run has; None if there is none.   one, two: Trace.seen"""
    versions = sorted(one.keys() | two.keys())
    return next((v for v in versions if v not in one or v not in two or one[v][1] != two[v][1]), None)


def describe(one, two, traces, version):
    """Lines about the first version of x in which the runs, made once more, differ; None: in none."""
    seen = [trace.seen for trace in traces]
    if version is None:
        return [f"parameters: the same in all {len(seen[0])} versions"]
    shorter = [run.name for run, versions in zip((one, two), seen) if version not in versions]
    if shorter:
        return [f"parameters: the same up to version {version - 1}, with which {shorter[0]} ends"]
    x = [rerun(run, keep=(version,)).kept[version] for run in (one, two)]
    lines = [f"parameters: part in version {version}, step {max(1, seen[0][version][0])}:"]
    lines += [f"  {name}: {distance(a, x[1][name])}" for name, a in x[0].items() if a.tobytes() != x[1][name].tobytes()]
    return [*lines, f"  {blame(one, two, traces, version)}"]


def distance(a, b):
    """How far two arrays of one dtype are apart."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype} {a.shape} | {b.dtype} {b.shape}"
    different, largest = np.count_nonzero(a != b), np.abs(a).max()
    part = float(np.abs(a - b).max() / largest) if largest else float("inf")
    return f"{different} of {a.size} numbers, by at most {ulps(a, b)} ulps, {part:.2g} of the largest"


def ulps(a, b):
    """How many floats of their dtype lie between a (n,) and b (n,), at most.

    >>> import numpy as np
    >>> a = np.float32([1.0, 2.0])
    >>> ulps(a, np.nextafter(a, np.float32(3)))
    1
    """
    ordered = []
    for x in (a, b):
        bits = x.view(f"i{x.itemsize}").astype(object if x.itemsize == 8 else np.int64)
        ordered.append(
            np.where(bits < 0, -(bits + 2 ** (8 * x.itemsize - 1)), bits)
        )  # negative numbers count downwards
    return int(np.abs(ordered[0] - ordered[1]).max())


def blame(one, two, traces, version):
    """Whose push made it differ.   version: the first that differs, so x was the same in all before"""
    if not version:
        return "before the first step"
    made = [pushes_of(run, trace, version) for run, trace in zip((one, two), traces)]
    if made[0].keys() != made[1].keys():
        return "made by " + " | ".join(", ".join(name(push) for push in pushes) for pushes in made)
    changed = [name(push) for push, gradient in made[0].items() if gradient != made[1][push]]
    if changed:
        return f"made by {', '.join(changed)}, whose gradient differs"
    return f"made by {', '.join(map(name, made[0]))}: no gradient differs, so what is done with it does"


def pushes_of(run, trace, version):
    """{(worker, number of its push): digest of the gradient} of an update."""
    if run.log:
        pushes = [entry[:2] for entry in run.log[1] if is_push(entry) and entry[3] == version]
    else:
        pushes = sorted(push for push in trace.gradients if push[1] == version - 1)
    return {tuple(push): trace.gradients[*push] for push in pushes}


def name(push):
    return f"worker {push[0]}'s push {push[1]}"


def check(run, trace):
    """A line if a run, made once more, does not end in the bits that its checkpoint holds."""
    if digest(trace.x) == run.sha:
        return []
    return [
        f"{run.name}: made once more, it does not end in what its checkpoint holds ({distance(run.x, trace.x)}): "
        "it was computed elsewhere or otherwise, or it was changed"
    ]


if __name__ == "__main__":
    sys.exit(run_command(main))
