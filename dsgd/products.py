"""Matrix products by cuBLAS on a handle of ours, for captured steps: see graph.py.

cuBLAS stores matrices column by column.  A row-major C (M, N) is its Cᵀ (N, M), so that

    C = A B    is    Cᵀ = Bᵀ Aᵀ

and a factor that lies in memory as its own transpose, such as xᵀ or Wᵀ in the backward pass, is told by a flag: nothing is
copied.  A product is exact to the rounding of its dtype (pedantic): no TF32, unless the table says so.
"""

import ctypes

WORKSPACE = 32 << 20  # bytes: what cuBLAS recommends for a Hopper card; others need less
SUCCESS, NORMAL, TRANSPOSED, DEFAULT_ALGORITHM = 0, 0, 1, -1
# dtype of the arrays: (cudaDataType, cublasComputeType_t, type of α and β)
EXACT = {"float32": (0, 69, ctypes.c_float), "float64": (1, 71, ctypes.c_double)}
TF32 = {"float32": (0, 77, ctypes.c_float)}  # factors rounded to 10 bits
BF16 = {"float32": (0, 75, ctypes.c_float)}  # factors rounded to 7 bits
INT, POINTER = ctypes.c_int, ctypes.c_void_p
OPERAND = [POINTER, INT, INT]  # memory, cudaDataType, leading dimension
GEMM = [POINTER, INT, INT, INT, INT, INT, POINTER, *OPERAND, *OPERAND, POINTER, *OPERAND, INT, INT]


def load(xp):
    """cuBLAS, the very library that CuPy uses.   xp: cupy"""
    xp.matmul(xp.ones((2, 2)), xp.ones((2, 2)))  # loads it
    return ctypes.CDLL(f"libcublas.so.{xp.cuda.runtime.runtimeGetVersion() // 1000}")


class Products:
    """What xp has, but for `matmul`.

    Args:
        xp: cupy.  library: of `load`.  stream: cupy.cuda.Stream that the products run on.  types: EXACT, TF32 or BF16.
    """

    def __init__(self, xp, library, stream, types=EXACT):
        self._xp, self._library, self._types = xp, library, types
        library.cublasGemmEx.argtypes = GEMM
        self._handle = POINTER()
        self._workspace = xp.empty(WORKSPACE, dtype="uint8")
        self._call("cublasCreate_v2", ctypes.byref(self._handle))
        self._call("cublasSetStream_v2", self._handle, POINTER(stream.ptr))  # first: it takes a workspace away
        workspace = POINTER(self._workspace.data.ptr), ctypes.c_size_t(WORKSPACE)
        self._call("cublasSetWorkspace_v2", self._handle, *workspace)

    def __getattr__(self, name):
        return getattr(self._xp, name)

    def matmul(self, a, b, out):
        """out ← a b.   a (M, K) or (K,), b (K, N), out (M, N) or (N,), each in either order; returns out."""
        A, C = (x.reshape(1, -1) if x.ndim == 1 else x for x in (a, out))
        if C.strides[1] != C.itemsize:
            A, b, C = b.T, A.T, C.T
        kind, compute, scalar = self._types[str(C.dtype)]
        (flag_a, ld_a), (flag_b, ld_b), (_, ld_c) = map(_lies, (A, b, C))
        one, zero = scalar(1), scalar(0)
        self._call(
            "cublasGemmEx",
            *(self._handle, flag_b, flag_a, C.shape[1], C.shape[0], A.shape[1]),
            *(ctypes.byref(one), b.data.ptr, kind, ld_b, A.data.ptr, kind, ld_a),
            *(ctypes.byref(zero), C.data.ptr, kind, ld_c, compute, DEFAULT_ALGORITHM),
        )
        return out

    def _call(self, name, *arguments):
        status = getattr(self._library, name)(*arguments)
        if status != SUCCESS:
            raise RuntimeError(f"{name} failed with status {status}")


def _lies(x):
    """(flag, leading dimension) by which cuBLAS reads the rows of x as its columns."""
    rows, columns = x.shape
    down, along = (stride // x.itemsize for stride in x.strides)
    if along == 1:
        return NORMAL, max(down, columns)
    if down == 1:
        return TRANSPOSED, along
    raise ValueError(f"a matrix of shape {x.shape} and strides {x.strides} lies neither by rows nor by columns")
