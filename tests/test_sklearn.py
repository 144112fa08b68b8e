"""The scikit-learn face: its own checks, MLPClassifier as the oracle, the bits of `dsgd.train`, MPI, and interruptions."""

import copy
import inspect
import json
import pickle
import statistics

import numpy as np
import pytest
import scipy.sparse
from launching import ROOT, mpirun, python
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn_ranks import CASES, fit

from dsgd import run
from dsgd.arguments import read_arguments
from dsgd.data import load
from dsgd.sklearn import DSGDClassifier, DSGDRegressor
from dsgd.sklearn.objective import Samples
from dsgd.versions import blas

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
DIGITS = load("digits", seed=0, dtype="float64")
X, Y = DIGITS.inputs(DIGITS.X[:470]), DIGITS.y[:470]  # batches of 200, 200 and 70
FEW = dict(hidden_layer_sizes=(8,), max_iter=15, learning_rate_init=0.1)
SMALL = dict(hidden_layer_sizes=(12, 7), random_state=3, max_iter=4, tol=0)


def parameters(estimator):
    """x (n,), in the order of the layout."""
    layers = zip(estimator.coefs_, estimator.intercepts_)
    return np.concatenate([array.ravel() for layer in layers for array in layer])


@pytest.mark.fault(
    "D4",
    "labels and features of a wrong kind or shape",
    "the estimators say what scikit-learn's say: its own checks pass",
)
@parametrize_with_checks([DSGDClassifier(**FEW), DSGDRegressor(**FEW)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("ours, theirs", [(DSGDClassifier, MLPClassifier), (DSGDRegressor, MLPRegressor)])
def test_the_keywords_are_scikit_learns_and_three_more(ours, theirs):
    defaults = {name: p.default for name, p in inspect.signature(ours).parameters.items()}
    more = {"n_workers": 1, "algorithm": None, "backend": "simulator"}
    assert defaults == {name: p.default for name, p in inspect.signature(theirs).parameters.items()} | more


# --- beside scikit-learn's trainer: the same start, the same batches


def from_our_start(cls, ours):
    """A subclass of scikit-learn's estimator that starts where ours does."""
    layers = iter(zip(ours.coefs_, ours.intercepts_))

    class Same(cls):
        def _init_coef(self, fan_in, fan_out, dtype):
            return next(layers)

    return Same


SCHEDULED = dict(solver="sgd", learning_rate_init=0.1, tol=0.2, n_iter_no_change=1, max_iter=12)
NUMBERS = Y.astype(float)
ALIKE = [
    (MLPClassifier, Y, dict(activation="identity", alpha=0.5)),
    (MLPClassifier, Y, dict(activation="logistic", alpha=0.5)),
    (MLPClassifier, Y, dict(activation="tanh", beta_1=0.8, beta_2=0.99)),
    (MLPClassifier, Y, SCHEDULED),
    (MLPClassifier, Y, SCHEDULED | dict(learning_rate="invscaling", power_t=0.3)),
    (MLPClassifier, Y, SCHEDULED | dict(learning_rate="adaptive")),
    (MLPClassifier, Y, SCHEDULED | dict(learning_rate="invscaling", warm_start=True, max_iter=3)),
    (MLPClassifier, Y, dict(warm_start=True)),
    (MLPClassifier, Y, dict(solver="sgd", nesterovs_momentum=False, batch_size=64)),
    (MLPClassifier, Y, dict(solver="sgd", momentum=0, hidden_layer_sizes=())),
    (MLPClassifier, Y > 4, dict(early_stopping=True, n_iter_no_change=2, max_iter=9, alpha=0.1)),
    (MLPClassifier, np.eye(10, dtype=int)[Y], dict(alpha=0.1, n_workers=3)),
    (MLPRegressor, NUMBERS, dict(early_stopping=True, max_iter=6)),
    (MLPRegressor, np.c_[NUMBERS, NUMBERS**2 / 10], dict(alpha=1, n_workers=2)),
    (MLPRegressor, NUMBERS, dict(loss="poisson", alpha=0.3)),
]


@pytest.mark.parametrize("cls, y, keywords", ALIKE)
def test_from_the_same_start_on_the_same_batches_it_is_scikit_learns_fit(cls, y, keywords):
    """Coefficients, losses, scores, and when it ends; epsilon aside, which stands elsewhere in Adam's denominator."""
    keywords = SMALL | dict(shuffle=False, epsilon=1e-40) | keywords
    face = DSGDClassifier if cls is MLPClassifier else DSGDRegressor
    ours = face(**keywords).fit(X, y)
    start = keywords | dict(solver="sgd", learning_rate_init=1e-300, max_iter=1, early_stopping=False)
    keywords.pop("n_workers", None)
    theirs = from_our_start(cls, face(**start).fit(X, y))(**keywords).fit(X, y)
    if keywords.get("warm_start"):
        ours.fit(X, y), theirs.fit(X, y)
    np.testing.assert_allclose(parameters(ours), parameters(theirs), rtol=0, atol=1e-11)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-11)
    for name in ("n_iter_", "t_", "n_layers_", "out_activation_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("validation_scores_", "best_validation_score_", "best_loss_"):
        assert getattr(ours, name) == (getattr(theirs, name) and pytest.approx(getattr(theirs, name), rel=1e-11)), name


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.csc_matrix])
def test_sparse_features_give_the_bits_of_dense_ones(kind):
    dense, sparse = (DSGDClassifier(**SMALL, n_workers=2).fit(data, Y) for data in (X, kind(X)))
    assert (parameters(dense) == parameters(sparse)).all()


