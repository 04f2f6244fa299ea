"""A PettingZoo team of three kinds of agents, which refuses every action that an agent does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

LIMIT = 8
OBSERVED: dict[str, spaces.Space[Any]] = {
    "scout": spaces.Box(1, 2, (7,), np.float32),
    "guard": spaces.Discrete(3, start=4),
    "medic": spaces.Box(1, 2, (2, 2), np.float64),
}
ACTED = {
    "scout": spaces.Discrete(2, start=5),
    "guard": spaces.Discrete(6),
    "medic": spaces.Discrete(4, start=-1),
}
SIZES, COUNTS = (7, 3, 4), (2, 6, 4)


class ThreeKinds:
    """A scout sees seven numbers, a guard one of three things, a medic two by two numbers.

    They have two, six and four actions. Every other step, the guard may not take its first three. The scout
    leaves after its fourth step. A seed decides what is seen; an agent's last action pays 1.

    heard: each action that an agent took, in the environment's own numbers.
    """

    metadata: dict[str, Any] = {"name": "three_kinds"}  # noqa: RUF012
    max_cycles = LIMIT

    def __init__(self) -> None:
        self.possible_agents = list(OBSERVED)
        self.heard: list[dict[str, int]] = []

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return OBSERVED[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        return ACTED[agent]

    def reset(self, seed: int | None = None) -> Any:
        self.generator = np.random.default_rng(seed)
        self.agents, self.t = list(OBSERVED), 0
        return self.seen(), self.told()

    def step(self, actions: dict[str, int]) -> Any:
        assert set(actions) == set(self.agents)
        for agent, action in actions.items():
            assert ACTED[agent].contains(action), f"{agent} took {action}"
            assert agent != "guard" or self.mask()[action], "the guard took what it may not"
        self.heard.append(actions)
        rewards = {
            agent: float(action - ACTED[agent].start == ACTED[agent].n - 1)
            for agent, action in actions.items()
        }
        self.t += 1
        ended = {agent: agent == "scout" and self.t == 4 for agent in self.agents}
        cut = dict.fromkeys(self.agents, self.t == LIMIT)
        seen, told = self.seen(), self.told()
        self.agents = [agent for agent in self.agents if not ended[agent] and not cut[agent]]
        return seen, rewards, ended, cut, told

    def seen(self) -> dict[str, Any]:
        draw = self.generator.uniform
        every = {
            "scout": draw(1, 2, 7).astype(np.float32),
            "guard": int(self.generator.integers(4, 7)),
            "medic": draw(1, 2, (2, 2)),
        }
        return {agent: every[agent] for agent in self.agents}

    def told(self) -> dict[str, Any]:
        return {agent: {"action_mask": self.mask()} if agent == "guard" else {} for agent in self.agents}

    def mask(self) -> Any:
        return np.array([self.t % 2, self.t % 2, self.t % 2, 1, 1, 1], np.int8)

    def close(self) -> None:
        pass
