"""Critics against a loop over episodes and frames in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, EpisodeSpec, Field
from endmark.nets import (
    Actor,
    AgentKind,
    AttentionAgent,
    CentralCritic,
    FeedForwardAgent,
    OwnCritic,
    RecurrentAgent,
    Share,
)
from support.actors import SMALL, every_kind, randomise
from support.attention_naive import attention_naive
from support.helpers import make_batch, make_spec, random_batch, with_garbage

Critic = TypeVar("Critic", bound=nn.Module)
every_spec = pytest.mark.parametrize("state", [True, False], ids=["state", "no state"])
shared = pytest.mark.parametrize("share", ["all", "none"], ids=["shared", "independent"])


def double(spec: EpisodeSpec) -> EpisodeSpec:
    """Of float64 in what is seen."""
    seen = {
        name: replace(spec.fields[name], dtype=torch.float64)
        for name in ("obs", "state")
        if name in spec.fields
    }
    return replace(spec, fields={**spec.fields, **seen})


def own_critic(spec: EpisodeSpec, kind: AgentKind, share: Share = "all") -> OwnCritic:
    actor = Actor.of(
        spec,
        kind=kind,
        attention=SMALL,
        hidden_size=6,
        n_outputs=1,
        last_action=True,
        agent_id=True,
        share=share,
    )
    return randomised(OwnCritic(actor))


def central_critic(spec: EpisodeSpec, kind: AgentKind, n_values: int) -> CentralCritic:
    return randomised(CentralCritic(spec, kind=kind, hidden_size=6, n_values=n_values, attention=SMALL))


def randomised(critic: Critic) -> Critic:
    randomise(critic.double())
    return critic


def trunk_naive(trunk: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    """Features of one episode, frame by frame, by torch's own layers."""
    features = []
    if isinstance(trunk, AttentionAgent):
        return [row[0] for row in attention_naive(trunk, [x[None] for x in inputs])]
    assert isinstance(trunk, RecurrentAgent | FeedForwardAgent)
    hidden = torch.zeros(1, 6, dtype=torch.float64)
    for x in inputs:
        encoded = torch.relu(trunk.encoder(x[None]))
        if isinstance(trunk, RecurrentAgent):
            hidden = trunk.recurrence(encoded, hidden)
            features.append(hidden[0])
        else:
            features.append(torch.relu(trunk.hidden(encoded))[0])
    return features


def state_naive(episode: EpisodeBatch, t: int) -> Tensor:
    """The state, or all observations side by side, zeros for an agent that has left."""
    if "state" in episode.fields:
        return episode["state"][t].flatten()
    seen = [
        episode.obs[t, n] if episode.alive[t, n] else torch.zeros_like(episode.obs[t, n])
        for n in range(episode.spec.n_agents)
    ]
    return torch.cat([own.flatten() for own in seen])


def central_naive(critic: CentralCritic, batch: EpisodeBatch) -> Tensor:
    values = []
    for episode in batch.split():
        inputs = [state_naive(episode, t) for t in range(episode.n_frames)]
        values += [critic.head(features) for features in trunk_naive(critic.trunk, inputs)]
    return torch.stack(values)


def own_naive(critic: OwnCritic, batch: EpisodeBatch, share: Share) -> Tensor:
    n_agents, n_actions = batch.spec.n_agents, batch.spec.n_actions
    values = torch.zeros(batch.n_frames, n_agents, dtype=torch.float64)
    frame = 0
    for episode in batch.split():
        for n in range(n_agents):
            inputs = []
            for t in range(episode.n_frames):
                last, number = torch.zeros(n_actions).double(), torch.zeros(n_agents).double()
                number[n] = 1
                if t > 0:
                    last[episode["actions"][t - 1, n]] = 1
                inputs.append(torch.cat([episode.obs[t, n], last, *([number] if share == "all" else [])]))
            agent: Any = critic.actor.agent
            head: Any = critic.actor.head
            if share == "none":
                agent, head = agent.agents[n], head.heads[n]
            for t, features in enumerate(trunk_naive(agent, inputs)):
                values[frame + t, n] = head.linear(features)[0]
        frame += episode.n_frames
    return values


def assert_the_same_and_every_gradient(critic: nn.Module, given: Tensor, want: Tensor) -> None:
    """And every parameter has one."""
    torch.testing.assert_close(given, want, rtol=1e-10, atol=1e-10)
    direction = torch.randn(given.shape, dtype=torch.float64)
    names, parameters = zip(*critic.named_parameters(), strict=True)
    gradients = (torch.autograd.grad(values, parameters, direction) for values in (given, want))
    for name, one, other in zip(names, *gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10, msg=name)
        assert (one != 0).any(), name


@every_kind
@every_spec
@pytest.mark.parametrize("n_values", [1, 3])
@pytest.mark.parametrize("seed", range(2))
def test_the_central_critic_is_the_naive_loop(seed: int, n_values: int, state: bool, kind: AgentKind) -> None:
    spec = double(make_spec(state=state))
    batch, critic = random_batch(seed, n_episodes=8, spec=spec), central_critic(spec, kind, n_values)
    values = critic(batch)
    assert values.shape == (batch.n_frames, n_values)
    assert_the_same_and_every_gradient(critic, values, central_naive(critic, batch))


@every_kind
@every_spec
@shared
@pytest.mark.parametrize("seed", range(2))
def test_the_own_critic_is_the_naive_loop(seed: int, share: Share, state: bool, kind: AgentKind) -> None:
    spec = double(make_spec(state=state))
    batch, critic = random_batch(seed, n_episodes=8, spec=spec), own_critic(spec, kind, share)
    values = critic(batch)
    assert values.shape == (batch.n_frames, 3)
    assert_the_same_and_every_gradient(critic, values, own_naive(critic, batch, share))


@every_kind
@every_spec
def test_company_order_and_garbage_do_not_matter(state: bool, kind: AgentKind) -> None:
    spec = double(make_spec(state=state))
    batch = random_batch(3, n_episodes=7, spec=spec)
    for critic in (own_critic(spec, kind), central_critic(spec, kind, 2)):
        with torch.no_grad():
            alone = [critic(episode) for episode in batch.split()]
            assert torch.equal(critic(with_garbage(batch, 9)), critic(batch))
            for some in ([6, 5, 4, 3, 2, 1, 0], [2, 2, 5]):
                want = torch.cat([alone[e] for e in some])
                torch.testing.assert_close(critic(batch.select(some)), want, rtol=1e-10, atol=1e-10)


@every_kind
def test_what_an_agent_that_has_left_observes_is_no_part_of_the_state(kind: AgentKind) -> None:
    spec = double(make_spec(state=False))
    batch, critic = random_batch(2, n_episodes=8, spec=spec), central_critic(spec, kind, 1)
    assert not batch.alive.all()
    obs = torch.where(batch.alive[..., None], batch.obs, torch.nan)
    other = replace(batch, fields={**batch.fields, "obs": obs}, checked=True)
    assert torch.equal(critic(other), critic(batch))


@every_kind
@pytest.mark.parametrize("state_shape", [(), (1,), (2, 3)])
def test_states_of_any_shape(state_shape: tuple[int, ...], kind: AgentKind) -> None:
    spec = make_spec()
    spec = double(replace(spec, fields={**spec.fields, "state": Field(state_shape, torch.float32)}))
    batch, critic = make_batch(spec, [2, 5], [True, False]), central_critic(spec, kind, 3)
    torch.testing.assert_close(critic(batch), central_naive(critic, batch), rtol=1e-10, atol=1e-10)
