"""What carries a rank: a function that can suspend itself and be resumed.  The only file that knows greenlets.

A thread carrier has the same interface, for debuggers that do not follow greenlets: one thread runs at a time.
"""

import sys
import threading

from greenlet import GreenletExit, getcurrent, greenlet


class GreenletTask:
    """`resume(value)` runs the function until it calls `suspend()`, which returns that value, or until it ends."""

    def __init__(self, main):
        self._hub = getcurrent()
        self._greenlet = greenlet(lambda _: main(), self._hub)
        self.resume = self._greenlet.switch

    def suspend(self):
        value = self._hub.switch()
        if isinstance(value, Raise):
            raise value.error
        return value

    def kill(self):
        while self._greenlet:  # again if a finally block waits for something
            self._greenlet.throw(GreenletExit)

    @property
    def frame(self):
        return self._greenlet.gr_frame


class ThreadTask:
    """The same, on a thread."""

    def __init__(self, main):
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._value, self._error, self.done = None, None, False
        self._thread = threading.Thread(target=self._run, args=(main,), daemon=True)
        self._thread.start()

    def _run(self, main):
        try:
            self._turn.acquire()
            if not isinstance(self._value, GreenletExit):
                main()
        except GreenletExit:
            pass
        except BaseException as error:
            self._error = error
        self.done = True
        self._back.release()

    def resume(self, value=None):
        self._value = value
        self._turn.release()
        self._back.acquire()
        if self._error:
            raise self._error

    def suspend(self):
        self._back.release()
        self._turn.acquire()
        if isinstance(self._value, Raise):
            raise self._value.error
        if isinstance(self._value, GreenletExit):
            raise self._value
        return self._value

    def kill(self):
        while not self.done:
            self.resume(GreenletExit())
        self._thread.join()

    @property
    def frame(self):
        return sys._current_frames().get(self._thread.ident)


class Raise:
    """A value that `suspend` raises instead of returning."""

    def __init__(self, error):
        self.error = error


CARRIERS = {"greenlet": GreenletTask, "thread": ThreadTask}
