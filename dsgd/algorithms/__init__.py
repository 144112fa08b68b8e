"""The algorithms, in order of increasing complexity.  Adding one is one file and one line here (CONTRIBUTING.md).

An algorithm is one blocking function that owns its loop, keeps all that a resumed run needs in `state`, and yields
once a step.  It has options of its own as keyword-only parameters with a default.
"""

from typing import NamedTuple

from dsgd.algorithms.data_parallel import data_parallel
from dsgd.algorithms.downpour import ahead, downpour, downpour_roles
from dsgd.algorithms.dsgd import dsgd
from dsgd.algorithms.easgd import easgd, elastic_roles, exchanges
from dsgd.algorithms.grouped import grouped, one_server
from dsgd.algorithms.model_parallel import layers_in_order, model_parallel
from dsgd.algorithms.overlapped import layered_workers, overlapped
from dsgd.algorithms.parameter_server import (
    consistency_model,
    is_synchronous,
    parameter_server,
    servers_and_workers,
)
from dsgd.algorithms.roles import centralised, everyone_works
from dsgd.algorithms.sgd import sgd
from dsgd.algorithms.sharded_update import one_slice_each, sharded_update


def never(**options):
    """Whether all ranks make each step together."""
    return False


class Algorithm(NamedTuple):
    run: object  # (comm, local, state, *, optimizer, schedule, steps, **options)
    roles: object = everyone_works  # (size, objective, **options) -> comm.Roles, or ValueError: why it cannot be
    sums: str = "allreduce"  # how it sums over workers: allreduce, reduce, reduce_scatter or none; this decides what --reduction may be
    replicas: bool = True  # whether all workers hold the same x after a step
    synchronous: object = lambda **options: True  # (**options) -> whether all ranks make each step together
    model: object = None  # (workers, **options) -> consistency.Model of its servers


ALGORITHMS = {
    "sgd": Algorithm(sgd, centralised, sums="none"),
    "data-parallel": Algorithm(data_parallel),
    "overlapped": Algorithm(overlapped, layered_workers),
    "sharded-update": Algorithm(sharded_update, one_slice_each, sums="reduce_scatter", replicas=False),
    "dsgd": Algorithm(dsgd, sums="reduce"),
    "parameter-server": Algorithm(
        parameter_server, servers_and_workers, sums="none", synchronous=is_synchronous, model=consistency_model
    ),
    "downpour": Algorithm(downpour, downpour_roles, sums="none", synchronous=never, model=ahead),
    "easgd": Algorithm(easgd, elastic_roles, sums="none", synchronous=never, model=exchanges),
    "grouped": Algorithm(grouped, one_server),
    "model-parallel": Algorithm(model_parallel, layers_in_order, sums="none", replicas=False),
}
