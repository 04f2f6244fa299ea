"""From a policy and environments to episodes."""

from endmark.rollout.in_process import InProcess
from endmark.rollout.process import WorkerError, WorkerWarning
from endmark.rollout.rollout import ReplayWarning, Rollout, Stopped, play
from endmark.rollout.scenes import Scene, scenes
from endmark.rollout.seeds import EpisodeSeeds
from endmark.rollout.summary import Summary, episode_returns, summarise
from endmark.rollout.vector import VectorEnv
from endmark.rollout.workers import Workers

__all__ = [
    "EpisodeSeeds",
    "InProcess",
    "ReplayWarning",
    "Rollout",
    "Scene",
    "Stopped",
    "Summary",
    "VectorEnv",
    "WorkerError",
    "WorkerWarning",
    "Workers",
    "episode_returns",
    "play",
    "scenes",
    "summarise",
]
