"""Agents of one kind share networks, kinds do not: laws, for every algorithm that has the setting."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.algorithms import ALGORITHMS
from endmark.algorithms.agent_settings import TeamSettings
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets import Actor, AgentKind, IndependentAgents, Share
from support.actors import SHARES, every_kind
from support.helpers import make_spec, random_batch

NAMES = [name for name, kind in ALGORITHMS.items() if issubclass(kind, TeamSettings) and name != "happo"]
TAKE_VECTORS = [name for name in NAMES if getattr(ALGORITHMS[name], "TAKES_VECTORS", False)]
CASES = [*((name, False) for name in NAMES), *((name, True) for name in TAKE_VECTORS)]


def spec_of(*kinds: int, vectors: bool = False) -> EpisodeSpec:
    return make_spec(n_agents=len(kinds), kinds=kinds, vectors=vectors, limit=5)


def make_learner(name: str, spec: EpisodeSpec, share: Share, **settings: Any) -> Any:
    torch.manual_seed(0)
    kind: Any = ALGORITHMS[name]
    return kind(hidden_size=8, share=share, **settings).learner(spec, torch.device("cpu"))


def played(learner: Any, seed: int = 1) -> EpisodeBatch:
    batch = random_batch(seed, n_episodes=4, spec=learner.spec)
    if "log_prob" in batch.fields:
        batch["log_prob"].fill_(-1.0)
    if "avail_actions" in batch.fields:
        batch["avail_actions"].fill_(True)
    return batch


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for key, tensor in one.items():
        assert torch.equal(tensor, other[key]), key


@pytest.mark.parametrize(("name", "vectors"), CASES)
@pytest.mark.parametrize(
    ("kinds", "like"), [((0, 0, 0), "all"), ((0, 1, 2), "none")], ids=["one kind", "N kinds"]
)
def test_by_kind_is_one_of_the_two_where_all_are_alike_or_none_is(
    kinds: tuple[int, ...], like: Share, name: str, vectors: bool
) -> None:
    """In every bit: the same names, weights at the start, metrics and weights after updates."""
    spec = spec_of(*kinds, vectors=vectors)
    given, want = make_learner(name, spec, "kind"), make_learner(name, spec, like)
    assert_same_bits(given.networks.state_dict(), want.networks.state_dict())
    for seed in range(2):
        assert_same_bits(given.update(played(given, seed)), want.update(played(want, seed)))
    assert_same_bits(given.networks.state_dict(), want.networks.state_dict())


@every_kind
@pytest.mark.parametrize("vectors", [False, True])
def test_an_actor_has_a_network_for_each_kind_which_reads_its_own_agents(
    vectors: bool, kind: AgentKind
) -> None:
    """Against each group's own actor on its own batch, in value and in every gradient."""
    spec = replace(spec_of(0, 1, 0, 1, vectors=vectors), kinds=(0, 1, 0, 1))
    batch = random_batch(2, n_episodes=6, spec=spec)
    actor = Actor.of(spec, n_outputs=4, hidden_size=8, kind=kind, share="kind")
    assert isinstance(actor.agent, IndependentAgents)
    heads: Any = actor.head
    assert len(actor.agent.agents) == 2
    values = actor(batch)
    direction = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    of = dict(
        zip(actor.parameters(), torch.autograd.grad(values, list(actor.parameters()), direction), strict=True)
    )
    for i, group in enumerate([[0, 2], [1, 3]]):
        own = Actor(actor.agent.agents[i], heads.heads[i])
        alone = own(batch.agents(group))
        torch.testing.assert_close(values[:, group], alone)
        wants = torch.autograd.grad(alone, list(own.parameters()), direction[:, group])
        for parameter, want in zip(own.parameters(), wants, strict=True):
            torch.testing.assert_close(of[parameter], want, rtol=1e-4, atol=1e-5)


@every_kind
@pytest.mark.parametrize(("name", "vectors"), [("iql", False), ("ippo", False), ("ippo", True)])
def test_the_loss_of_one_kind_does_not_reach_the_weights_of_another(
    name: str, vectors: bool, kind: AgentKind
) -> None:
    """Actors and critics: of agents 0 and 2 only those of kind 0 learn, where nobody of kind 1 counts."""
    spec = spec_of(0, 1, 0, vectors=vectors)
    settings: dict[str, Any] = {"reward": "agent"} if name == "ippo" else {}
    learner = make_learner(name, spec, "kind", agent=kind, attention_heads=2, **settings)
    batch = played(learner)
    alive = torch.ones_like(batch.alive)
    alive[:, 1] = False
    batch = replace(batch, fields={**batch.fields, "alive": alive}, checked=True)
    loss = learner.loss(batch)["loss"]
    named = {key: p for key, p in learner.networks.named_parameters() if p.requires_grad}
    moved = {True: 0, False: 0}
    for (key, parameter), gradient in zip(
        named.items(), torch.autograd.grad(loss, list(named.values())), strict=True
    ):
        first = ".agents.0." in key or ".heads.0." in key
        assert first or ".agents.1." in key or ".heads.1." in key, key
        moved[first] += int((gradient != 0).any())
        assert first or not (gradient != 0).any(), key
        del parameter
    assert moved[True] > 5
    assert moved[False] == 0


@pytest.mark.parametrize("name", NAMES)
def test_how_many_networks_act(name: str) -> None:
    spec = spec_of(0, 1, 0)
    sizes = {}
    for share in SHARES:
        actor = make_learner(name, spec, share).actor
        sizes[share] = sum(p.numel() for p in actor.parameters())
    assert sizes["all"] < sizes["kind"] < sizes["none"]


@pytest.mark.parametrize("vectors", [False, True])
def test_acting_is_by_the_network_of_the_kind(vectors: bool) -> None:
    """A copy in which kind 1 has other weights acts otherwise for agent 1 alone."""
    spec = spec_of(0, 1, 0, vectors=vectors)
    learner = make_learner("ippo", spec, "kind", agent="feedforward", last_action=False)
    other = copy.deepcopy(learner)
    with torch.no_grad():
        for parameter in other.actor.agent.agents[1].parameters():
            parameter.add_(0.5)
    batch = played(learner)
    one, two = (each.actor.agent.features(batch) for each in (learner, other))
    assert (one != two).any(-1).any(0).tolist() == [False, True, False]
