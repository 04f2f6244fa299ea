"""Two walkers on a line of cells have to meet before time is up: a PettingZoo environment in one file.

cd examples
endmark check meeting:Meeting
endmark train vdn --env meeting:Meeting --env-arg size=9 --steps 20000
"""

# ruff: noqa: ARG002  (PettingZoo's methods have arguments that are not needed here)
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

COLOURS = {"red": (200, 60, 40), "blue": (40, 90, 200)}


class Meeting(ParallelEnv):  # type: ignore[misc]
    metadata = {"name": "meeting", "render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012
    max_steps = 20  # longer episodes are cut: the game is not over then

    def __init__(self, size: int = 7, render_mode: str | None = None) -> None:
        self.size, self.render_mode = size, render_mode
        self.possible_agents = list(COLOURS)

    def observation_space(self, agent: str) -> Box:
        return Box(0, 1, (2,), np.float32)  # one's own place, and the other's

    def action_space(self, agent: str) -> Discrete[Any]:
        return Discrete(3)  # left, stay, right

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        self.agents = self.possible_agents[:]
        cells = np.random.default_rng(seed).choice(self.size, 2, replace=False)  # all chance is in the seed
        self.places = dict(zip(self.agents, cells.tolist(), strict=True))
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[Any, Any, Any, Any, Any]:
        for agent, action in actions.items():
            self.places[agent] = min(max(self.places[agent] + int(action) - 1, 0), self.size - 1)
        met = len(set(self.places.values())) == 1
        agents = self.agents
        if met:
            self.agents = []  # the game is over
        return (
            self._seen(),
            dict.fromkeys(agents, 0.5 if met else -0.025),
            dict.fromkeys(agents, met),
            dict.fromkeys(agents, False),
            {agent: {} for agent in agents},
        )

    def _seen(self) -> dict[str, npt.NDArray[np.float32]]:
        red, blue = (self.places[agent] / (self.size - 1) for agent in COLOURS)
        return {"red": np.array([red, blue], np.float32), "blue": np.array([blue, red], np.float32)}

    def render(self) -> npt.NDArray[np.uint8]:
        """A picture [H, W, 3], for `endmark play`."""
        picture = np.full((40, 40 * self.size, 3), 245, np.uint8)
        for agent, colour in COLOURS.items():
            x = 40 * self.places[agent]
            rows = slice(6, 20) if agent == "red" else slice(20, 34)
            picture[rows, x + 6 : x + 34] = colour
        return picture
