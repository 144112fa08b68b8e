"""x ← x − η · (direction), with PyTorch's names, defaults and semantics; in place, block by block, on flat vectors.

An optimizer keeps its vectors in `slots`, {name: array}, and nothing else from one step to the next, so that a
checkpoint can hold them.  A block of every vector fits the cache, so each of them crosses memory once a step.
`layerwise` says that it needs the norms of whole arrays (update.Update hands them in), `decoupled` that its
weight_decay is no part of the gradient, as an L2 penalty is.
"""

from dsgd.optimizers.adam import Adam, AdamW
from dsgd.optimizers.adaptive import Adagrad, RMSprop
from dsgd.optimizers.blocks import BLOCK
from dsgd.optimizers.layerwise import LAMB, LARS
from dsgd.optimizers.sgd import SGD

OPTIMIZERS = {  # in order of increasing complexity
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "lars": LARS,
    "lamb": LAMB,
}
DEFAULT_LR = {"sgd": 0.01, "adagrad": 0.01, "rmsprop": 0.01, "adam": 0.001, "adamw": 0.001, "lars": 1.0, "lamb": 0.003}

__all__ = ["BLOCK", "DEFAULT_LR", "OPTIMIZERS", "SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "LARS", "LAMB"]
