"""Estimators for scikit-learn: `from dsgd.sklearn import DSGDClassifier, DSGDRegressor`."""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(f"dsgd.sklearn needs scikit-learn ({error}): pip install 'dsgd[sklearn]'") from None

from dsgd.sklearn.estimators import DSGDClassifier, DSGDRegressor

__all__ = ["DSGDClassifier", "DSGDRegressor"]
