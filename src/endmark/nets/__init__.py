"""Networks over ragged episodes."""

from endmark.nets.agent import NO_ACTION, RecurrentAgent
from endmark.nets.branches import branches
from endmark.nets.chosen import linear_chosen
from endmark.nets.greedy import greedy, greedy_linear
from endmark.nets.gru import gru_unroll, gru_unroll_naive
from endmark.nets.linear import linear
from endmark.nets.mixers import QMIXMixer, VDNMixer

__all__ = [
    "NO_ACTION",
    "QMIXMixer",
    "RecurrentAgent",
    "VDNMixer",
    "branches",
    "greedy",
    "greedy_linear",
    "gru_unroll",
    "gru_unroll_naive",
    "linear",
    "linear_chosen",
]
