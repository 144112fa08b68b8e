"""All ranks of a run in one process, on a virtual clock."""

from dsgd.errors import CollectiveMismatch
from dsgd.network import Network
from dsgd.simulator.effects import Deadlock, SimulationError
from dsgd.simulator.world import World, simulate

__all__ = ["CollectiveMismatch", "Deadlock", "Network", "SimulationError", "World", "simulate"]
