"""Problem shapes, distributions of episode lengths, and random episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from endmark.episodes import EpisodeBatch, EpisodeSpec


@dataclass(frozen=True)
class Shape:
    """The sizes of a problem and of the networks, and the number of episodes in an update."""

    name: str
    limit: int
    n_agents: int
    obs_size: int
    state_size: int
    n_actions: int
    batch_size: int
    hidden_size: int = 64
    embed_size: int = 32
    hyper_size: int = 64

    def spec(self, limit: int | None = None) -> EpisodeSpec:
        """The spec of the shape's episodes. limit: replaces the shape's own limit."""
        return EpisodeSpec.of(
            n_agents=self.n_agents,
            n_actions=self.n_actions,
            episode_limit=limit or self.limit,
            obs_shape=(self.obs_size,),
            state_shape=(self.state_size,),
        )


EIGHT_MARINES = Shape("8m", 120, n_agents=8, obs_size=80, state_size=168, n_actions=14, batch_size=32)
"""StarCraft's 8m (Samvelyan et al. 2019, arXiv:1902.04043); sizes as PyMARL reports them."""
TINY = Shape("tiny", 12, 3, 5, 7, 4, batch_size=6, hidden_size=8, embed_size=4, hyper_size=6)
"""For a smoke test."""

Lengths = Callable[[int, int, torch.Generator], Tensor]
"""A distribution: steps of each episode, from the number of episodes, the limit and a generator."""


def full(n: int, limit: int, generator: torch.Generator) -> Tensor:  # noqa: ARG001
    """Every episode runs to the limit."""
    return torch.full((n,), limit)


def uniform(n: int, limit: int, generator: torch.Generator) -> Tensor:
    """Uniform between one sixth and five sixths of the limit: 20 to 100 of 120."""
    return torch.randint(limit // 6, limit * 5 // 6 + 1, (n,), generator=generator)


def straggler(n: int, limit: int, generator: torch.Generator) -> Tensor:
    """One episode at the limit, the others between 1/12 and 5/12 of it: 10 to 50 of 120."""
    lengths = torch.randint(max(1, limit // 12), limit * 5 // 12 + 1, (n,), generator=generator)
    lengths[n // 2] = limit
    return lengths


def third(n: int, limit: int, generator: torch.Generator) -> Tensor:
    """Uniform with a mean of a third of the limit."""
    return torch.randint(limit // 6, limit // 2 + 1, (n,), generator=generator)


def episodes(spec: EpisodeSpec, lengths: Tensor, *, seed: int, leaves: bool = False) -> EpisodeBatch:
    """Random episodes of these lengths; about half of them are truncated.

    leaves: agents other than the first may leave before the end.
    """
    generator = torch.Generator().manual_seed(seed)
    n_frames, n_agents, n_actions = int(lengths.sum()) + len(lengths), spec.n_agents, spec.n_actions
    actions = torch.randint(n_actions, (n_frames, n_agents), generator=generator)
    avail = torch.rand(n_frames, n_agents, n_actions, generator=generator) < 0.5
    alive = torch.ones(n_frames, n_agents, dtype=torch.bool)
    if leaves:
        parts = []
        for length in lengths.tolist():
            last = torch.randint(1, 2 * length + 2, (n_agents,), generator=generator)
            last[0] = length + 1
            parts.append(torch.arange(length + 1)[:, None] < last)
        alive = torch.cat(parts)
    fields = {
        "obs": torch.randn(n_frames, *spec.fields["obs"].shape, generator=generator),
        "avail_actions": avail.scatter(2, actions[..., None], True),
        "alive": alive,
        "actions": actions,
        "reward": torch.randn(n_frames, generator=generator),
    }
    if "state" in spec.fields:
        fields["state"] = torch.randn(n_frames, *spec.fields["state"].shape, generator=generator)
    terminated = torch.rand(len(lengths), generator=generator) < 0.5
    return EpisodeBatch(spec, fields, lengths, terminated)


def with_limit(batch: EpisodeBatch, spec: EpisodeSpec) -> EpisodeBatch:
    """The same episodes under a spec that differs only in its limit."""
    return replace(batch, spec=spec, checked=True)
