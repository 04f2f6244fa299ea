"""Environments: the protocol, adapters for Gymnasium and PettingZoo, and a conformance check."""

from .check import CheckReport, check
from .errors import EnvError
from .families import Family, installed
from .gym_adapter import GymAdapter
from .make import make
from .pettingzoo_adapter import PettingZooAdapter
from .protocol import Environment, Frame, Step

__all__ = [
    "CheckReport",
    "EnvError",
    "Environment",
    "Family",
    "Frame",
    "GymAdapter",
    "PettingZooAdapter",
    "Step",
    "check",
    "installed",
    "make",
]
