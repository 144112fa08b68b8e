"""The step size η_t as a function of the step t.  A schedule returns a Python float: a NumPy float64 would widen float32."""


def constant(*, lr):
    """η_t = η"""
    return lambda t: float(lr)
