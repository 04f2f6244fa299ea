"""Environments: their contract and its test, adapters for those of others, matrix games, and known ids."""

from endmark.envs.arguments import arguments
from endmark.envs.batched import Alone, BatchedEnvironment, BatchedStep
from endmark.envs.check import CheckReport, check
from endmark.envs.errors import ContractError, EnvError, EnvWarning
from endmark.envs.guarded import Guarded, close_all
from endmark.envs.gym_adapter import GymAdapter
from endmark.envs.known import Family, installed
from endmark.envs.layouts import Layout
from endmark.envs.make import make, make_batched, make_drawn
from endmark.envs.pettingzoo_adapter import PettingZooAdapter
from endmark.envs.pictures import picture_of
from endmark.envs.protocol import End, Environment, Frame, Picture, Rendered, Step
from endmark.envs.pymarl_adapter import PyMARLAdapter

__all__ = [
    "Alone",
    "BatchedEnvironment",
    "BatchedStep",
    "CheckReport",
    "ContractError",
    "End",
    "EnvError",
    "EnvWarning",
    "Environment",
    "Family",
    "Frame",
    "Guarded",
    "GymAdapter",
    "Layout",
    "PettingZooAdapter",
    "Picture",
    "PyMARLAdapter",
    "Rendered",
    "Step",
    "arguments",
    "check",
    "close_all",
    "installed",
    "make",
    "make_batched",
    "make_drawn",
    "picture_of",
]
