"""How a command ends: an exit code, and one line for what went wrong."""

import os
import sys


def say(text):
    """One line of message on stderr, written at once."""
    sys.stderr.write(f"dsgd: {text}\n")
    sys.stderr.flush()


def steady_streams():
    """Give print() somewhere to print to: a stream may be closed (`>&-`), or know ASCII only."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def nobody_listens():
    """Whoever read the output has gone, or its disk is full: what is still to be written goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_command(main, interrupted="interrupted"):
    """The exit code of main(arguments); an error that a user can meet is one line.   interrupted: what Ctrl-C means

    main is the work of one process: under a launcher rank 0 does it, and the others are done.
    """
    from dsgd.errors import DsgdError  # not before MPI, under a launcher: see mpi/launch.py
    from dsgd.mpi.launch import launched

    if launched()[1]:
        return 0
    steady_streams()
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
        return code
    except DsgdError as error:
        say(str(error))
        return error.code
    except MemoryError as error:
        say(
            f"out of memory ({str(error) or 'no array in particular'}); a smaller network, data set or --simulate may fit"
        )
        return 70
    except KeyboardInterrupt:
        say(interrupted)
        return 130
    except BrokenPipeError:  # no error, but there is nobody to print to
        nobody_listens()
        return 141
    except OSError as error:
        nobody_listens()
        say(f"{error.filename or 'the output'}: {error.strerror or error}")
        return 74
