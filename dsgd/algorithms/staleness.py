"""What a server does about the staleness τ of a push: the updates between the version it was computed on and now.

    ignore:       g ← g
    divide:       g ← g / τ for τ ≥ 1
    compensate:   g ← g + λ g ⊙ g ⊙ (x_now − x_pulled), the first terms of g at x_now, with g ⊙ g for the Hessian

Reference: Zhang et al. 2016 (arXiv 1511.05950), section 3; Zheng et al. 2017 (arXiv 1609.08326), algorithm 2, DC-ASGD.
Exact when: τ = 0, as always in bsp and with one worker: all three are the same, to the bit.
"""

from collections import deque

import numpy as np

STALENESS = ("ignore", "divide", "compensate")
LAMBDA = 0.04  # λ₀ of Zheng et al. for CIFAR-10


def check_staleness(model, staleness="ignore", compensation=None):
    """Raise ValueError for what cannot be meant.   model: consistency.Model"""
    if staleness not in STALENESS:
        raise ValueError(f"staleness={staleness} is not one of {', '.join(STALENESS)}")
    if compensation is not None and staleness != "compensate":
        raise ValueError(f"compensation= belongs to staleness=compensate, not to {staleness}")
    if compensation is not None and not 0 <= compensation < float("inf"):
        raise ValueError(f"compensation={compensation} is the factor λ of g ⊙ g: 0 or more, and finite")
    if staleness == "compensate" and model.of == "clock":
        raise ValueError(
            "staleness=compensate with apply=clock, whose pushes are parts of an average, and the square of a part "
            "is not the part of a square; leave one of them out"
        )


class Correction:
    """Changes late pushes to one server.

    Args:
        compensation: λ; None to divide.  offset: of the key range in a message, behind its numbers if it has any.
    """

    def __init__(self, compensation, offset):
        self.compensation, self.offset = compensation, offset
        self._given = {}  # worker -> (version, message) of each answer whose push has not come, oldest first

    def give(self, worker, version, packet):
        """This worker gets this version.   packet: the message, which all who get the version share"""
        if self.compensation is not None:
            self._given.setdefault(worker, deque()).append((version, packet))

    def correct(self, worker, message, version, packet):
        """message.data for a push that goes into x after `version`.   packet: as in `give`, with x as it is now"""
        then = self._taken(worker, message.header.version)
        staleness = version - message.header.version
        if staleness < 1:
            return message.data
        data = np.array(message.data)
        g = data[self.offset :]
        if self.compensation is None:
            np.divide(g, staleness, out=g)
        else:
            g += self.compensation * g * g * (packet - then)[self.offset :]
        return data

    def _taken(self, worker, version):
        """What this worker was given as this version: it is needed no more, and older answers are not either."""
        given = self._given.get(worker)
        while given:
            number, packet = given.popleft()
            if number == version:
                return packet
        return None


def make_correction(staleness, compensation, offset):
    """The Correction of these options; None for ignore."""
    if staleness == "ignore":
        return None
    if staleness == "divide":
        return Correction(None, offset)
    return Correction(LAMBDA if compensation is None else compensation, offset)
