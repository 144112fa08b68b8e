"""Captured steps and their products, without a card: when what is captured, and what cuBLAS would be told."""

import ctypes
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dsgd import graph, products
from dsgd.arrays import namespace, substituted
from dsgd.graph import Card, Replay, probe
from dsgd.products import BF16, EXACT, TF32, Products

# --- what is captured when


class Recorder:
    """A card that writes down what it is asked.   fails: the error of its next captures"""

    def __init__(self, fails=None):
        self.failed, self.log, self.fails = False, [], fails

    def running(self):
        return nullcontext()

    def capture(self, work):
        self.log.append("capture")
        if self.fails:
            raise self.fails
        return (lambda: self.log.append("launch")), work()


def test_work_runs_then_is_captured_then_is_launched():
    card, result = Recorder(), [0.5]

    def work():
        card.log.append("work")
        return result

    replay = Replay(card)
    assert all(replay("key", work) is result for _ in range(4))
    assert card.log == ["work", "capture", "work", "launch", "launch", "launch"]
    replay("other", work)
    assert card.log[-1] == "work"


def test_no_more_than_so_many_graphs_are_kept(monkeypatch):
    monkeypatch.setattr(graph, "GRAPHS", 1)
    card = Recorder()
    replay = Replay(card)
    for _ in range(3):
        replay("first", int)
        replay("second", int)
    assert card.log == ["capture", "launch", "launch"]


def test_a_step_that_cannot_be_captured_runs_and_one_line_says_so(capsys):
    card, ran = Recorder(RuntimeError("operation not permitted")), []
    replay = Replay(card)
    for _ in range(4):
        replay("key", lambda: ran.append(1))
        replay("other", lambda: ran.append(1))
    assert len(ran) == 8 and card.log == ["capture"]
    said = "dsgd: the step cannot be captured on this card (operation not permitted): it runs kernel by kernel\n"
    assert capsys.readouterr().err == said


def test_memory_that_runs_out_in_a_capture_is_no_reason_to_go_on():
    replay = Replay(Recorder(MemoryError("512 bytes")))
    replay("key", int)
    with pytest.raises(MemoryError):
        replay("key", int)


# --- the probe


def with_cuda(**more):
    """NumPy as if it had cards."""
    names = ("ones", "matmul", "maximum", "sum")
    return SimpleNamespace(cuda=SimpleNamespace(**more), **{name: getattr(np, name) for name in names})


class Replaying(Recorder):
    """A card whose launches do what they should."""

    def capture(self, work):
        result = np.array(work())
        return (lambda: result.__setitem__((), work())), result


def test_the_probe_replays_a_product_or_says_why_not(capsys):
    assert isinstance(probe(with_cuda(), lambda xp: Replaying()), Replay)
    assert capsys.readouterr().err == ""
    assert probe(np) is None  # no device has no graphs
    assert capsys.readouterr().err == ""
    for card, why in (
        (Recorder(), "a replayed product is wrong"),  # launches nothing
        (Recorder(RuntimeError("no")), "the step cannot be captured on this card (no)"),
    ):
        assert probe(with_cuda(), lambda xp: card) is None
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and why in err and "kernel by kernel" in err


def test_a_card_without_graphs_is_told_once(capsys):
    def missing(xp):
        raise AttributeError("module 'cupy.cuda' has no attribute 'Stream'")

    assert probe(with_cuda(), missing) is None
    said = capsys.readouterr().err
    assert said.startswith("dsgd: no step can be captured on this card (module 'cupy.cuda'") and said.count("\n") == 1


# --- the card: in which order CuPy is asked


def fake_cupy(log):
    class Stream:
        ptr = 7

        def __enter__(self):
            log.append("stream")

        def __exit__(self, *error):
            log.append("no stream")

        def begin_capture(self):
            log.append("begin")

        def end_capture(self):
            log.append("end")
            return SimpleNamespace(launch=lambda stream: log.append(("launch", stream)))

    @contextmanager
    def using_allocator(allocator):
        log.append(allocator)
        yield

    pool = SimpleNamespace(malloc="pool")
    made = {"Stream": Stream, "MemoryPool": lambda: pool, "using_allocator": using_allocator}
    return type("cupy", (), {"cuda": SimpleNamespace(**made)})


@pytest.fixture
def faked(monkeypatch):
    log = []
    monkeypatch.setattr(graph, "load", lambda xp: "library")
    monkeypatch.setattr(graph, "Products", lambda xp, library, stream, types: "products")
    return Card(fake_cupy(log)), log


def test_a_capture_has_its_stream_its_pool_and_its_products(faked):
    card, log = faked
    array = SimpleNamespace(__array_namespace__=lambda: card.xp)
    assert namespace(array) is card.xp
    with card.running():
        launch, result = card.capture(lambda: namespace(array))
    launch()
    assert result == "products" and namespace(array) is card.xp
    assert log == ["stream", "pool", "begin", "end", "no stream", ("launch", card.stream)]


def test_a_capture_that_fails_is_ended_all_the_same(faked):
    card, log = faked
    with pytest.raises(ZeroDivisionError):
        card.capture(lambda: 1 / 0)
    assert log == ["begin", "end"]


def test_products_are_put_back_when_the_work_fails():
    with pytest.raises(ValueError), substituted(np, "products"):
        raise ValueError
    assert namespace(np.float32(1)) is np


# --- what cuBLAS is told


