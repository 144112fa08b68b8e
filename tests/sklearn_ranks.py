"""Fits of test_sklearn.py.   mpirun -n 2 python -m mpi4py tests/sklearn_ranks.py: rank 0 prints what each has."""

import json
import warnings

from dsgd.checkpoint import digest
from dsgd.data import load
from dsgd.sklearn import DSGDClassifier, DSGDRegressor

DATA = load("digits", seed=0, dtype="float64")
X, Y = DATA.inputs(DATA.X[:300]), DATA.y[:300]
CASES = [{}, {"solver": "sgd", "early_stopping": True}, {"algorithm": "sharded-update"}, {"loss": "poisson"}]


def fit(case, **keywords):
    """[what a rank has when it has fitted a case, and made an epoch more where it may]"""
    kind = DSGDRegressor if "loss" in case else DSGDClassifier
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = kind(hidden_layer_sizes=(9,), random_state=1, max_iter=3, tol=0, **case, **keywords).fit(X, Y)
        if "early_stopping" not in case:
            estimator.partial_fit(X, Y)
    return [*map(digest, estimator.coefs_ + estimator.intercepts_), *estimator.loss_curve_, estimator.t_]


def main():
    from mpi4py import MPI

    rank = MPI.COMM_WORLD.rank
    found = [fit(case, backend="mpi") for case in CASES]
    try:
        DSGDClassifier(backend="mpi", random_state=1).fit(X, Y if rank == 0 else Y[::-1])
    except ValueError as error:
        refused = str(error)
    ranks = MPI.COMM_WORLD.gather([found, refused])
    if rank == 0:
        print(json.dumps(ranks))


if __name__ == "__main__":
    main()