def test_on_digits_it_is_as_good_as_scikit_learns():
    """The cheap part of `python -m benchmarks sklearn_face`: three seeds."""
    keywords = dict(hidden_layer_sizes=(32,), learning_rate_init=0.01, max_iter=25, tol=0)

    def score(cls, seed):
        estimator = cls(**keywords, random_state=seed).fit(DIGITS.inputs(DIGITS.X), DIGITS.y)
        return estimator.score(DIGITS.inputs(DIGITS.X_test), DIGITS.y_test)

    ours, theirs = (statistics.mean(score(cls, seed) for seed in range(3)) for cls in (DSGDClassifier, MLPClassifier))
    assert theirs > 0.95 and abs(ours - theirs) <= 0.005


# --- beside dsgd.train


@pytest.mark.parametrize(
    "workers, algorithm, flags",
    [
        (1, None, ""),
        (4, None, ""),
        (4, "sharded-update", ""),
        (3, "dsgd", ""),
        (4, "parameter-server:consistency=asp", "--checkpoint-every 8"),
        (3, "easgd", "--checkpoint-every 8"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_n_workers_give_the_bits_of_the_command_line(workers, algorithm, flags, dtype):
    """Asynchronous workers come to rest after each epoch, of 8 steps here."""
    data = load("digits", seed=5, dtype=dtype)
    words = f"--simulate {workers if workers > 1 else 0} --algorithm {algorithm or ''} --dtype {dtype} --seed 5 --epochs 3 --batch-size 200"
    words += f" --hidden 12,7 --init glorot --optimizer sgd:momentum=0.9,nesterov=true --lr 0.05 {flags}"
    config, _ = read_arguments(words.replace("--algorithm  ", "").replace("--simulate 0 ", "").split())
    estimator = DSGDClassifier(
        (12, 7), solver="sgd", learning_rate_init=0.05, alpha=0, random_state=5, max_iter=3, tol=0,
        n_workers=workers, algorithm=algorithm,
    ).fit(data.inputs(data.X), data.y)  # fmt: skip
    assert (parameters(estimator) == run(config).params).all()


def test_any_number_of_workers_agrees_to_rounding():
    one, four = (parameters(DSGDClassifier(**SMALL, n_workers=n).fit(X, Y)) for n in (1, 4))
    assert (one != four).any()
    np.testing.assert_allclose(one, four, rtol=0, atol=1e-8)


# --- epoch by epoch


def test_epochs_one_by_one_are_a_fit_of_as_many():
    keywords = SMALL | dict(solver="sgd", learning_rate="invscaling")
    whole = DSGDClassifier(**keywords, n_workers=2).fit(X, Y)
    parts = DSGDClassifier(**keywords, n_workers=2).partial_fit(X, Y, classes=np.arange(10))
    for keep in (copy.deepcopy, lambda estimator: pickle.loads(pickle.dumps(estimator)), lambda estimator: estimator):
        parts = keep(parts).partial_fit(X, Y)
    assert (parameters(parts) == parameters(whole)).all() and parts.loss_curve_ == whole.loss_curve_
    assert parts.t_ == whole.t_ == 4 * len(X) and parts.n_iter_ == 1


def test_a_warm_start_goes_on_from_coefs_with_a_new_optimizer():
    keywords = SMALL | dict(solver="sgd", momentum=0)
    whole = DSGDClassifier(**keywords).fit(X, Y)
    parts = DSGDClassifier(**keywords | dict(warm_start=True, max_iter=2)).fit(X, Y).fit(X, Y)
    assert (parameters(parts) == parameters(whole)).all()
    parts.intercepts_[0][:] = 100
    assert abs(parts.fit(X, Y).intercepts_[0] - 100).max() < 1


@pytest.mark.parametrize(
    "algorithm, apart", [(None, 1e-9), ("easgd", 1e-9), ("parameter-server:consistency=backup,b=1", 0.1)]
)
def test_the_next_data_may_be_of_another_size(algorithm, apart):
    """With steps of no length, the loss of an epoch is that of its samples; late pushes leave some out."""
    keywords = SMALL | dict(solver="sgd", learning_rate_init=1e-12, alpha=0, n_workers=4, algorithm=algorithm)
    estimator = DSGDClassifier(**keywords)
    for n in (470, 300, 90, 470, 120):
        estimator.partial_fit(X[:n], Y[:n], classes=np.arange(10))
        expected = log_loss(Y[:n], estimator.predict_proba(X[:n]), labels=range(10))
        assert estimator.loss_ == pytest.approx(expected, rel=apart)
    assert estimator.t_ == 1450 and len(estimator.loss_curve_) == 5


@pytest.mark.parametrize(
    "changed", [dict(solver="sgd"), dict(algorithm="easgd"), dict(n_workers=4), dict(batch_size=50)]
)
def test_keywords_may_change_between_two_epochs(changed):
    estimator = DSGDClassifier(**SMALL, n_workers=3, algorithm="parameter-server").fit(X, Y)
    before = estimator.loss_
    assert estimator.set_params(**changed).partial_fit(X, Y).loss_ < 1.1 * before


@pytest.mark.fault(
    "U4",
    "a fit in a notebook is interrupted",
    "the estimator has the attributes of the last whole epoch, and can go on",
)
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_fit_leaves_the_last_whole_epoch(workers, monkeypatch):
    compute, calls = Samples.gradient, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 8 * workers:  # in the middle of the third epoch
            raise KeyboardInterrupt
        return compute(*arguments)

    keywords = SMALL | dict(n_workers=workers)
    whole = DSGDClassifier(**keywords | dict(max_iter=2)).fit(X, Y)
    monkeypatch.setattr(Samples, "gradient", interrupted)
    estimator = DSGDClassifier(**keywords)
    with pytest.warns(UserWarning, match="^Training interrupted by user.$"):
        estimator.fit(X, Y)
    assert (parameters(estimator) == parameters(whole)).all()
    assert (estimator.n_iter_, estimator.t_, estimator.loss_curve_) == (2, 940, whole.loss_curve_)
    assert (parameters(estimator.partial_fit(X, Y)) == parameters(whole.partial_fit(X, Y))).all()


# --- in scikit-learn's tools


def test_a_grid_search_over_a_pipeline_in_two_processes():
    pipeline = make_pipeline(StandardScaler(), DSGDClassifier(**SMALL))
    grid = {"dsgdclassifier__n_workers": np.arange(2, 4), "dsgdclassifier__algorithm": ["data-parallel", "easgd"]}
    search = GridSearchCV(clone(pipeline), grid, cv=2, n_jobs=2, error_score="raise")
    search.fit(X, Y)
    assert search.score(X, Y) == search.best_estimator_.score(X, Y) > 0.2


def test_a_run_that_is_cut_short_says_so_and_tells_its_losses(capsys):
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(4\) reached"):
        estimator = DSGDClassifier(**SMALL, verbose=True).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Iteration {i}, loss = {loss:.8f}" for i, loss in enumerate(estimator.loss_curve_, 1)]


REFUSED = [
    (dict(solver="lbfgs"), "solver='lbfgs' needs all data"),
    (dict(algorithm="data-paralel"), "data-parallel"),
    (dict(n_workers=3, algorithm="parameter-server:consistency=bps"), "bsp"),
    (dict(n_workers=2, algorithm="model-parallel"), "alpha=0"),
    (dict(n_workers=2, algorithm="overlapped"), "alpha=0"),
    (dict(n_workers=0), "n_workers"),
    (dict(backend="mpirun"), "'backend' parameter"),
    (dict(backend="mpi", random_state=None), "whole number as random_state"),
    (dict(hidden_layer_sizes=(5, 0)), "hidden_layer_sizes must be > 0"),
    (dict(early_stopping=True, validation_fraction=0.001), "validation set is too small"),
    (dict(solver="sgd", learning_rate_init=1e200), "non-finite parameter weights"),
]


@pytest.mark.parametrize("keywords, message", REFUSED)
def test_what_cannot_be_meant_is_a_value_error(keywords, message):
    with pytest.raises(ValueError, match=message):
        DSGDClassifier(**SMALL | keywords).fit(X, Y)


def test_a_network_that_goes_on_keeps_its_widths():
    estimator = DSGDClassifier(**SMALL | dict(warm_start=True)).fit(X, Y)
    with pytest.raises(ValueError, match="hidden_layer_sizes=.*not those that go on; warm_start=False"):
        estimator.set_params(hidden_layer_sizes=(4, 3)).fit(X, Y)


def test_counts_are_not_negative():
    with pytest.raises(ValueError, match="'poisson' needs y of at least 0"):
        DSGDRegressor(loss="poisson", max_iter=2).fit(X, -1.0 - Y)


def test_numpys_numbers_of_workers_do():
    plain, searched = (DSGDClassifier(**SMALL, n_workers=n).fit(X, Y) for n in (2, np.int64(2)))
    assert (parameters(plain) == parameters(searched)).all()


def test_layer_by_layer_without_a_penalty_it_trains():
    plain, staged = (DSGDClassifier(**SMALL, alpha=0, n_workers=2, algorithm=a).fit(X, Y) for a in (None, "overlapped"))
    assert (parameters(plain) == parameters(staged)).all()


def test_an_epoch_does_not_stop_early():
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        DSGDClassifier(early_stopping=True).partial_fit(X, Y, classes=np.arange(10))


# --- under mpirun


def test_under_mpi_every_rank_has_the_simulators_estimator():
    ended = mpirun(2, "-m", "mpi4py", ROOT / "tests" / "sklearn_ranks.py")
    assert ended.code == 0, ended
    expected = [fit(case, n_workers=2) for case in CASES]
    ranks = json.loads(ended.out)
    assert [found for found, _ in ranks] == [expected, expected]
    assert all(refused.startswith("rank 1 differs: y") for _, refused in ranks)
    assert not ended.lines


def test_without_scikit_learn_the_message_says_what_to_install(tmp_path):
    (tmp_path / "sklearn.py").write_text("raise ImportError('none here')")
    ended = python("-c", "import dsgd.sklearn", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert ended.code == 1 and ended.err.rstrip().endswith("pip install 'dsgd[sklearn]'")


def test_numpys_blas_is_told_from_scipys(monkeypatch):
    found = [
        dict(user_api="blas", internal_api=name, version="1", filepath=f"/numpy-lab/{name}.libs/x.so")
        for name in ("scipy", "numpy")
    ]
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: found)
    assert blas.__wrapped__() == "numpy 1"
