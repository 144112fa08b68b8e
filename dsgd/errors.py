"""The errors a user can meet.  Each says what, where and which command mends it; `code` is the exit code.

`agreed` marks an error that every rank raises at the same point: rank 0 prints it, once, for all of them.
"""

import linecache


def user_line(frame, backend):
    """file:line of the first frame outside these modules, which no user wrote.   backend: tuple of name prefixes"""
    while frame and frame.f_globals.get("__name__", "").startswith(backend):
        frame = frame.f_back
    if frame is None:
        return "?"
    file, number = frame.f_code.co_filename, frame.f_lineno
    return f"{file}:{number}: {linecache.getline(file, number).strip()}"


class DsgdError(Exception):
    code = 70
    agreed = False

    @classmethod
    def from_text(cls, text):
        """The error of this class whose message another rank has put together."""
        error = cls.__new__(cls)
        error.args = (text,)
        return error


class InputError(DsgdError):
    """What was given cannot be used.  The message is one line, whatever it quotes."""

    def __str__(self):
        return " ".join(super().__str__().splitlines())


class UsageError(InputError):
    """A flag, a value or a combination of them that cannot be meant."""

    code = 2


class DataError(InputError):
    """A data set that is missing, damaged or unfit."""

    code = 65

    def __init__(self, path, reason, hint=""):
        super().__init__(f"{path}: {reason}" + (f"; {hint}" if hint else ""))


class CheckpointError(InputError):
    """A checkpoint that is missing, damaged or belongs to another run."""

    code = 65


class DiskError(InputError):
    """A file that could not be written."""

    code = 74


class OutOfDeviceMemory(InputError):
    """A card has no room for what a run needs."""

    code = 70


class ControllerError(InputError):
    """A controller that raised an error, or wants what cannot be."""

    code = 70

    def __init__(self, name, step, reason):
        kind = "" if type(reason) is ValueError else f"{type(reason).__name__}: "
        super().__init__(f"controller {name}, step {step}: {kind}{reason}")


class NonFiniteGradient(DsgdError):
    """A NaN or an infinity in a gradient: x is not to be trusted from here on."""


class ReplicasDiffer(DsgdError):
    """Workers that should hold the same parameters do not."""


class CollectiveMismatch(DsgdError):
    """Two ranks called different collectives, or the same with different roots, lengths or dtypes."""


class WireError(DsgdError):
    """Bytes that came as a message and are none."""


class PeerError(DsgdError):
    """A rank that did not answer in time."""

    code = 75
