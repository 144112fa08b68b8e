"""How a command ends: an exit code, and one line for what went wrong."""

import os
import sys


def say(text):
    """One line of message on stderr, written at once."""
    sys.stderr.write(f"dsgd: {text}\n")
    sys.stderr.flush()


def run_command(main, interrupted="interrupted"):
    """The exit code of main(arguments); an error that a user can meet is one line.   interrupted: what Ctrl-C means"""
    from dsgd.errors import DsgdError  # not before MPI, under a launcher: see mpi/launch.py

    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
        return code
    except DsgdError as error:
        say(str(error))
        return error.code
    except MemoryError as error:
        say(f"out of memory ({error}); a smaller network, data set or --simulate may fit")
        return 70
    except KeyboardInterrupt:
        say(interrupted)
        return 130
    except BrokenPipeError:  # whoever read the output has gone: that is no error, but there is nobody to print to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
