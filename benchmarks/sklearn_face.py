"""Test accuracy of DSGDClassifier beside MLPClassifier's with the same keywords, on digits: means over seeds 0 to 9.

The seed draws the split into training and test part, the parameters and the batches; 4 workers.
"""

import statistics
import warnings

from benchmarks.measure import Figure

SEEDS, WORKERS, BAR = range(10), 4, 0.5  # BAR: points that the means may be apart
KEYWORDS = {
    "the defaults": {},
    "solver=sgd": dict(solver="sgd", learning_rate_init=0.1, hidden_layer_sizes=(64, 32)),
    "early_stopping": dict(early_stopping=True, learning_rate_init=0.01),
}


def accuracy(estimator, seed):
    """In per cent, on the quarter of digits that is held back."""
    from sklearn.datasets import load_digits
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return 100 * estimator.fit(X, y).score(X_test, y_test)


def means(keywords, seeds=SEEDS):
    """(ours, scikit-learn's): mean accuracies over the seeds."""
    from sklearn.neural_network import MLPClassifier

    from dsgd.sklearn import DSGDClassifier

    ours = [accuracy(DSGDClassifier(**keywords, random_state=s, n_workers=WORKERS), s) for s in seeds]
    theirs = [accuracy(MLPClassifier(**keywords, random_state=s), s) for s in seeds]
    return statistics.mean(ours), statistics.mean(theirs)


def main():
    for case, keywords in KEYWORDS.items():
        try:
            ours, theirs = means(keywords)
        except ImportError as error:
            yield Figure(
                "points of accuracy between DSGDClassifier and MLPClassifier", case, None, most=BAR, note=str(error)
            )
            continue
        print(f"  {case}: DSGDClassifier {ours:.2f} %, MLPClassifier {theirs:.2f} %")
        yield Figure("points of accuracy between DSGDClassifier and MLPClassifier", case, abs(ours - theirs), most=BAR)
