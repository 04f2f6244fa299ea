"""TorchRL on the same data, if it is installed.

It runs in its fastest form: trajectories end to end in its flat layout, without padding; vectorised functions
without modules around them; a sampler that caches its index of trajectories.
"""

from __future__ import annotations

import importlib
import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Work
from endmark.episodes import EpisodeBatch


@cache
def _module(name: str) -> Any:
    """The module, or None if it cannot be imported."""
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError):  # OSError: a binary built for another torch
        return None
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    return module


def version() -> str | None:
    """TorchRL's version; None unless both TorchRL and TensorDict can be imported."""
    torchrl = _module("torchrl")
    return None if torchrl is None or _module("tensordict") is None else str(torchrl.__version__)


def replay_sampler(batch: EpisodeBatch, n: int) -> Work | None:
    """Work that samples `n` whole trajectories, with replacement, from a buffer that holds the batch.

    None without TorchRL.
    """
    if version() is None:
        return None
    data, tensordict = _module("torchrl.data"), _module("tensordict")
    number = torch.arange(batch.n_episodes).repeat_interleave(batch.lengths + 1)
    frames = tensordict.TensorDict({**batch.fields, "episode": number}, [batch.n_frames])
    # A slice of the longest episode's length is always a whole trajectory if shorter slices are allowed.
    longest = int(batch.lengths.max()) + 1
    sampler = data.SliceSampler(slice_len=longest, traj_key="episode", strict_length=False, cache_values=True)
    buffer = data.TensorDictReplayBuffer(
        storage=data.LazyTensorStorage(batch.n_frames), sampler=sampler, batch_size=n * longest
    )
    buffer.extend(frames)
    sample: Work = buffer.sample
    return sample


class Steps:
    """TorchRL's returns and advantages of a batch with one value a step, in its shape (S, 1)."""

    def __init__(
        self,
        batch: EpisodeBatch,
        reward: Tensor,
        value: Tensor,
        next_value: Tensor,
        gamma: float,
        td_lambda: float,
    ) -> None:
        self.settings = gamma, td_lambda
        self.reward, self.value, self.next_value = reward[:, None], value[:, None], next_value[:, None]
        self.ends = torch.zeros(batch.n_steps, 1, dtype=torch.bool)
        self.ends[batch.last_steps] = True
        self.terminated = torch.zeros_like(self.ends)
        self.terminated[batch.last_steps, 0] = batch.terminated
        self._functions = _module("torchrl.objectives.value.functional")

    def lambda_return(self) -> Tensor:
        """λ-returns, [S, 1]."""
        flags = self.ends, self.terminated
        result: Tensor = self._functions.vec_td_lambda_return_estimate(
            *self.settings, self.next_value, self.reward, *flags
        )
        return result

    def gae(self) -> Tensor:
        """Generalised advantage estimates, [S, 1]."""
        flags = self.ends, self.terminated
        result: Tensor = self._functions.vec_generalized_advantage_estimate(
            *self.settings, self.value, self.next_value, self.reward, *flags
        )[0]
        return result
