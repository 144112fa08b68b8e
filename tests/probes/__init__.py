"""Four algorithms that ship nothing and prove the shape of the interface: each under 40 lines, each in both worlds."""

from dsgd.algorithms import Algorithm
from dsgd.algorithms.model_parallel import layers_in_order
from probes.gossip import gossip
from probes.local_sgd import local_sgd
from probes.pipeline import pipeline
from probes.top_k import top_k

ALGORITHMS = {
    "local-sgd": Algorithm(local_sgd),
    "gossip": Algorithm(gossip),
    "top-k": Algorithm(top_k, sums="none"),
    "pipeline": Algorithm(pipeline, layers_in_order, sums="none"),
}
