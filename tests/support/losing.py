"""Environments of this process some of whose episodes are lost, as those of a worker that fails are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from endmark.envs import Frame, Step
from endmark.rollout import InProcess
from support.scripted import Scripted


class Losing(InProcess):
    """Loses each of these episodes once: `at` is from its seed to the step, or 0 for the first frame."""

    def __init__(self, n_envs: int, at: Mapping[int, int]) -> None:
        self.scripted = [Scripted() for _ in range(n_envs)]
        super().__init__(self.scripted)
        self.at = dict(at)

    def first_frames(  # type: ignore[override]
        self, running: Sequence[bool]
    ) -> Iterable[tuple[int, Frame | None]]:
        for k, frame in super().first_frames(running):
            yield k, None if self._lose(k) else frame

    def step(  # type: ignore[override]
        self, actions: npt.NDArray[np.int64], running: Sequence[bool]
    ) -> Iterable[tuple[int, Step | None]]:
        for k, step in super().step(actions, running):
            yield k, None if self._lose(k) else step

    def _lose(self, k: int) -> bool:
        log = self.scripted[k].logs[-1]
        if self.at.get(log.seed) != len(log.actions):
            return False
        del self.at[log.seed]
        return True
