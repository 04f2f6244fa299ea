"""What scripts collect on `simple_spread`, a yardstick for learned returns: `python -m benchmarks.spread`.

Each gives every agent a place at the first frame, to which it then goes the shortest way and stays.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.float64]
MOVES = np.array([(0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)])
# Of the environment's physics: what a step leaves of a velocity, what a move adds to it, and a step's time.
KEPT, PUSH, TIME = 0.75, 0.5, 0.1


def standing(agents: Places, landmarks: Places) -> Places:  # noqa: ARG001
    """Where each agent is."""
    return agents


def nearest(agents: Places, landmarks: Places) -> Places:
    """Each agent's nearest landmark, also where it is another one's, too."""
    places: Places = landmarks[np.linalg.norm(agents[:, None] - landmarks, axis=-1).argmin(1)]
    return places


def numbered(agents: Places, landmarks: Places) -> Places:  # noqa: ARG001
    """The first agent's is the first landmark, and so on."""
    return landmarks


def shortest(agents: Places, landmarks: Places) -> Places:
    """A landmark for each, so that the sum of their ways is least."""
    orders = map(np.array, itertools.permutations(landmarks))
    return min(orders, key=lambda places: np.linalg.norm(agents - places, axis=1).sum())


SCRIPTS = standing, nearest, numbered, shortest


def towards(goal: Places, place: Places, velocity: Places) -> int:
    """The move after which an agent that only coasts would come to rest nearest to its goal."""
    coasted = (velocity * KEPT + MOVES * PUSH) * TIME / (1 - KEPT)
    return int(np.linalg.norm(goal - place - coasted, axis=1).argmin())


def mean_return(script: Callable[[Places, Places], Places], episodes: int) -> float:
    """The team's mean return over the episodes of seeds 0, 1, ..."""
    from mpe2 import simple_spread_v3

    env: Any = simple_spread_v3.parallel_env()
    returns = []
    for seed in range(episodes):
        env.reset(seed=seed)
        world = env.unwrapped.world
        landmarks = np.array([mark.state.p_pos for mark in world.landmarks])
        goals = script(np.array([agent.state.p_pos for agent in world.agents]), landmarks)
        collected = 0.0
        while env.agents:
            actions = {
                agent.name: towards(goal, agent.state.p_pos, agent.state.p_vel)
                for agent, goal in zip(world.agents, goals, strict=True)
            }
            collected += sum(env.step(actions)[1].values())
        returns.append(collected)
    return statistics.fmean(returns)


def main() -> None:
    """Print each script's return."""
    for script in SCRIPTS:
        print(f"{script.__name__:>9}  {mean_return(script, 200):6.1f}")


if __name__ == "__main__":
    main()
