"""Solutions of notebook 5, and the mistakes that are made on the way."""


def staleness_of(pulled, into):
    """Updates between: the push itself makes the version `into`, and is not one of them."""
    return into - 1 - pulled


def next_x(x, lr, tau):
    """x_{t+1} = x_t − η x_{t−τ}; before there are τ updates, the start is the oldest."""
    t = len(x) - 1
    return x[t] - lr * x[max(0, t - tau)]


def weigh(g, tau):
    """g / τ for τ ≥ 1; what is not late stays as it is."""
    return g / max(1, tau)


def counts_its_own(pulled, into):
    return into - pulled


def off_by_one(x, lr, tau):
    t = len(x) - 1
    return x[t] - lr * x[max(0, t - tau - 1)]


def wraps_around(x, lr, tau):
    return x[-1] - lr * x[len(x) - 1 - tau]


def steps_from_the_old(x, lr, tau):
    old = x[max(0, len(x) - 1 - tau)]
    return old - lr * old


def one_more(g, tau):
    return g / (1 + tau)


def divides_by_0(g, tau):
    return float(g) / tau


MISTAKES = [
    ("staleness_of", counts_its_own, "Step 1, worker 0, staleness"),
    ("next_x", off_by_one, "Step 2, x_2 for τ = 0"),
    ("next_x", wraps_around, "Step 17, x_1 for τ = 3: it raised IndexError"),
    ("next_x", steps_from_the_old, "Step 10, x_2 for τ = 1"),
    ("weigh", one_more, "Step 2, weighed gradient"),
    ("weigh", divides_by_0, "Step 1, weighed gradient: it raised ZeroDivisionError"),
]
