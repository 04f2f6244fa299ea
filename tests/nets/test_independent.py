"""Without parameter sharing: N networks, each of which knows its own agent alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from endmark.episodes import EpisodeSpec
from endmark.nets import Actor, AgentKind, Head, IndependentAgents, IndependentHeads, LinearHead
from support.actors import SMALL, every_kind, make_actor, randomise
from support.helpers import make_spec, random_batch

SPEC = make_spec(obs_dtype=torch.float64)


def make(kind: AgentKind, spec: EpisodeSpec = SPEC) -> Actor:
    return make_actor(spec, kind=kind, share="none", hidden_size=6, dtype=torch.float64)


def make_heads() -> IndependentHeads:
    heads = IndependentHeads([LinearHead(5, 4) for _ in range(3)], ((0,), (1,), (2,))).double()
    randomise(heads)
    return heads


def alone(actor: Actor, n: int) -> Actor:
    """Agent n's own network and head."""
    assert isinstance(actor.agent, IndependentAgents)
    assert isinstance(actor.head, IndependentHeads)
    return Actor(actor.agent.agents[n], actor.head.heads[n])


@every_kind
@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("reward_per_agent", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_they_are_separate_agents_each_on_its_own_batch(
    seed: int, reward_per_agent: bool, state: bool, kind: AgentKind
) -> None:
    """In value, and in the gradient of every parameter."""
    spec = make_spec(obs_dtype=torch.float64, state=state, reward_per_agent=reward_per_agent)
    batch, actor = random_batch(seed, n_episodes=8, spec=spec), make(kind, spec)
    together = actor(batch)
    direction = torch.randn(together.shape, dtype=torch.float64)
    gradients = torch.autograd.grad(together, list(actor.parameters()), direction)
    of = dict(zip(actor.parameters(), gradients, strict=True))
    for n in range(3):
        own = alone(actor, n)
        values = own(batch.agent(n))
        torch.testing.assert_close(together[:, [n]], values, rtol=1e-12, atol=1e-12)
        wants = torch.autograd.grad(values, list(own.parameters()), direction[:, [n]])
        for parameter, want in zip(own.parameters(), wants, strict=True):
            torch.testing.assert_close(of[parameter], want, rtol=1e-10, atol=1e-10)


@every_kind
def test_no_parameter_is_shared(kind: AgentKind) -> None:
    actor = make(kind)
    places = [parameter.data_ptr() for n in range(3) for parameter in alone(actor, n).parameters()]
    assert len(set(places)) == len(places) == len(list(actor.parameters()))
    # Nor are they alike when they are new.
    new = Actor.of(
        SPEC,
        kind=kind,
        attention=SMALL,
        hidden_size=6,
        n_outputs=4,
        last_action=True,
        agent_id=True,
        share="none",
    )
    firsts = [next(alone(new, n).parameters()) for n in range(3)]
    assert not torch.equal(firsts[0], firsts[1])
    assert not torch.equal(firsts[1], firsts[2])


@every_kind
@pytest.mark.parametrize("name", ["obs", "actions"])
def test_what_one_agent_sees_or_does_is_nothing_to_the_others(kind: AgentKind, name: str) -> None:
    actor, batch = make(kind), random_batch(1, spec=SPEC)
    changed = batch[name].clone()
    changed[:, 1] = changed[:, 1].flip(0) if name == "obs" else (batch["actions"][:, 1].clamp(0, 3) + 1) % 4
    other = actor(replace(batch, fields={**batch.fields, name: changed}, checked=True))
    moved = (other != actor(batch)).any(-1).any(0)
    assert moved.tolist() == [False, True, False]


@every_kind
def test_one_agent_shares_with_nobody_whatever_is_asked(kind: AgentKind) -> None:
    actor = make(kind, make_spec(n_agents=1, obs_dtype=torch.float64))
    assert not isinstance(actor.agent, IndependentAgents)
    assert isinstance(actor.head, LinearHead)


# Heads.


def random_inputs(*rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features, an index that is at times -1, and legal actions, of which there may be none."""
    features = torch.randn(*rows, 3, 5, dtype=torch.float64)
    return features, torch.randint(-1, 4, (*rows, 3)), torch.rand(*rows, 3, 4) < 0.5


@pytest.mark.parametrize("rows", [(40,), (6, 7)])
def test_each_head_reads_its_own_agent(rows: tuple[int, ...]) -> None:
    heads = make_heads()
    assert isinstance(heads, Head)
    features, index, legal = random_inputs(*rows)
    features.requires_grad_()
    outputs, chosen = heads.outputs(features), heads.chosen(features, index)
    greedy = heads.greedy(features, legal)
    assert (outputs.shape, chosen.shape, greedy.shape) == ((*rows, 3, 4), (*rows, 3), (*rows, 3))
    for n, head in enumerate(heads.heads):
        assert isinstance(head, LinearHead)
        own = features[..., n, :] @ head.linear.weight.T + head.linear.bias
        torch.testing.assert_close(outputs[..., n, :], own)
        best = own.masked_fill(~legal[..., n, :], -torch.inf).argmax(-1)
        assert torch.equal(greedy[..., n], torch.where(legal[..., n, :].any(-1), best, 0))


@pytest.mark.parametrize("rows", [(40,), (6, 7)])
def test_the_chosen_output_is_that_of_outputs(rows: tuple[int, ...]) -> None:
    """And its gradient, to every parameter and to the features."""
    heads = make_heads()
    features, index, _ = random_inputs(*rows)
    features.requires_grad_()
    chosen = heads.chosen(features, index)
    outputs = heads.outputs(features)
    want = torch.where(index < 0, 0.0, outputs.gather(-1, index.clamp(min=0)[..., None])[..., 0])
    torch.testing.assert_close(chosen, want)
    direction, of = torch.randn(chosen.shape, dtype=torch.float64), [features, *heads.parameters()]
    gradients = (torch.autograd.grad(y, of, direction) for y in (chosen, want))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
        assert (one != 0).any()


def test_no_parameter_of_the_heads_is_shared() -> None:
    heads = make_heads()
    places = [parameter.data_ptr() for parameter in heads.parameters()]
    assert len(places) == len(set(places)) == 6
