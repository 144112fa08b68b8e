"""The captured step: what a card computes in one step is noted once, as a CUDA graph, and launched as one from then on.

    first time with these arrays:   work()                      it runs, kernel by kernel
    second:                         graph ← capture(work)       it is noted
    from then on:                   launch(graph)               all of it, by one call

A graph holds addresses, so its key is where the arrays lie, and it keeps them alive: those that `work` is bound to, and the
scratch memory and zeros of arrays.py, which others replace when they need more.  CuPy refuses its own matrix products
during a capture (cupy/cupy#6290); within `work` those of products.py stand in for them.  What else `work` allocates comes
from a pool that nobody else uses, and that the first run has filled: no other array can come to lie there.
"""

from contextlib import contextmanager, suppress

from dsgd.arrays import held, namespace, substituted, to_host
from dsgd.command import say
from dsgd.products import EXACT, Products, load

GRAPHS = 256  # kept at most: if many workers have parts of many sizes on one card, the rest runs kernel by kernel


class Replay:
    """replay(key, work): the result of work(), which computes with arrays in fixed places, told apart by the key.

    Args:
        card: see Card.
    """

    def __init__(self, card):
        self.card, self._seen, self._graphs = card, set(), {}

    def __call__(self, key, work):
        if key not in self._graphs:
            with self.card.running():
                if key not in self._seen or len(self._graphs) == GRAPHS or self.card.failed:
                    self._seen.add(key)
                    return work()
                try:
                    self._graphs[key] = (*self.card.capture(work), (work, held()))
                except MemoryError:
                    raise
                except Exception as error:  # a kernel that must not be captured: CuPy, CUDA and cuBLAS have their own
                    self.card.failed = True
                    say(f"the step cannot be captured on this card ({error}): it runs kernel by kernel")
                    return work()
        launch, result, _ = self._graphs[key]
        launch()
        return result


class Card:
    """CuPy's stream, memory and products for captured work.   xp: cupy.  types: of products.py"""

    def __init__(self, xp, types=EXACT):
        # Not one of those that do not wait: what others put on the null stream comes before and after, in order.
        self.xp, self.stream, self.pool = xp, xp.cuda.Stream(), xp.cuda.MemoryPool()
        self.products = Products(xp, load(xp), self.stream, types)
        self.failed = False

    @contextmanager
    def running(self):
        """Within, CuPy's work goes where a capture finds it."""
        with self.stream, self.xp.cuda.using_allocator(self.pool.malloc), substituted(self.xp, self.products):
            yield

    def capture(self, work):
        """(function that launches what work() would do, its result: an array that each launch fills)."""
        self.stream.begin_capture()
        try:
            result = work()
        except BaseException:
            with suppress(Exception):  # that it was cut short
                self.stream.end_capture()
            raise
        graph = self.stream.end_capture()
        return lambda: graph.launch(self.stream), result


def probe(xp, make_card=Card):
    """A Replay that was seen to replay; None where a device has no graphs, or where it failed, which is said."""
    if not hasattr(xp, "cuda"):
        return None
    try:
        replay = Replay(make_card(xp))
        x, W, z = (xp.ones((2, 2), dtype="float32") for _ in range(3))

        def work():
            namespace(x).matmul(x, W, out=z)
            return xp.sum(xp.maximum(z, 0))

        for factor in (1, 2, 3):  # runs, is captured, is launched again
            x[:] = factor
            if float(to_host(replay("probe", work))) != 8 * factor:
                raise RuntimeError("a replayed product is wrong")
    except MemoryError:
        raise
    except Exception as error:
        say(f"no step can be captured on this card ({error}): all runs kernel by kernel")
        return None
    return None if replay.card.failed else replay
