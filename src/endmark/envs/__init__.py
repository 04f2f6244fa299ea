"""Environments: their contract and its test, adapters for Gymnasium and PettingZoo, and ids of known ones."""

from endmark.envs.arguments import arguments
from endmark.envs.check import CheckReport, check
from endmark.envs.errors import EnvError
from endmark.envs.gym_adapter import GymAdapter
from endmark.envs.known import Family, installed
from endmark.envs.make import make
from endmark.envs.pettingzoo_adapter import PettingZooAdapter
from endmark.envs.protocol import End, Environment, Frame, Step

__all__ = [
    "CheckReport",
    "End",
    "EnvError",
    "Environment",
    "Family",
    "Frame",
    "GymAdapter",
    "PettingZooAdapter",
    "Step",
    "arguments",
    "check",
    "installed",
    "make",
]
