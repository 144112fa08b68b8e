"""The scikit-learn face: its own checks, MLPClassifier as the oracle, and the bits of `dsgd.train`."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from dsgd.sklearn import DSGDClassifier, DSGDRegressor

FEW = dict(hidden_layer_sizes=(8,), max_iter=15, learning_rate_init=0.1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([DSGDClassifier(**FEW), DSGDRegressor(**FEW)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
