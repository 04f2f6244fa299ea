"""MaMuJoCo: MuJoCo's robots, each of whose agents moves some of the joints."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from gymnasium_robotics import mamujoco_v1

from endmark.envs.constructing import adapted, constructed
from endmark.envs.errors import EnvError
from endmark.envs.importing import near, unknown
from endmark.envs.limits import shortest
from endmark.envs.pettingzoo_adapter import PettingZooAdapter
from endmark.envs.protocol import Environment

ROBOTS = (
    *("Ant", "HalfCheetah", "Hopper", "HumanoidStandup", "Humanoid", "Reacher", "Swimmer", "Pusher"),
    *("Walker2d", "InvertedPendulum", "InvertedDoublePendulum", "ManySegmentSwimmer", "ManySegmentAnt"),
    "CoupledHalfCheetah",
)
MAX_STEPS = 1_000
"""Where MaMuJoCo's robot does not say."""
SET_HERE = ("scenario", "agent_conf")


def make_mamujoco(name: str, episode_limit: int | None, kwargs: Mapping[str, Any]) -> Environment:
    """The environment of this name, such as HalfCheetah-2x3: a robot, and its division among agents.

    It gives every agent the team's reward, which is stored once. Its step limit, 1000, is a cut.
    """
    env_id = f"mamujoco:{name}"
    robot, _, division = name.partition("-")
    if robot not in ROBOTS:
        raise unknown(env_id, [f"mamujoco:{other}-{division or '2x3'}" for other in near(robot, ROBOTS)])
    if not division:
        raise EnvError(
            f"'{env_id}': given no division among agents, want one, as in mamujoco:HalfCheetah-2x3"
        )
    if taken := [given for given in kwargs if given in SET_HERE]:
        raise EnvError(f"'{env_id}': {taken[0]}: given twice, want it in the id alone")
    arguments = {"scenario": robot, "agent_conf": division, **kwargs}
    made = constructed(env_id, mamujoco_v1.parallel_env, arguments, [])
    known = made.single_agent_env.get_wrapper_attr("spec")
    limit = shortest(episode_limit, known.max_episode_steps if known else MAX_STEPS)
    return adapted(env_id, made, partial(PettingZooAdapter, episode_limit=limit, shared_reward=True))
