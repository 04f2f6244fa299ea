"""Environments one by one as a `BatchedEnvironment`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from endmark.envs import BatchedEnvironment, BatchedStep, Environment, Frame, Step
from endmark.envs.batched import Frames


class Together:
    """Steps each of them. One whose episode has ended stays at its final frame."""

    def __init__(self, envs: Sequence[Environment]) -> None:
        self._envs, self.spec, self.n_envs = envs, envs[0].spec, len(envs)
        self.device = torch.device("cpu")
        self._frames: list[Frame] = []
        self._ended = [False] * len(envs)
        self.closed = 0

    def reset(self, seeds: Tensor, where: Tensor) -> Frames:
        if not self._frames:
            assert where.all(), "the first reset is of all"
            self._frames = [_copy(env.reset(seed=int(seeds[k]))) for k, env in enumerate(self._envs)]
        for k in where.nonzero()[:, 0].tolist():
            self._frames[k], self._ended[k] = _copy(self._envs[k].reset(seed=int(seeds[k]))), False
        return self._stacked()

    def step(self, actions: Tensor) -> BatchedStep:
        steps = [
            Step(self._frames[k], np.zeros(self.spec.fields["reward"].shape, np.float32))
            if self._ended[k]
            else env.step(actions[k].numpy())
            for k, env in enumerate(self._envs)
        ]
        self._frames = [_copy(step.frame) for step in steps]
        self._ended = [ended or step.end is not None for ended, step in zip(self._ended, steps, strict=True)]
        return BatchedStep(
            self._stacked(),
            torch.from_numpy(np.stack([np.array(step.reward) for step in steps])),
            torch.tensor([step.terminated for step in steps]),
            torch.tensor([step.truncated for step in steps]),
            {
                name: torch.tensor([step.outcomes.get(name, -1.0) for step in steps])
                for name in self.spec.outcomes
            },
        )

    def close(self) -> None:
        self.closed += 1

    def _stacked(self) -> Frames:
        return {
            name: torch.from_numpy(np.stack([getattr(frame, name) for frame in self._frames]))
            for name in Frame._fields
            if name in self.spec.fields
        }


class Altered:
    """Environments whose steps are altered before they are handed over.

    alter: (step, number of the step since the start) -> step.
    """

    def __init__(self, envs: BatchedEnvironment, alter: Callable[[BatchedStep, int], BatchedStep]) -> None:
        self._envs, self._alter, self._n = envs, alter, 0

    def step(self, actions: Tensor) -> BatchedStep:
        self._n += 1
        return self._alter(self._envs.step(actions), self._n)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._envs, name)


def _copy(frame: Frame) -> Frame:
    return Frame(*(None if array is None else array.copy() for array in frame))  # type: ignore[arg-type]
