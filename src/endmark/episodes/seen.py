"""`Seen`: one frame of K episodes side by side, as a policy sees it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Real
from torch import Tensor


class Seen(NamedTuple):
    """The current frame in each of K environments.

    first: where an episode starts, so that a policy's memory starts anew there.
    state: None where the environment has none.
    """

    obs: Real[Tensor, "K N ..."]
    avail_actions: Bool[Tensor, "K N A"]
    alive: Bool[Tensor, "K N"]
    state: Real[Tensor, "K ..."] | None
    first: Bool[Tensor, " K"]

    def to(self, device: torch.device) -> Seen:
        """The same frame on another device."""
        state = None if self.state is None else self.state.to(device)
        return Seen(
            self.obs.to(device),
            self.avail_actions.to(device),
            self.alive.to(device),
            state,
            self.first.to(device),
        )

    def agent(self, n: int) -> Seen:
        """Agent n alone; `state` stays the team's."""
        only = slice(n, n + 1)
        return self._replace(
            obs=self.obs[:, only], avail_actions=self.avail_actions[:, only], alive=self.alive[:, only]
        )
