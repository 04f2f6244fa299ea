"""Policies: what acts in K environments side by side."""

from endmark.policies.epsilon_greedy import EpsilonGreedy, linear_decay
from endmark.policies.gaussian import GaussianMode, GaussianPolicy
from endmark.policies.memory import ActorMemory
from endmark.policies.noisy import NoisyPolicy
from endmark.policies.policy import Policy
from endmark.policies.random import RandomPolicy, random_legal
from endmark.policies.scripted import Script, Scripted
from endmark.policies.seats import LEARNER, Member, Partners, Seated, Seating, with_seats
from endmark.policies.softmax import SoftmaxPolicy

__all__ = [
    "LEARNER",
    "ActorMemory",
    "EpsilonGreedy",
    "GaussianMode",
    "GaussianPolicy",
    "Member",
    "NoisyPolicy",
    "Partners",
    "Policy",
    "RandomPolicy",
    "Script",
    "Scripted",
    "Seated",
    "Seating",
    "SoftmaxPolicy",
    "linear_decay",
    "random_legal",
    "with_seats",
]
