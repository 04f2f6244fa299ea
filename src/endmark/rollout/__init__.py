"""From a policy and environments to episodes."""

from endmark.rollout.batched import Batched
from endmark.rollout.by_actors import ByActors
from endmark.rollout.in_process import InProcess
from endmark.rollout.lockstep import Lockstep
from endmark.rollout.on_ray import Actors, RayError
from endmark.rollout.play import make_rollout, play
from endmark.rollout.player import Player
from endmark.rollout.process import WorkerError, WorkerWarning
from endmark.rollout.rollout import ReplayWarning, Rollout, Stopped
from endmark.rollout.scenes import Scene, scenes
from endmark.rollout.seeds import EpisodeSeeds
from endmark.rollout.summary import Interval, Summary, episode_returns, summarise
from endmark.rollout.vector import VectorEnv
from endmark.rollout.workers import Workers

__all__ = [
    "Actors",
    "Batched",
    "ByActors",
    "EpisodeSeeds",
    "InProcess",
    "Interval",
    "Lockstep",
    "Player",
    "RayError",
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
    "make_rollout",
    "play",
    "scenes",
    "summarise",
]
