"""From a policy and environments to episodes."""

from endmark.policies.policy import Policy, RandomPolicy, episode_seeds
from endmark.rollout.in_process import Rollout, play
from endmark.rollout.lockstep import Lockstep
from endmark.rollout.process import WorkerError, WorkerWarning
from endmark.rollout.summary import Summary, episode_returns, summarise
from endmark.rollout.workers import WorkerRollout

__all__ = [
    "Lockstep",
    "Policy",
    "RandomPolicy",
    "Rollout",
    "Summary",
    "WorkerError",
    "WorkerRollout",
    "WorkerWarning",
    "episode_returns",
    "episode_seeds",
    "play",
    "summarise",
]