class OnCard(np.ndarray):
    """An array whose memory is known by its address, as CuPy's is."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


def on_card(array, order):
    """A copy of a 2-d array, by rows (C) or by columns (F)."""
    return np.array(array, order=order).view(OnCard)


class CuBLAS:
    """The library, by NumPy: it reads memory column by column, as the reference manual says."""

    def __init__(self):
        self.asked = []
        self.cublasGemmEx = self._gemm()  # a function, which can be given argtypes

    def cublasCreate_v2(self, handle):
        self.asked.append("create")
        return 0

    def cublasSetStream_v2(self, handle, stream):
        self.asked.append(("stream", stream.value))
        return 0

    def cublasSetWorkspace_v2(self, handle, memory, size):
        self.asked.append(("workspace", size.value))
        return 0

    def _gemm(self):
        def gemm(handle, flag_a, flag_b, m, n, k, one, *rest):
            a, kind_a, ld_a, b, kind_b, ld_b, zero, c, kind_c, ld_c, compute, algorithm = rest
            assert kind_a == kind_b == kind_c and algorithm == -1
            scalar = {0: ctypes.c_float, 1: ctypes.c_double}[kind_c]
            assert [type(value._obj) for value in (one, zero)] == [scalar] * 2 and (
                one._obj.value,
                zero._obj.value,
            ) == (1, 0)
            self.asked.append((m, n, k, compute))

            def matrix(memory, rows, columns, leading):
                assert leading >= max(rows, 1)
                flat = np.ctypeslib.as_array((scalar * (leading * (columns - 1) + rows)).from_address(memory))
                return np.lib.stride_tricks.as_strided(flat, (rows, columns), (flat.itemsize, leading * flat.itemsize))

            A = matrix(a, *((k, m) if flag_a else (m, k)), ld_a)
            B = matrix(b, *((n, k) if flag_b else (k, n)), ld_b)
            matrix(c, m, n, ld_c)[:] = (A.T if flag_a else A) @ (B.T if flag_b else B)
            return 0

        return gemm


def make(types=EXACT):
    library = CuBLAS()
    xp = SimpleNamespace(empty=lambda n, dtype: np.empty(16, dtype).view(OnCard), exp="exp")
    return Products(xp, library, SimpleNamespace(ptr=7), types), library


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("orders", ["CCC", "FCC", "CFC", "FFC", "CCF", "FCF", "CFF", "FFF"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (1, 4, 1), (3, 1, 1)])
def test_a_product_of_any_layout_is_the_product(dtype, orders, shape):
    M, K, N = shape
    generator = np.random.default_rng(0)
    a, b = generator.integers(-9, 9, (M, K)).astype(dtype), generator.integers(-9, 9, (K, N)).astype(dtype)
    multiply, library = make()
    A, B, C = on_card(a, orders[0]), on_card(b, orders[1]), on_card(np.full((M, N), np.nan, dtype), orders[2])
    assert multiply.matmul(A, B, out=C) is C
    np.testing.assert_array_equal(np.asarray(C), a @ b)  # whole numbers: exact in any order


def test_transposed_views_and_a_vector_as_the_backward_pass_has_them():
    multiply, library = make()
    x, d = on_card(np.arange(12.0).reshape(4, 3), "C"), on_card(np.arange(8.0).reshape(4, 2), "C")
    ones, db, dW = (np.ones(shape).view(OnCard) for shape in (4, 2, (3, 2)))
    multiply.matmul(x.T, d, out=dW)
    multiply.matmul(ones, d, out=db)
    np.testing.assert_array_equal(dW, np.asarray(x).T @ np.asarray(d))
    np.testing.assert_array_equal(db, np.asarray(d).sum(axis=0))
    multiply.matmul(x[1:3], np.eye(3).view(OnCard), out=x[:2])  # rows of a larger matrix
    np.testing.assert_array_equal(x[:2], [[3, 4, 5], [6, 7, 8]])


def test_the_stream_is_set_before_the_workspace_which_it_would_take_away():
    multiply, library = make()
    assert library.asked == ["create", ("stream", 7), ("workspace", 32 << 20)]
    assert multiply.exp == "exp"  # the rest is CuPy's


@pytest.mark.parametrize("types, compute", [(EXACT, 69), (TF32, 77), (BF16, 75)])
def test_how_exact_a_product_is_is_said_in_the_call(types, compute):
    multiply, library = make(types)
    multiply.matmul(
        *(on_card(np.ones((2, 2), "float32"), "C") for _ in range(2)), out=on_card(np.ones((2, 2), "float32"), "C")
    )
    assert library.asked[-1] == (2, 2, 2, compute)


def test_what_fails_says_which_call():
    multiply, library = make()
    library.cublasGemmEx = lambda *arguments: 13
    square = on_card(np.ones((2, 2)), "C")
    with pytest.raises(RuntimeError, match="cublasGemmEx failed with status 13"):
        multiply.matmul(square, square, out=square)
    with pytest.raises(ValueError, match="lies neither by rows nor by columns"):
        multiply.matmul(on_card(np.ones((4, 4)), "C")[::2, ::2], square, out=square)


def test_the_installed_library_has_these_functions_and_refuses_to_start_without_a_driver():
    nvidia = pytest.importorskip("nvidia.cublas")
    folder = Path(next(iter(nvidia.__path__))) / "lib"
    ctypes.CDLL(str(next(folder.glob("libcublasLt.so.*"))), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(next(path for path in folder.glob("libcublas.so.*"))))
    assert library.cublasGemmEx and library.cublasSetWorkspace_v2
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        xp = SimpleNamespace(empty=lambda n, dtype: np.empty(n, dtype).view(OnCard))
        with pytest.raises(RuntimeError, match="cublasCreate_v2 failed with status"):
            Products(xp, library, SimpleNamespace(ptr=0))
        assert library.cublasGemmEx.argtypes == products.GEMM
    else:
        pytest.skip("there is a driver")
