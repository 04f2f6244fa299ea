"""What acts, and what episodes start from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@runtime_checkable
class Policy(Protocol):
    """Acts in K environments at once, and remembers what it needs from frame to frame."""

    def act(
        self, obs: Float[Tensor, "K N ..."], avail_actions: Bool[Tensor, "K N A"], first: Bool[Tensor, " K"]
    ) -> Int[Tensor, "K N"]:
        """A legal action for each agent; `first` says where an episode starts, so that memory starts anew.

        The tensors are the same at every call, with new numbers in them.
        """
        ...


class RandomPolicy:
    """Every legal action is equally likely."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def act(
        self,
        obs: Float[Tensor, "K N ..."],  # noqa: ARG002
        avail_actions: Bool[Tensor, "K N A"],
        first: Bool[Tensor, " K"],  # noqa: ARG002
    ) -> Int[Tensor, "K N"]:
        """An action for each agent."""
        noise = torch.rand(avail_actions.shape, generator=self.generator)
        return torch.where(avail_actions, noise, -1.0).argmax(-1)


def episode_seeds(*entropy: int) -> Iterator[int]:
    """An endless sequence of seeds, the same for the same entropy."""
    generator = np.random.Generator(np.random.PCG64(entropy))
    while True:
        yield int(generator.integers(2**31))
