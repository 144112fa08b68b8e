"""Who does what, for the algorithms in which that is simple."""

from dsgd.comm import Roles


def everyone_works(size, objective, **options):
    """Every rank is a worker, rank r worker number r; all hold the same x, and rank 0's counts."""
    return Roles(workers=tuple(range(size)), owners=((0, 0, objective.layout.size),))


def centralised(size, objective, **options):
    """One rank does it all."""
    if size != 1:
        raise ValueError(f"sgd is centralised training, on 1 rank and not {size}; data-parallel is the same on many")
    return everyone_works(size, objective)
