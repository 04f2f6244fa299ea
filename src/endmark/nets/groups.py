"""Which agents share a network: groups of a team's agents, and tensors of groups put together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from endmark.episodes import EpisodeSpec
from endmark.episodes.seen import columns

Share = Literal["all", "none", "kind"]
"""Which agents share one network: all, none, or those of one kind, by `EpisodeSpec.kinds`."""
Groups = tuple[tuple[int, ...], ...]
"""The agents of each network, ascending; together they are 0 .. N-1."""


def groups_of(spec: EpisodeSpec, share: Share) -> Groups:
    """One group of all agents, one for each agent, or one for each kind in the order of `spec.kinds`."""
    agents = range(spec.n_agents)
    if share == "all":
        return (tuple(agents),)
    if share == "none":
        return tuple((n,) for n in agents)
    return tuple(tuple(n for n in agents if spec.kinds[n] == kind) for kind in range(max(spec.kinds) + 1))


def split(tensor: Tensor, groups: Groups, dim: int) -> list[Tensor]:
    """The part of each group, of a tensor with an axis of N agents."""
    axis = dim % tensor.ndim
    return [tensor[(slice(None),) * axis + (columns(group),)] for group in groups]


def join(parts: Sequence[Tensor], groups: Groups, dim: int) -> Tensor:
    """The tensor of N agents from the parts of groups."""
    together = torch.cat(list(parts), dim)
    agents = [n for group in groups for n in group]
    if agents == sorted(agents):
        return together
    places = torch.tensor([agents.index(n) for n in range(len(agents))], device=together.device)
    return together.index_select(dim, places)
