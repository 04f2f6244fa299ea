"""Agents that are told by pictures alone where to walk; by its id, `support.walkers:Walkers`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from endmark.envs import Frame, Step
from endmark.episodes import EpisodeSpec

SIDE, LIMIT = 10, 12
MOVES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])
ITSELF, OTHERS, TARGET = 0, 1, 2  # colours


class Walkers:
    """Two agents and a target on a field of 10 x 10 cells, of which each agent sees a picture in uint8.

    The agent itself is red, the other one green, the target blue. An agent that reaches the target leaves.
    The reward is how much nearer the agents have come, together, as a share of the field's side.

    channels_first: pictures [3, 10, 10] instead of [10, 10, 3].
    """

    def __init__(self, channels_first: bool = False) -> None:
        self.channels_first = channels_first
        shape = (3, SIDE, SIDE) if channels_first else (SIDE, SIDE, 3)
        self.spec = EpisodeSpec.of(
            n_agents=2, n_actions=5, episode_limit=LIMIT, obs_shape=shape, obs_dtype=torch.uint8
        )
        self.generator = np.random.default_rng()
        self.alive = np.ones(2, np.bool_)

    def reset(self, seed: int | None = None) -> Frame:
        if seed is not None:
            self.generator = np.random.default_rng(seed)
        cells = self.generator.choice(SIDE**2, 3, replace=False)
        *places, self.target = np.stack(np.divmod(cells, SIDE), 1)
        self.places = np.array(places)
        self.steps = 0
        self.alive = np.ones(2, np.bool_)
        return self.frame()

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        before = self.distances()
        moves = np.where(self.alive[:, None], MOVES[actions], 0)
        self.places = (self.places + moves).clip(0, SIDE - 1)
        self.steps += 1
        reward = np.float32((before - self.distances()).sum() / SIDE)
        self.alive = self.alive & (self.distances() > 0)
        if not self.alive.any():
            return Step(self.frame(), reward, "terminated")
        return Step(self.frame(), reward, "truncated" if self.steps == LIMIT else None)

    def distances(self) -> npt.NDArray[np.int64]:
        """The steps that each agent needs to the target."""
        distances: npt.NDArray[np.int64] = np.abs(self.places - self.target).sum(1)
        return distances

    def frame(self) -> Frame:
        pictures = np.zeros((2, SIDE, SIDE, 3), np.uint8)
        for n, picture in enumerate(pictures):
            if self.alive[n]:
                picture[(*self.places[n], ITSELF)] = 255
                picture[(*self.places[1 - n], OTHERS)] = 255
                picture[(*self.target, TARGET)] = 255
        if self.channels_first:
            pictures = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
        return Frame(pictures, np.ones((2, 5), np.bool_), self.alive.copy())

    def close(self) -> None:
        pass
