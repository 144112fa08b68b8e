"""Shared-memory segments that dead MPI jobs left behind: a rank that is killed cannot remove its own.

A segment is removed if its name is one that MPI libraries use, if it is this user's, and if no living process has it
open or mapped.  Where there is no /dev/shm or no /proc nothing is done.
"""

import fcntl
import os
import stat
from pathlib import Path

from dsgd.command import say

FOLDER, PROCESSES = Path("/dev/shm"), Path("/proc")
NAMES = (
    *("mpich_shm_", "mpich_vci_", "mpich_shar_tmp", "Intel_MPI_"),  # MPICH, Intel MPI
    *("vader_segment.", "sm_segment.", "osc_sm.", "osc_rdma.", "open_mpi."),  # Open MPI
    *("ucx_shm_posix_", "psm2_shm.", "psm3_shm."),  # the transports beneath them
)
# The first PID and IPC namespaces, those of the host, have fixed numbers (include/linux/proc_ns.h).
HOST = {"pid": "pid:[4026531836]", "ipc": "ipc:[4026531839]"}


def free_bytes():
    """Bytes that shared memory may still take on this host.  MPI asks for them one page after the other, too late to refuse."""
    try:
        status = os.statvfs(FOLDER)
    except OSError:  # this system keeps shared memory elsewhere
        return float("inf")
    return status.f_bavail * status.f_frsize


def sweep():
    """Remove what dead jobs left, and say so in one line.  No error here is a reason for a job to fail."""
    try:
        folder = os.open(FOLDER, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody else frees a name that a new job then takes
        removed = [size for name, size in dead().items() if remove(name)]
    except OSError:  # another sweep is under way, or a process cannot be looked into
        return
    finally:
        os.close(folder)
    if removed:
        many = f"{len(removed)} shared-memory segment{'s' * (len(removed) > 1)}"
        say(f"removed {many} ({sum(removed) / 1e6:.1f} MB) that dead jobs left in {FOLDER}")


def dead():
    """{name: bytes} of the segments that nobody holds.

    The order makes it safe.  A segment that is listed has been made, by a process that holds it as long as its job
    needs it; so that process is older than the list, and the look at all processes, which comes after, meets it.

    Raises:
        OSError: a process of this user cannot be looked into.
    """
    found = segments()
    if not found or unseen():
        return {}
    others = [pid for pid in os.listdir(PROCESSES) if pid.isdigit()]
    for pid in (str(os.getpid()), *others):  # this one first: mostly all are of its own job, and there is no more to do
        if not found:
            break
        text = holdings(pid)
        found = {name: size for name, size in found.items() if name not in text}
    return found


def segments():
    """{name: bytes of memory} of this user's segments."""
    found = {}
    for name in os.listdir(FOLDER):
        if name.startswith(NAMES):
            try:
                status = os.lstat(FOLDER / name)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                found[name] = 512 * status.st_blocks
    return found


def holdings(pid):
    """The names of all files that a process has open or mapped, as one text; "" if it has ended or is another user's.

    Open files first: a library opens a segment, maps it and may close it then; in this order it cannot be missed.
    """
    process = PROCESSES / pid
    try:
        # The kernel gives /proc/PID/fd of what has changed its user, as sshd has, to root; no rank does so.
        if not os.stat(process).st_uid == os.stat(process / "fd").st_uid == os.geteuid():
            return ""
        names = []
        for number in os.listdir(process / "fd"):
            try:
                names.append(os.readlink(process / "fd" / number))
            except FileNotFoundError:  # closed meanwhile
                pass
        return "\n".join([*names, (process / "maps").read_text(errors="surrogateescape")])
    except (FileNotFoundError, ProcessLookupError):
        return ""
    except PermissionError:
        if pid == "1":  # init is no rank, and may have rights that even its own user has not
            return ""
        raise


def unseen():
    """Whether processes that /proc does not show may hold segments: in a container that shares the host's memory."""
    inside = {kind: os.readlink(PROCESSES / "self" / "ns" / kind) for kind in HOST}
    return inside["pid"] != HOST["pid"] and inside["ipc"] == HOST["ipc"]


def remove(name):
    """Whether this call removed it."""
    try:
        os.unlink(FOLDER / name)
        return True
    except FileNotFoundError:  # its job was ending
        return False
