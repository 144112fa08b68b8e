"""DSGDClassifier and DSGDRegressor: MLPClassifier's and MLPRegressor's keywords, and three more."""

from numbers import Integral

from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from dsgd.sklearn.base import Distributed

CONSTRAINTS = {
    "n_workers": [Interval(Integral, 1, None, closed="left")],
    "algorithm": [str, None],
    "backend": [StrOptions({"simulator", "mpi"})],
}
# Each constructor names all keywords: scikit-learn reads get_params, clone and the checks of values off its signature.


class DSGDClassifier(Distributed, MLPClassifier):
    """MLPClassifier, trained by n_workers together.

    Args:
        n_workers: ranks, 1 or more; servers, where the algorithm has some, are among them.  With backend="mpi" all ranks of
            the job train, and it is their number, or 1.
        algorithm: as for --algorithm, with its options; by default data-parallel, sgd for one worker.
        backend: "simulator" for ranks in this process, or "mpi" for those of this job: start the script by
            `mpirun -n 4 python -m mpi4py SCRIPT`, every rank calls fit and gets an equal estimator.

    The other keywords and all attributes are MLPClassifier's.  solver="lbfgs" is refused by fit, which takes no sample_weight.
    """

    _parameter_constraints = MLPClassifier._parameter_constraints | CONSTRAINTS

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        n_workers=1,
        algorithm=None,
        backend="simulator",
    ):
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
        )
        self.n_workers, self.algorithm, self.backend = n_workers, algorithm, backend

    @available_if(lambda estimator: estimator._check_solver())
    def partial_fit(self, X, y, classes=None):
        """One epoch over X and y; returns self.

        Args:
            X: (n, features), dense or sparse.  y: (n,), or (n, labels) of 0 and 1.
            classes: all that there are, in the first call.
        """
        return super().partial_fit(X, y, classes=classes)


class DSGDRegressor(Distributed, MLPRegressor):
    """MLPRegressor, trained by n_workers together.

    Args:
        n_workers: ranks, 1 or more; servers, where the algorithm has some, are among them.  With backend="mpi" all ranks of
            the job train, and it is their number, or 1.
        algorithm: as for --algorithm, with its options; by default data-parallel, sgd for one worker.
        backend: "simulator" for ranks in this process, or "mpi" for those of this job: start the script by
            `mpirun -n 4 python -m mpi4py SCRIPT`, every rank calls fit and gets an equal estimator.

    The other keywords and all attributes are MLPRegressor's.  solver="lbfgs" is refused by fit, which takes no sample_weight.
    """

    _parameter_constraints = MLPRegressor._parameter_constraints | CONSTRAINTS

    def __init__(
        self,
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        n_workers=1,
        algorithm=None,
        backend="simulator",
    ):
        super().__init__(
            loss=loss,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
        )
        self.n_workers, self.algorithm, self.backend = n_workers, algorithm, backend

    @available_if(lambda estimator: estimator._check_solver())
    def partial_fit(self, X, y):
        """One epoch over X (n, features), dense or sparse, and y (n,) or (n, outputs); returns self."""
        return super().partial_fit(X, y)
