"""Actors of every kind with parameters that show, and the frames that a policy sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from endmark.episodes import NO_ACTION, EpisodeSpec, Seen
from endmark.nets import (
    Actor,
    AgentKind,
    AttentionAgent,
    AttentionOptions,
    FeedForwardAgent,
    RecurrentAgent,
    Share,
)
from support.helpers import make_spec

KINDS = (0, 1, 0)
"""Of the three agents."""
SPEC = make_spec(n_agents=3, n_actions=4, kinds=KINDS)

SMALL = AttentionOptions(heads=1, layers=2, window=4)
"""Fits any even size. Episodes of tests are longer than the window."""

SHARES: tuple[Share, ...] = ("all", "none", "kind")

every_kind = pytest.mark.parametrize("kind", ["gru", "attention", "feedforward"])


def every_actor(test: Callable[..., None]) -> Callable[..., None]:
    """Of every kind, with parameters shared by all agents, by none, and by those of a kind."""
    shared = pytest.mark.parametrize("share", SHARES)
    return every_kind(shared(test))  # type: ignore[no-any-return]


def make_actor(
    spec: EpisodeSpec = SPEC,
    *,
    kind: AgentKind = "gru",
    attention: AttentionOptions = SMALL,
    share: Share = "all",
    last_action: bool = True,
    agent_id: bool = True,
    hidden_size: int = 16,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    obs_scale: float = 1.0,
) -> Actor:
    """obs_scale: of the weights that read observations, for those that are not near 1."""
    actor = Actor.of(
        spec,
        kind=kind,
        attention=attention,
        hidden_size=hidden_size,
        n_outputs=spec.n_actions or spec.action_size,
        last_action=last_action,
        agent_id=agent_id,
        share=share,
    )
    randomise(actor.to(dtype), seed)
    for module in actor.modules():
        if isinstance(module, RecurrentAgent | AttentionAgent | FeedForwardAgent):
            module.encoder.weight.data[:, : module.inputs.obs_size] *= obs_scale
    return actor


def randomise(module: nn.Module, seed: int = 0, scale: float = 0.5) -> None:
    """Every parameter anew, biases too, so that no two are alike and none is small."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = (scale * values).to(parameter.dtype)


def frames(n_envs: int, n_frames: int, seed: int = 0) -> list[Seen]:
    """What a policy sees; at least one action is legal, episodes start at frame 0 and here and there."""
    generator = torch.Generator().manual_seed(seed)
    seen = []
    for t in range(n_frames):
        obs = torch.randn(n_envs, 3, 5, generator=generator)
        avail = torch.rand(n_envs, 3, 4, generator=generator) < 0.4
        legal = torch.randint(0, 4, (n_envs, 3, 1), generator=generator)
        first = torch.rand(n_envs, generator=generator) < (0.2 if t else 2.0)
        alive = torch.ones(n_envs, 3, dtype=torch.bool)
        state = torch.randn(n_envs, 4, generator=generator)
        last_actions = torch.randint(0, 4, (n_envs, 3), generator=generator)
        last_actions[first] = NO_ACTION
        seeds = torch.zeros(n_envs, dtype=torch.int64)
        seen.append(Seen(obs, avail.scatter(2, legal, True), alive, state, first, last_actions, seeds))
    return seen


def one_frame(avail_actions: Tensor) -> Seen:
    """The first frame of episodes with these legal actions [K, N, A], where observations are zeros."""
    n_envs, n_agents, _ = avail_actions.shape
    alive, first = torch.ones(n_envs, n_agents, dtype=torch.bool), torch.ones(n_envs, dtype=torch.bool)
    last_actions = torch.full((n_envs, n_agents), NO_ACTION)
    obs, seeds = torch.zeros(n_envs, n_agents, 5), torch.zeros(n_envs, dtype=torch.int64)
    return Seen(obs, avail_actions, alive, None, first, last_actions, seeds)
