"""An environment whose episodes do not end while anybody waits."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from endmark.envs import Frame, Step
from endmark.episodes import EpisodeSpec


class Endless:
    """One agent; a step takes a millisecond, and an episode a hundred seconds."""

    spec = EpisodeSpec.of(n_agents=1, n_actions=2, episode_limit=100_000, obs_shape=(1,))

    def reset(self, seed: int | None = None) -> Frame:
        self._t = 0
        return self._frame()

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        time.sleep(0.001)
        self._t += 1
        return Step(self._frame(), np.float32(1), "truncated" if self._t == 100_000 else None)

    def close(self) -> None:
        pass

    def _frame(self) -> Frame:
        return Frame(np.ones((1, 1), np.float32), np.ones((1, 2), np.bool_), np.ones(1, np.bool_))
