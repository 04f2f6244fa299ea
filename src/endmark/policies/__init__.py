"""Policies: what acts in K environments side by side."""

from endmark.policies.epsilon_greedy import EpsilonGreedy, linear_decay
from endmark.policies.memory import ActorMemory
from endmark.policies.policy import Policy
from endmark.policies.random import RandomPolicy, random_legal
from endmark.policies.softmax import SoftmaxPolicy

__all__ = [
    "ActorMemory",
    "EpsilonGreedy",
    "Policy",
    "RandomPolicy",
    "SoftmaxPolicy",
    "linear_decay",
    "random_legal",
]
