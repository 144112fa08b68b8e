"""The folder of a run while it is written to: a file that cannot be written ends no run, is tried again, and is told of."""

import errno
import shlex

from dsgd.checkpoint import newest
from dsgd.command import say

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what more room mends


class Disk:
    """What rank 0 writes to.

    Args:
        folder: a Path; None for a run without files.  lock: on the folder, an open file, held until close(), or None.
    Attributes:
        unsaved: {name: OSError} of the files that could not be written, and have not been since.
    """

    def __init__(self, folder=None, lock=None):
        self.folder, self.unsaved = folder, {}
        self._lock = lock

    def attempt(self, name, write, step, last=False):
        """write() the file `name`; if that fails, say so once and go on.   last: nobody tries again, verdict() tells"""
        try:
            write()
        except OSError as error:
            told, self.unsaved[name] = name in self.unsaved, error
            if not (told or last):
                say(
                    f"step {step}: {self.folder / name} could not be written ({reason(error)}); "
                    f"{whole(newest(self.folder))}; the run goes on, and it is tried again"
                )
        else:
            if self.unsaved.pop(name, None) and not last:
                say(f"step {step}: {self.folder / name} is written again")

    def verdict(self):
        """What is said of a run whose files could not all be written; None if they could."""
        if not self.unsaved:
            return None
        step, whys = newest(self.folder), ", ".join(dict.fromkeys(map(reason, self.unsaved.values())))
        mend = (
            "start anew" if step is None else f"python -m dsgd.train --resume --output {shlex.quote(str(self.folder))}"
        )
        first = "make room" if any(error.errno in FULL for error in self.unsaved.values()) else "mend that"
        return f"{self.folder}: {', '.join(self.unsaved)} could not be written ({whys}); {whole(step)}; {first}, then {mend}"

    def close(self):
        """Give the lock up."""
        if self._lock:
            self._lock.close()


def reason(error):
    return error.strerror or str(error)


def whole(step):
    return "there is no whole checkpoint" if step is None else f"the newest whole checkpoint is of step {step}"
