"""`Seen`: one frame of K episodes side by side, as a policy sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Real
from torch import Tensor

NO_ACTION = -1
"""In the place of an action where there is none, such as the last action at an episode's first frame.

Where actions are vectors, zeros stand there."""


def columns(which: Sequence[int]) -> slice | list[int]:
    """The index of these agents on an axis of all: a slice, for a view, where they stand side by side."""
    first = which[0]
    side_by_side = list(which) == list(range(first, first + len(which)))
    return slice(first, first + len(which)) if side_by_side else list(which)


def no_action(like: Real[Tensor, "..."]) -> int:
    """What stands where there is no action, beside actions such as these."""
    return 0 if like.is_floating_point() else NO_ACTION


class Seats(NamedTuple):
    """Who acts for which agent of K episodes, while there are partners (`endmark.policies.seats`).

    learns: the agents of the policy that is asked. partner: the member of the pool that each agent follows,
    -1 for the learner. actions: what partners do at this frame, `NO_ACTION` or zeros where the policy is to
    act. Only an oracle reads the last two.
    """

    learns: Bool[Tensor, "K N"]
    partner: Int[Tensor, "K N"]
    actions: Real[Tensor, "K N *D"]


class Seen(NamedTuple):
    """The current frame in each of K environments.

    state: None where the environment has none.
    first: where an episode starts, so that a policy's memory starts anew there.
    avail_actions: None where actions are vectors, of which none is illegal.
    last_actions: what all agents did at the step before, numbers or vectors; `NO_ACTION`, or zeros, where an
    episode starts.
    seed: that of each episode. seats: None where one policy acts for all agents.
    """

    obs: Real[Tensor, "K N ..."]
    avail_actions: Bool[Tensor, "K N A"] | None
    alive: Bool[Tensor, "K N"]
    state: Real[Tensor, "K ..."] | None
    first: Bool[Tensor, " K"]
    last_actions: Real[Tensor, "K N *D"]
    seed: Int[Tensor, " K"]
    seats: Seats | None = None

    def to(self, device: torch.device) -> Seen:
        """The same frame on another device; itself where it is there already."""
        if self.obs.device == device:
            return self
        return Seen(
            self.obs.to(device),
            None if self.avail_actions is None else self.avail_actions.to(device),
            self.alive.to(device),
            None if self.state is None else self.state.to(device),
            self.first.to(device),
            self.last_actions.to(device),
            self.seed,  # which nothing on a device reads
            None if self.seats is None else Seats(*(tensor.to(device) for tensor in self.seats)),
        )

    def agents(self, which: Sequence[int]) -> Seen:
        """These agents alone; `state` stays the team's, and so do the last actions."""
        only = columns(which)
        avail_actions = None if self.avail_actions is None else self.avail_actions[:, only]
        return self._replace(obs=self.obs[:, only], avail_actions=avail_actions, alive=self.alive[:, only])

    @property
    def legal(self) -> Bool[Tensor, "K N A"]:
        """The legal actions. ValueError where actions are vectors: who asks chooses among numbered ones."""
        if self.avail_actions is None:
            raise ValueError("avail_actions: given none, as actions are vectors; want numbered actions here")
        return self.avail_actions
