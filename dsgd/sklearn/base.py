"""scikit-learn's MLPClassifier and MLPRegressor, trained by dsgd.run on any number of workers with any algorithm.

What X and y must be, what is predicted from `coefs_` and when training ends is scikit-learn's own code, so their
messages and attributes are its.  The loop over the batches of an epoch is a run of one epoch, which goes on from the
checkpoint that the last one left in memory.

Exact when: always the parameters of `python -m dsgd.train` with the same data, seed and flags, to the bit (alpha=0, a
constant step size, two classes or more; if asynchronous, with --checkpoint-every of an epoch); and MLPClassifier, to
rounding, if both start from the same parameters and see the same batches.  Three things are dsgd's: biases start at 0,
a seed gives another permutation to every epoch, and Adam's epsilon is added to √v̂, after the bias correction.
"""

import warnings
from dataclasses import replace
from math import ceil
from numbers import Integral

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from dsgd.checkpoint import digest, pack, unpack
from dsgd.config import Config
from dsgd.errors import NonFiniteGradient, UsageError
from dsgd.runner import open_backend, run
from dsgd.sklearn.objective import make_samples
from dsgd.versions import versions

SMALLEST = 1e-6  # adaptive step size


class Distributed:
    """What both estimators have in common: `_fit`, in place of MLPClassifier's and MLPRegressor's.

    Attributes:
        _checkpoint: (arrays, manifest) that the last epoch left; the parameters are taken from `coefs_`, though.
        _epochs: made since the parameters were drawn.  _lr: the step size of the next one.  _seed: of the draws.
    """

    def fit(self, X, y):
        """Train, from the present parameters if warm_start; returns self.

        Args:
            X: (n, features), dense or sparse.  y: (n,) or (n, outputs).
        Raises:
            ValueError: scikit-learn's for bad X, y and keywords; and for an algorithm that cannot be had.
        """
        return super().fit(X, y)

    def _fit(self, X, y, sample_weight=None, incremental=False):
        if self.solver == "lbfgs":
            raise ValueError("solver='lbfgs' needs all data at every step; dsgd has solver='adam' and solver='sgd'")
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.backend == "mpi" and not isinstance(self.random_state, Integral):
            raise ValueError("backend='mpi' needs a whole number as random_state: every rank draws with it")
        hidden = np.atleast_1d(self.hidden_layer_sizes).astype(int).tolist()
        if min(hidden, default=1) < 1:
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        if not first and hidden != [len(b) for b in self.intercepts_[:-1]]:
            raise ValueError(
                f"hidden_layer_sizes={hidden} are not those that go on; warm_start=False makes a new network"
            )
        X, y = self._validate_input(X, y, incremental, reset=first)
        if getattr(self, "loss", "") == "poisson" and (y < 0).any():
            raise ValueError("loss='poisson' needs y of at least 0")
        try:
            self._fit_arrays(X, y.reshape(len(y), -1), hidden, first, incremental)
        except UsageError as error:
            raise ValueError(str(error)) from None
        except NonFiniteGradient as error:
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                f"preprocessed. ({error})"
            ) from None
        return self

    def _fit_arrays(self, X, y, hidden, first, incremental):
        """The same for data and keywords that scikit-learn has looked at.   X (n, features), y (n, outputs)"""
        backend = self._open_backend(X, y)
        self._random_state = check_random_state(self.random_state)
        if first:
            self._initialize(y, [X.shape[1], *hidden, y.shape[1]], X.dtype)
        X, y, held = self._hold_back(X, y) if self.early_stopping else (X, y, (None, None))
        loss = getattr(self, "loss", None)
        objective = make_samples(X, y, hidden, self.out_activation_, loss, self.activation, self.alpha)
        config = self._config(objective, X.dtype)
        if first:
            self._start(objective, config)
        if first or not incremental:
            self._restart()
        try:
            self._train(objective, config, backend, held, 1 if incremental else self.max_iter)
        finally:
            backend.close()

    def _open_backend(self, X, y):
        """The backend of all epochs; under MPI the ranks' data are compared."""
        if self.backend == "simulator":
            return open_backend(None, Config(simulate=self._simulate()), None)
        backend = open_backend("mpi", Config(), None)
        if self.n_workers not in (1, backend.size):
            raise UsageError(
                f"n_workers={self.n_workers}, but backend='mpi' trains on the {backend.size} ranks of this job"
            )
        X = X.toarray() if hasattr(X, "toarray") else X
        backend.handshake({"X": digest(X), "y": digest(y)}, versions())
        return backend

    def _simulate(self):
        return int(self.n_workers) if self.n_workers > 1 else 0  # int: a search gives NumPy's

    def _init_coef(self, fan_in, fan_out, dtype):
        """Room for a layer; `_start` gives it its values."""
        return np.zeros((fan_in, fan_out), dtype), np.zeros(fan_out, dtype)

    def _hold_back(self, X, y):
        """(X, y, (X_val, y_val)): scikit-learn's split, and its refusal of a small one."""
        stratify = y if is_classifier(self) and y.shape[1] == 1 else None
        X, X_val, y, y_val = train_test_split(
            X, y, random_state=self._random_state, test_size=self.validation_fraction, stratify=stratify
        )
        if X_val.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return X, y, (X_val, self._label_binarizer.inverse_transform(y_val) if is_classifier(self) else y_val)

    def _config(self, objective, dtype):
        """The configuration of an epoch, but for its number and its step size."""
        n = objective.samples
        batch = min(200, n) if self.batch_size == "auto" else self.batch_size
        if batch > n:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=4
            )
        optimizer = f"adam:beta1={self.beta_1},beta2={self.beta_2},eps={self.epsilon}"
        if self.solver == "sgd":
            nesterov = str(bool(self.nesterovs_momentum and self.momentum)).lower()
            optimizer = f"sgd:momentum={self.momentum},nesterov={nesterov}"
        return Config(
            algorithm=self.algorithm or "",
            simulate=self._simulate() if self.backend == "simulator" else 0,
            init=objective.init,
            partition="shuffled" if self.shuffle else "ordered",
            batch_size=int(min(batch, n)),
            optimizer=optimizer,
            dtype=dtype.name,
            quiet=True,
        )

    def _start(self, objective, config):
        """Draw the parameters."""
        drawn = isinstance(self.random_state, Integral)
        self._seed = int(self.random_state if drawn else self._random_state.randint(2**31 - 1))
        self._net, self._epochs, self._checkpoint = objective.net, 0, None
        self._take(objective.start(self._seed, np.dtype(config.dtype)).copy())
        self._best_coefs = [W.copy() for W in self.coefs_]
        self._best_intercepts = [b.copy() for b in self.intercepts_]

    def _take(self, x):
        """coefs_ and intercepts_ ← views of the parameters x (n,)."""
        arrays = list(self._net.layout().views(x).values())
        self.coefs_, self.intercepts_ = arrays[::2], arrays[1::2]

    def _restart(self):
        """A new optimizer: what is left of the checkpoint are its counters."""
        self._lr = float(self.learning_rate_init)
        if self._checkpoint:
            self._checkpoint = {}, self._checkpoint[1]

    def _train(self, objective, config, backend, held, epochs):
        """Train for so many epochs, or until scikit-learn's rules say that it is enough."""
        self.n_iter_ = 0
        try:
            while self.n_iter_ < epochs:
                self._epoch(objective, config, backend)
                if backend.main and self.verbose:
                    print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                self._update_no_improvement_count(self.early_stopping, *held, None)
                if self.solver == "sgd" and self.learning_rate == "invscaling":
                    self._change_lr(self.learning_rate_init / (self.t_ + 1) ** self.power_t)
                if self._no_improvement_count > self.n_iter_no_change:
                    if self._ends(backend.main and self.verbose):
                        break
                    self._no_improvement_count = 0
                if self.n_iter_ == self.max_iter and backend.main:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                        "converged yet.",
                        ConvergenceWarning,
                        stacklevel=4,
                    )
        except KeyboardInterrupt:
            if self.backend == "mpi":  # the other ranks would wait for this one
                raise
            warnings.warn("Training interrupted by user.", stacklevel=4)
        if self.early_stopping:
            self.coefs_, self.intercepts_ = self._best_coefs, self._best_intercepts

    def _epoch(self, objective, config, backend):
        """One run of one epoch.  Nothing is changed before it is over, so an interrupted one leaves no trace."""
        config = replace(config, lr=self._lr, seed=self._seed, epochs=self._epochs + 1)
        start = self._checkpoint and self._going_on(objective.samples, config, backend.size)
        result = run(config, backend=backend, objective=objective, start=start, keep=True)
        checkpoint = result and result.checkpoint
        if backend.processes > 1:
            checkpoint = unpack(backend.share(pack(*checkpoint) if backend.main else b""))
        arrays, manifest = checkpoint
        self._take(arrays.pop("x"))
        counted = manifest["recorder"]
        samples, loss = counted["epoch_sums"]  # an asynchronous epoch may have lost pushes, and not be whole
        self.loss_ = counted["train_loss"] if counted["train_loss"] is not None else loss / samples
        self._checkpoint, self._epochs = checkpoint, self._epochs + 1
        self.n_iter_, self.t_ = self.n_iter_ + 1, self.t_ + objective.samples
        self.loss_curve_.append(self.loss_)

    def _going_on(self, n, config, ranks):
        """The checkpoint to start from, at the first step of an epoch of n samples, with the present `coefs_`.

        After a change of the data's size or of keywords only what still has a meaning is in it.
        """
        arrays, manifest = self._checkpoint
        step, before, now = self._epochs * ceil(n / config.batch_size), manifest["config"], config.settle(ranks)
        optimizer = before["optimizer"] == now.optimizer
        own = before["algorithm"] == now.algorithm and step == manifest["step"]
        kept = {name: a for name, a in arrays.items() if (optimizer if name.startswith("optimizer/") else own)}
        x = np.concatenate([array.ravel() for layer in zip(self.coefs_, self.intercepts_) for array in layer])
        counted = {"done": self._epochs * n, "epoch_sums": [0, 0.0], "record_sums": [0, 0.0], "train_loss": None}
        return kept | {"x": x}, manifest | {"step": step, "recorder": manifest["recorder"] | counted}

    def _change_lr(self, lr):
        """The next epochs' step size.  scikit-learn's velocity has the old one in it, and dsgd's has none."""
        before, self._lr = self._lr, float(lr)
        velocity = self._checkpoint[0].get("optimizer/velocity")
        if velocity is not None:
            velocity *= before / self._lr

    def _ends(self, verbose):
        """Whether training ends here; or, with adaptive steps, goes on with smaller ones."""
        what = "Validation score" if self.early_stopping else "Training loss"
        found = f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} consecutive epochs."
        adaptive = self.solver == "sgd" and self.learning_rate == "adaptive"
        small = adaptive and self._lr <= SMALLEST
        if adaptive and not small:
            self._change_lr(self._lr / 5)
            found += f" Setting learning rate to {self._lr:f}"
        else:
            found += " Learning rate too small. Stopping." if small else " Stopping."
        if verbose:
            print(found)
        return small or not adaptive
