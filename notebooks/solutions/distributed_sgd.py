"""Solutions of notebook 3, and the mistakes that are made on the way."""


def part(order, t, batch, worker, workers):
    """Batch t of the epoch, then worker i's even part of it; the last batch may be smaller."""
    first = t % -(-len(order) // batch) * batch
    rows = order[first : first + batch]
    return rows[len(rows) * worker // workers : len(rows) * (worker + 1) // workers]


def step(comm, g, x, lr):
    """Gradients to the server, parameters back."""
    if comm.rank:
        comm.send(g, 0)
        return comm.recv(0).data
    for rank in range(1, comm.size):
        g = g + comm.recv(rank).data
    x = x - lr * g
    for rank in range(1, comm.size):
        comm.send(x, rank)
    return x


def traffic(workers, size):
    """Each worker but the server's own sends its gradient, and is sent x: whatever the tree."""
    return 2 * (workers - 1), 2 * (workers - 1) * size


def pads_the_last_batch(order, t, batch, worker, workers):
    first = t % -(-len(order) // batch) * batch
    rows = order.take(range(first, first + batch), mode="wrap")
    return rows[len(rows) * worker // workers : len(rows) * (worker + 1) // workers]


def loses_the_remainder(order, t, batch, worker, workers):
    first = t % -(-len(order) // batch) * batch
    rows = order[first : first + batch]
    size = len(rows) // workers
    return rows[size * worker : size * (worker + 1)]


def counts_on_over_the_epochs(order, t, batch, worker, workers):
    rows = order[t * batch : (t + 1) * batch]
    return rows[len(rows) * worker // workers : len(rows) * (worker + 1) // workers]


def forgets_its_own(comm, g, x, lr):
    return step(comm, g if comm.rank else 0 * g, x, lr)


def forgets_a_worker(comm, g, x, lr):
    return step(comm, 0 * g if comm.rank == 3 else g, x, lr)


def divides_twice(comm, g, x, lr):
    return step(comm, g / comm.size, x, lr)


def sends_nothing_back(comm, g, x, lr):
    if comm.rank:
        comm.send(g, 0)
        return x
    return x - lr * (g + sum(comm.recv(rank).data for rank in range(1, comm.size)))


def sends_before_the_update(comm, g, x, lr):
    if comm.rank:
        comm.send(g, 0)
        return comm.recv(0).data
    others = sum(comm.recv(rank).data for rank in range(1, comm.size))
    for rank in range(1, comm.size):
        comm.send(x, rank)
    return x - lr * (g + others)


def waits_for_itself(comm, g, x, lr):
    return x - lr * sum(comm.recv(rank).data for rank in range(comm.size)) if comm.rank == 0 else x


def counts_the_server(workers, size):
    return 2 * workers, 2 * workers * size


def forgets_the_way_back(workers, size):
    return workers - 1, (workers - 1) * size


MISTAKES = [
    ("part", pads_the_last_batch, "Step 9, worker 0, samples: its shape is"),
    ("part", loses_the_remainder, "Step 9, worker 1, samples"),
    ("part", counts_on_over_the_epochs, "Step 10, worker 0, samples: its shape is (0,)"),
    ("step", forgets_its_own, "Step 1, worker 0, layer 0 weight"),
    ("step", forgets_a_worker, "Step 1, worker 0, layer 0 weight"),
    ("step", divides_twice, "Step 1, worker 0, layer 0 weight"),
    ("step", sends_nothing_back, "Step 1, worker 1, layer 0 weight"),
    ("step", sends_before_the_update, "Step 1, worker 1, layer 0 weight"),
    ("step", waits_for_itself, "Step 1, worker 0, layer 0 weight: it raised"),
    ("traffic", counts_the_server, "Step 1, messages"),
    ("traffic", forgets_the_way_back, "Step 2, messages"),
]
