"""From a policy and environments to episodes."""

from endmark.rollout.in_process import Policy, RandomPolicy, Rollout, episode_seeds, play
from endmark.rollout.summary import Summary, episode_returns, summarise

__all__ = [
    "Policy",
    "RandomPolicy",
    "Rollout",
    "Summary",
    "episode_returns",
    "episode_seeds",
    "play",
    "summarise",
]
