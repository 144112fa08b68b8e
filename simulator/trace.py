"""The trace as text, one line for each effect: what golden tests compare."""


def lines(trace):
    """`t=0.001012500 rank=2 send dest=3 tag=0 bytes=40`, in the order in which things happened."""
    return [f"t={time:.9f} rank={effect.rank} {effect}" for time, effect in trace]
