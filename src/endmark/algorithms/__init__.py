"""Algorithms, one file each."""

from endmark.algorithms.qlearning import EpsilonGreedy, Mixing, QLearner, QLearningConfig

__all__ = ["EpsilonGreedy", "Mixing", "QLearner", "QLearningConfig"]
