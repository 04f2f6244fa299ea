"""The contract of K environments that are tensors of one program, and one of them as an `Environment`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from endmark.envs.pictures import picture_of
from endmark.envs.protocol import End, Frame, Picture, Step, frame_of
from endmark.episodes import EpisodeSpec

Frames = Mapping[str, Tensor]
"""Fields of K frames by name: `obs`, `avail_actions`, `alive` and, if there is one, `state`. Without
`avail_actions` where actions are vectors."""


class BatchedStep(NamedTuple):
    """The result of one joint action in each of K environments, as `Step` is for one.

    frames: [K, ...] each, the next frames; where an episode ended, its final one.
    reward: [K], or [K, N] for each agent.
    terminated, truncated: why the episode ended with this step. Never both.
    outcomes: those that the spec names, read where an episode ended.
    """

    frames: Frames
    reward: Float[Tensor, "K *N"]
    terminated: Bool[Tensor, " K"]
    truncated: Bool[Tensor, " K"]
    outcomes: Mapping[str, Float[Tensor, " K"]] = {}


@runtime_checkable
class BatchedEnvironment(Protocol):
    """K games for one team each, stepped together by one program. Their contract is that of `Environment`.

    An episode is a function of its seed and the actions in it: other episodes, also those beside it, do not
    influence it. Tensors are on `device` and stay as they are when the environments go on.
    """

    spec: EpisodeSpec
    n_envs: int
    device: torch.device

    def reset(self, seeds: Int[Tensor, " K"], where: Bool[Tensor, " K"]) -> Frames:
        """Start an episode from its seed in some of the environments; the current frames of all of them.

        seeds, where: on the CPU. The first call is for all environments.
        """
        ...

    def step(self, actions: Real[Tensor, "K N *D"]) -> BatchedStep:
        """Act in all environments.

        One whose episode has ended goes on with results that nobody reads.
        """
        ...

    def close(self) -> None:
        """Release what is held. A second call does nothing."""
        ...


class Alone:
    """An `Environment` made of K = 1 batched ones."""

    def __init__(self, envs: BatchedEnvironment) -> None:
        if envs.n_envs != 1:
            raise ValueError(f"envs: given {envs.n_envs} environments, want 1")
        self._envs = envs
        self._generator = np.random.default_rng()
        self.spec = envs.spec
        self.action_names: tuple[str, ...] = getattr(envs, "action_names", ())

    def reset(self, seed: int | None = None) -> Frame:
        """Start an episode and return its first frame. Without a seed, a random one."""
        seed = int(self._generator.integers(2**31)) if seed is None else seed
        return _frame(self._envs.reset(torch.tensor([seed]), torch.tensor([True])))

    def step(self, actions: npt.NDArray[Any]) -> Step:
        """Apply one action per agent and return the result."""
        step = self._envs.step(torch.from_numpy(np.array(actions))[None].to(self._envs.device))
        end: End | None = "terminated" if step.terminated[0] else "truncated" if step.truncated[0] else None
        outcomes = {name: float(values[0]) for name, values in step.outcomes.items()} if end else {}
        return Step(_frame(step.frames), step.reward[0].cpu().numpy(), end, outcomes)

    def render(self) -> Picture:
        """The environment's picture; `EnvError` if it draws none."""
        return picture_of(self._envs)

    def close(self) -> None:
        """Close the environment. A second call does nothing."""
        self._envs.close()


def _frame(frames: Frames) -> Frame:
    return frame_of({name: tensor[0].cpu().numpy() for name, tensor in frames.items()})
