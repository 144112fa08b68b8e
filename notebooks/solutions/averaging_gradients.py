"""Solutions of notebook 2, and the mistakes that are made on the way."""


def contribution(total, samples, m, workers):
    """Worker i's part of the average: divide by the samples of all, which the sum over the workers needs no more."""
    return total / m


def tree(parts):
    """Neighbours are added, then neighbouring sums; one that has no neighbour waits for the next round."""
    while len(parts) > 1:
        pairs = [left + right for left, right in zip(parts[::2], parts[1::2])]
        parts = pairs + parts[len(pairs) * 2 :]
    return parts[0]


def mean_of_means(total, samples, m, workers):
    return total / samples / workers


def divides_by_the_usual_batch(total, samples, m, workers):
    return total / 160


def own_mean(total, samples, m, workers):
    return total / samples


def left_to_right(parts):
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def drops_the_odd_one(parts):
    while len(parts) > 1:
        parts = [left + right for left, right in zip(parts[::2], parts[1::2])]
    return parts[0]


MISTAKES = [
    ("contribution", mean_of_means, "Step 9, worker 0, layer 0 weight"),
    ("contribution", divides_by_the_usual_batch, "Step 9, worker 0, layer 0 weight"),
    ("contribution", own_mean, "Step 1, worker 0, layer 0 weight"),
    ("tree", left_to_right, "Step 1, layer 0 weight"),
    ("tree", drops_the_odd_one, "Step 1, layer 0 weight"),
]
