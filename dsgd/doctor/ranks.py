"""Under a launcher: do the ranks see the same packages, and does each have a core, and its host memory to share?"""

import platform
from collections import Counter

from dsgd.doctor.findings import note, ok, wrong
from dsgd.doctor.machine import cores, shared_memory
from dsgd.mpi.segments import free_bytes


def facts():
    """What rank 0 wants to know of every rank, for JSON."""
    from dsgd.versions import versions

    return {"host": platform.node(), "cores": cores(), "free": min(free_bytes(), 1 << 62), "versions": versions()}


def ranks(every):
    """Versions, compared with rank 0's.   every: the facts of each rank"""
    differ = [
        f"rank {rank} on {theirs['host']}: {what} {theirs['versions'][what]} (rank 0: {mine})"
        for rank, theirs in enumerate(every)
        for what, mine in every[0]["versions"].items()
        if theirs["versions"][what] != mine
    ]
    if differ:
        more = f", and {len(differ) - 3} more" if len(differ) > 3 else ""
        yield wrong("ranks", "; ".join(differ[:3]) + more, "start every rank with the same Python environment")
    else:
        hosts = Counter(one["host"] for one in every)
        yield ok(
            "ranks", f"{len(every)} on {', '.join(f'{host} ({n})' for host, n in hosts.items())}: the same versions"
        )


def hosts(every):
    """Cores for the ranks of each host, and its shared memory."""
    for host in dict.fromkeys(one["host"] for one in every):
        here = [one for one in every if one["host"] == host]
        allowed = {core for one in here for core in one["cores"]}
        if len(here) > len(allowed):
            text = f"{len(here)} ranks share {len(allowed)} cores: right, and slower; mpirun --bind-to none if there are more"
            yield note(host, text)
        else:
            yield ok(host, f"{len(here)} ranks on {len(allowed)} cores")
        if here[0]["host"] != every[0]["host"]:  # that of rank 0 has been looked at
            yield from shared_memory(here[0]["free"], f"memory, {host}")
