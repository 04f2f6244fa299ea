"""Actions of a padded batch that cannot have been taken."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from endmark.inspect.source import Source

ACTIONS_UP_TO = 1_000_000
"""Where no field says how many actions there are, one beyond this is taken for rubbish."""


@dataclass(frozen=True)
class WrongActions:
    """Actions on real steps that cannot have been taken.

    n_actions: A, of `avail_actions` or `actions_onehot`; None where neither is stored.
    outside: how many are no action: not whole, below 0, or not below A. `EpisodeBatch` refuses these.
    illegal: how many `avail_actions` does not allow, of agents alive. `EpisodeBatch` does not look at that.
    first_outside, first_illegal: row, t, agent and action of the first one; None if there is none.
    """

    n_actions: int | None
    outside: int
    illegal: int
    first_outside: tuple[int, int, int, str] | None
    first_illegal: tuple[int, int, int, str] | None


def find_wrong_actions(source: Source, steps: Bool[Tensor, "B T_plus_1"]) -> WrongActions | None:
    """What is wrong with the actions of real steps; None if nothing is, or none are stored.

    Vectors have no bounds in a padded batch: whether they are finite is looked at as for every other field.
    """
    stored, avail = source.tensors.get("actions"), source.tensors.get("avail_actions")
    if stored is None or stored.is_complex() or stored.ndim < 3:
        return None
    onehot = source.tensors.get("actions_onehot")
    several = stored.is_floating_point() and stored.ndim == 4 and stored.shape[3] > 1
    if source.vectors or (avail is None and onehot is None and several):
        return None
    n_actions = next((t.shape[-1] for t in (avail, onehot) if t is not None and t.ndim == 4), None)
    taken = stored.flatten(2).double()
    real = steps[..., None].expand_as(taken)
    most = ACTIONS_UP_TO if n_actions is None else n_actions
    is_action = (taken >= 0) & (taken < most) & (taken == taken.floor())
    outside = real & ~is_action
    illegal = torch.zeros_like(outside)
    if avail is not None and avail.ndim == 4 and avail.shape[2] == taken.shape[2] and n_actions:
        index = torch.where(is_action, taken, 0.0).long()[..., None]
        legal = (avail != 0).gather(3, index)[..., 0]
        illegal = real & is_action & ~legal & _alive(source, taken)
    if not outside.any() and not illegal.any():
        return None

    def first(found: Tensor) -> tuple[int, int, int, str] | None:
        if not found.any():
            return None
        row, t, agent = found.nonzero()[0].tolist()
        return row, t, agent, str(stored.flatten(2)[row, t, agent].item())

    counts = int(outside.sum()), int(illegal.sum())
    return WrongActions(n_actions, *counts, first(outside), first(illegal))


def _alive(source: Source, taken: Tensor) -> Tensor:
    """Which agents take part, as far as it is stored."""
    alive = source.tensors.get("alive")
    if alive is None or alive.ndim < 3 or alive.flatten(2).shape != taken.shape:
        return torch.ones_like(taken, dtype=torch.bool)
    return alive.flatten(2) != 0
