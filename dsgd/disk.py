"""The folder of a run while it is written to: a file that cannot be written ends no run, is tried again, and is told of."""

import shlex

from dsgd.checkpoint import newest
from dsgd.command import say


class Disk:
    """What rank 0 writes to.

    Args:
        folder: a Path; None for a run without files.  lock: on the folder, an open file, held until close(), or None.
    Attributes:
        unsaved: {name: why} of the files that could not be written, and have not been since.
    """

    def __init__(self, folder=None, lock=None):
        self.folder, self.unsaved = folder, {}
        self._lock = lock

    def attempt(self, name, write, step, last=False):
        """write() the file `name`; if that fails, say so once and go on.   last: nobody tries again, verdict() tells"""
        try:
            write()
        except OSError as error:
            told, self.unsaved[name] = name in self.unsaved, error.strerror or str(error)
            if not (told or last):
                say(
                    f"step {step}: {self.folder / name} could not be written ({self.unsaved[name]}); "
                    f"{whole(newest(self.folder))}; the run goes on, and it is tried again"
                )
        else:
            if self.unsaved.pop(name, None) and not last:
                say(f"step {step}: {self.folder / name} is written again")

    def verdict(self):
        """What is said of a run whose files could not all be written; None if they could."""
        if not self.unsaved:
            return None
        step, whys = newest(self.folder), ", ".join(dict.fromkeys(self.unsaved.values()))
        mend = (
            "start anew" if step is None else f"python -m dsgd.train --resume --output {shlex.quote(str(self.folder))}"
        )
        return f"{self.folder}: {', '.join(self.unsaved)} could not be written ({whys}); {whole(step)}; make room, then {mend}"

    def close(self):
        """Give the lock up."""
        if self._lock:
            self._lock.close()


def whole(step):
    return "there is no whole checkpoint" if step is None else f"the newest whole checkpoint is of step {step}"
