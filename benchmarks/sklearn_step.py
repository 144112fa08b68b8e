"""A step of sgd on one worker beside one of scikit-learn's MLPClassifier: float32, plain SGD, batches drawn at random by both.

A step of scikit-learn's is the difference of two fits, of 1 and of 3 epochs, by the steps of 2 epochs: what a fit costs
once falls out.  Ours draws, checks and records as `run` does.
"""

import warnings
from functools import partial

from benchmarks.measure import NETWORKS, Figure, interleaved
from benchmarks.step import data, dsgd_steps

STEPS, ROUNDS, BAR = 40, 7, 1.6  # STEPS: of an epoch
EPOCHS = (1, 3)


def fits(widths, batch):
    """{epochs: a function that fits for so long}, on as many samples as STEPS steps take."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    X, y = data(batch * STEPS)

    def fit(epochs):
        model = MLPClassifier(
            widths[1:-1],
            solver="sgd",
            momentum=0,
            alpha=0,
            learning_rate_init=1e-6,
            batch_size=batch,
            max_iter=epochs,
            tol=0,
            n_iter_no_change=epochs + 1,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, y)
        if model.coefs_[0].dtype != X.dtype or model.n_iter_ != epochs:
            raise RuntimeError(f"scikit-learn made {model.n_iter_} epochs in {model.coefs_[0].dtype}")

    return {epochs: partial(fit, epochs) for epochs in EPOCHS}


def measure(network, rounds=ROUNDS):
    """{"scikit-learn", "dsgd": median seconds of a step}; only "dsgd" where scikit-learn is not installed."""
    widths, batch = NETWORKS[network]
    functions = {"dsgd": dsgd_steps(widths, batch, STEPS, samples=batch * STEPS)}
    try:
        functions |= fits(widths, batch)
    except ImportError:
        pass
    medians = interleaved(functions, rounds)
    found = {"dsgd": medians["dsgd"] / STEPS}
    if len(medians) > 1:
        short, long = EPOCHS
        found["scikit-learn"] = (medians[long] - medians[short]) / ((long - short) * STEPS)
    return found


def main():
    for network in list(NETWORKS)[:2]:
        seconds = measure(network)
        ahead = seconds["scikit-learn"] / seconds["dsgd"] if "scikit-learn" in seconds else None
        note = "" if ahead else "scikit-learn is not installed; pip install scikit-learn"
        yield Figure("scikit-learn's step beside sgd's", network, ahead, least=BAR, note=note)
