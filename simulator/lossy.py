"""The communicator over a network with faults: all its messages go through the transport, which is reliable.

A broadcast, a reduction, an all-reduce and a barrier are messages too, of the written schedules, so that they suffer
what the network does to messages; their bits are those of the closed form.  The other collectives keep it.  Every
message is copied when it is sent, so that there is no rendezvous: a sender waits for nobody, however long it is.
"""

import numpy as np

from dsgd.collectives import binomial_bcast, binomial_reduce
from dsgd.comm import Header, require
from dsgd.simulator.comm import SimComm
from dsgd.simulator.effects import Send
from dsgd.simulator.mailbox import Envelope

NOTHING = np.empty(0)


class LossyComm(SimComm):
    """See SimComm."""

    def isend(self, x, dest, tag=0, header=Header()):
        if dest == self.rank:  # what a rank sends to itself stays in its memory
            return super().isend(x, dest, tag, header)
        require(x)
        world, channel = self.world, self._channels.get(dest) or self._channel(dest)
        effect = Send(self.world_rank, channel.receiver, tag, x.nbytes)
        self.sent.add(1, x.nbytes)
        world.note(effect)
        envelope = Envelope(self, effect, world.pool.share(x), header, channel, True)
        world.transport.send(envelope, self._arrive_in_turn)
        if world.check:
            self._guard(envelope, x)
        return envelope

    def _arrive_in_turn(self, envelope):
        receiving = envelope.channel.box.claim(envelope)
        if receiving:
            envelope.channel.match(envelope, receiving)

    def bcast(self, x, root=0):
        require(x)
        return binomial_bcast(self._private, x, root)

    def reduce(self, x, root=0):
        require(x)
        return binomial_reduce(self._private, x, root)

    def allreduce(self, x):
        return self._up_and_down(x) if self._schedule is None else super().allreduce(x)

    def iallreduce(self, x):
        return self._finished(self.allreduce(x))

    def _up_and_down(self, x):
        total = self.reduce(x)
        return self.bcast(x if total is None else total)

    def barrier(self):
        self._up_and_down(NOTHING)
