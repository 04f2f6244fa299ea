"""COMA and HAPPO against padded losses written out, and by the laws that define them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.algorithms import ALGORITHMS, COMALearner, HAPPOLearner, PPOLearner
from endmark.algorithms.coma import expected, frame_value
from endmark.algorithms.happo import carried
from endmark.episodes import EpisodeBatch, EpisodeSpec, Field
from support.helpers import make_spec, random_batch, with_garbage
from support.padded_oracle import perturb
from support.padded_turns import padded_coma_loss, padded_happo_loss
from support.seated import seated_batch


def make_learner(name: str, spec: EpisodeSpec, *, seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    kind: Any = ALGORITHMS[name]
    learner = kind(hidden_size=9, **settings).learner(spec, torch.device("cpu"))
    perturb(learner.networks, torch.Generator().manual_seed(seed + 1))
    return learner


def played(spec: EpisodeSpec, seed: int, *, n_episodes: int = 6) -> EpisodeBatch:
    """Random episodes with legal actions, and log-probabilities of some older policy."""
    batch = random_batch(seed, n_episodes=n_episodes, spec=spec)
    if spec.bounds is None:
        avail, steps = batch.avail_actions.clone(), batch.step_frames
        avail[steps] = avail[steps].scatter(2, batch.steps("actions")[..., None], True)
        batch = EpisodeBatch(spec, {**batch.fields, "avail_actions": avail}, batch.lengths, batch.terminated)
    draws = torch.Generator().manual_seed(seed)
    log_prob = -torch.rand(batch.n_steps, spec.n_agents, generator=draws) * 2
    return with_garbage(batch.with_steps(log_prob=log_prob), seed)


def in_float64(learner: Any, batch: EpisodeBatch) -> tuple[EpisodeBatch, dict[str, Tensor]]:
    learner.networks.double()
    fields, padded = (
        {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}
        for tensors in (batch.fields, batch.to_padded())
    )
    return replace(batch, fields=fields, checked=True), padded


def assert_agrees(learner: Any, given: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(given, want, rtol=1e-6, atol=1e-9)
    named = {name: p for name, p in learner.networks.named_parameters() if p.requires_grad}
    mine, its = (torch.autograd.grad(loss, list(named.values())) for loss in (given, want))
    for name, a, b in zip(named, mine, its, strict=True):
        size = float(b.abs().max())
        assert size > 0, f"{name}: a gradient of zero shows nothing"
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * size, msg=name)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("name", "oracle"), [("coma", padded_coma_loss), ("happo", padded_happo_loss)])
def test_the_padded_loss_agrees_in_value_and_in_every_gradient(name: str, oracle: Any, seed: int) -> None:
    kinds = (0, 1, 0)[: 2 + seed % 2]
    spec = make_spec(n_agents=2 + seed % 2, reward_per_agent=seed % 2 == 0, state=seed % 3 > 0, kinds=kinds)
    settings: dict[str, Any] = {"normalise_advantage": seed != 2, "agent": ["gru", "feedforward"][seed % 2]}
    if name == "coma":
        settings |= {"share": ("all", "kind", "none")[seed % 3], "td_lambda": [0.0, 0.8, 1.0][seed % 3]}
    else:
        settings |= {"critic": ["team", "central", "own"][seed % 3]}
    learner = make_learner(name, spec, seed=seed, **settings)
    batch = played(spec, seed)
    assert not batch.alive.all()
    assert not batch.terminated.all()
    batch, padded = in_float64(learner, batch)
    assert_agrees(learner, learner.loss(batch)["loss"], oracle(learner, padded))


# --- COMA ---


def test_the_advantage_of_what_the_policy_would_do_is_zero_on_average() -> None:
    """Σ_a π(a) (Q(a) - Σ_b π(b) Q(b)) = 0, over the legal actions, whatever the illegal ones are worth."""
    draws = torch.Generator().manual_seed(0)
    log_probs = torch.randn(50, 4, generator=draws).double()
    log_probs[torch.rand(50, 4, generator=draws) < 0.4] = -torch.inf
    log_probs[:, 0] = 0.3
    log_probs = log_probs.log_softmax(-1)
    q = torch.randn(50, 4, generator=draws).double()
    q[log_probs == -torch.inf] = torch.nan
    advantage = q - expected(q, log_probs)[:, None]
    torch.testing.assert_close(expected(advantage, log_probs), torch.zeros(50).double(), atol=1e-12, rtol=0)


def test_an_agents_own_action_is_no_input_of_its_values() -> None:
    spec = make_spec()
    learner: COMALearner = make_learner("coma", spec)
    batch = played(spec, 1)
    actions = batch.actions_taken
    before = learner.networks.critic(batch, actions)
    other = actions.clone()
    other[:, 1] = (other[:, 1].clamp(min=0) + 1) % spec.n_actions
    after = learner.networks.critic(batch, other)
    assert torch.equal(before[:, 1], after[:, 1])
    moved = (before != after).any(-1)
    assert moved[:, 0].all()
    assert moved[:, 2].all()


def test_the_value_of_a_frame_is_a_mean_over_agents_that_learn_there() -> None:
    batch = played(make_spec(), 4)
    value = torch.randn(batch.n_frames, 3, generator=torch.Generator().manual_seed(0))
    value[~batch.alive] = torch.nan
    given = frame_value(value, batch)
    for f in range(batch.n_frames):
        of = [float(value[f, n]) for n in range(3) if batch.alive[f, n]]
        assert float(given[f]) == pytest.approx(sum(of) / len(of) if of else 0.0, abs=1e-6)


def test_the_slow_critic_follows_and_nothing_else_moves_it() -> None:
    spec = make_spec()
    learner: COMALearner = make_learner("coma", spec, target_tau=0.25)
    slow, before = learner.networks.target_critic, copy.deepcopy(learner.networks.target_critic)
    learner.update(played(spec, 2))
    fast = learner.networks.critic
    for old, now, new in zip(before.parameters(), slow.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(now, old + 0.25 * (new - old))


# --- HAPPO ---


def test_the_factor_is_the_product_of_ratios_of_agents_that_are_there() -> None:
    """Against a loop, with NaN where an agent has left: two known implementations multiply it in."""
    draws = torch.Generator().manual_seed(0)
    before, after = (torch.randn(3, 20, 1, generator=draws).double() for _ in range(2))
    there = torch.rand(3, 20, 1, generator=draws) < 0.6
    after[~there] = torch.nan
    factor = torch.ones(20, 1).double()
    for n in range(3):
        factor = carried(factor, before[n], after[n], there[n])
    for s in range(20):
        want = 1.0
        for n in range(3):
            if there[n, s, 0]:
                want *= float((after[n, s, 0] - before[n, s, 0]).exp())
        assert float(factor[s, 0]) == pytest.approx(want)


def plain_turns(learner: HAPPOLearner, batch: EpisodeBatch) -> None:
    """An update of one epoch and one minibatch with A, M and the clipped surrogate by loops over steps."""
    config, networks = learner.config, learner.networks
    value = networks.critic(batch).detach()
    mean, std = networks.value_moments.mean, networks.value_moments.std
    value = value * std + mean
    advantage = torch.zeros(batch.n_steps, dtype=torch.float64)
    at, start = 0, 0
    for e, length in enumerate(batch.lengths.tolist()):
        following = 0.0
        for t in reversed(range(length)):
            ends = t == length - 1 and bool(batch.terminated[e])
            future = 0.0 if ends else config.gamma * float(value[start + t + 1, 0])
            delta = float(batch.steps("reward")[at + t]) + future - float(value[start + t, 0])
            carried_on = 0.0 if t == length - 1 else config.gamma * config.gae_lambda * following
            following = delta + carried_on
            advantage[at + t] = following
        at, start = at + length, start + length + 1
    advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
    factor = [1.0] * batch.n_steps
    order = torch.randperm(2, generator=copy.deepcopy(learner._generator)).tolist()
    alive = batch.alive[batch.step_frames]
    for n in order:
        own = networks.actor.alone(n)
        log_prob, entropy = (terms[:, 0] for terms in learner.distribution.terms(own, batch.agent(n)))
        before, terms = log_prob.detach().clone(), []
        for s in range(batch.n_steps):
            if alive[s, n]:
                ratio = (log_prob[s] - batch.steps("log_prob")[s, n]).exp()
                weight = factor[s] * float(advantage[s])
                clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
                terms.append(torch.min(ratio * weight, clipped * weight) + config.entropy_coef * entropy[s])
        parameters = list(own.parameters())
        optimiser = torch.optim.Adam(parameters, lr=config.actor_lr, eps=1e-5)
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(-torch.stack(terms).mean(), parameters), strict=True
        ):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimiser.step()
        after = learner.distribution.terms(own, batch.agent(n))[0][:, 0].detach()
        for s in range(batch.n_steps):
            if alive[s, n]:
                factor[s] *= float((after[s] - before[s]).exp())


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_agents_are_updated_one_after_the_other_each_with_the_factor_of_those_before(
    seed: int, vectors: bool
) -> None:
    spec = make_spec(n_agents=2, vectors=vectors)
    learner: HAPPOLearner = make_learner(
        "happo", spec, seed=seed, epochs=1, normalise_value=False, actor_lr=0.05
    )
    batch, _ = in_float64(learner, played(spec, seed))
    other = copy.deepcopy(learner)
    metrics = learner.update(batch)
    assert float(metrics["factor"]) > 0.01
    plain_turns(other, batch)
    given, want = learner.networks.actor, other.networks.actor
    for a, b in zip(given.parameters(), want.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("vectors", [False, True])
def test_with_one_agent_it_is_ppo(vectors: bool) -> None:
    spec = make_spec(n_agents=1, vectors=vectors)
    settings: dict[str, Any] = {"epochs": 2, "agent_id": False, "share": "none"}
    happo: HAPPOLearner = make_learner("happo", spec, **settings)
    ppo: PPOLearner = make_learner("mappo", spec, **settings)
    ppo.networks.load_state_dict(happo.networks.state_dict())
    batch = played(spec, 3)
    happo.update(batch)
    ppo.update(batch)
    for a, b in zip(happo.networks.parameters(), ppo.networks.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("squash", ["tanh", "clip"])
@pytest.mark.parametrize("seed", range(3))
def test_the_padded_loss_of_vectors_agrees_in_value_and_in_every_gradient(seed: int, squash: str) -> None:
    spec = make_spec(vectors=True, n_agents=2 + seed % 2, reward_per_agent=seed == 0, state=seed > 0)
    critic, agent = ["team", "central", "own"][seed], ["gru", "feedforward", "gru"][seed]
    learner = make_learner("happo", spec, seed=seed, critic=critic, agent=agent, squash=squash)
    batch = played(spec, seed)
    assert not batch.alive.all()
    batch, padded = in_float64(learner, batch)
    given, want = learner.loss(batch)["loss"], padded_happo_loss(learner, padded)
    torch.testing.assert_close(given, want, rtol=1e-5, atol=1e-7)
    named = dict(learner.networks.named_parameters())
    mine, its = (torch.autograd.grad(loss, list(named.values())) for loss in (given, want))
    for name, a, b in zip(named, mine, its, strict=True):
        size = float(b.abs().max())
        assert size > 0, f"{name}: a gradient of zero shows nothing"
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * size, msg=name)


def test_an_agents_turn_moves_its_own_standard_deviation_alone() -> None:
    """One optimiser holds them all, and its moments would move a parameter whose gradient is 0."""
    spec = make_spec(vectors=True, n_agents=3)
    learner: HAPPOLearner = make_learner("happo", spec, epochs=2, entropy_coef=0.1)
    batch = played(spec, 1)
    learner.update(batch)  # so that the optimiser has moments
    moved: list[list[bool]] = []
    descend = learner._descend

    def watched(network: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
        heads: Any = learner.actor.gaussian
        before = [head.log_std.detach().clone() for head in heads.heads]
        metrics = descend(network, loss)
        moved.append([not torch.equal(a, head.log_std) for a, head in zip(before, heads.heads, strict=True)])
        return metrics

    learner._descend = watched  # type: ignore[method-assign]
    learner.update(batch)
    order = [row.index(True) for row in moved[:6]]
    assert all(sum(row) == 1 for row in moved[:6])
    assert order[::2] == order[1::2]
    assert sorted(order[::2]) == [0, 1, 2]
    assert not any(any(row) for row in moved[6:]), "the critic's steps"


@pytest.mark.parametrize("squash", ["tanh", "clip"])
def test_vectors_of_agents_that_have_left_move_no_weight(squash: str) -> None:
    """NaN among them: neither losses nor factors read what is not there."""
    spec = make_spec(n_agents=3, vectors=True)
    weights = []
    for garbage in (0.5, torch.nan):
        batch = played(spec, 5)
        fields = {**batch.fields, "actions": batch["actions"].clone(), "log_prob": batch["log_prob"].clone()}
        fields["actions"][~batch.alive] = garbage
        fields["log_prob"][~batch.alive] = garbage
        learner = make_learner("happo", spec, epochs=2, squash=squash, last_action=False)
        metrics = learner.update(replace(batch, fields=fields, checked=True))
        assert all(value.isfinite() for value in metrics.values())
        weights.append([p.detach().clone() for p in learner.networks.parameters()])
    for a, b in zip(*weights, strict=True):
        assert torch.equal(a, b)


def test_beside_partners_the_factor_is_of_the_learners_agents() -> None:
    """Whatever partners did: the same weights."""
    weights = []
    for shift in (0.0, 0.25):
        batch = seated_batch(2, spec=make_spec(vectors=True), learners=2)
        actions = batch["actions"].clone()
        low, high = batch.spec.bounds.tensors()  # type: ignore[union-attr]
        theirs = torch.zeros_like(batch.alive)
        theirs[batch.step_frames] = ~batch.steps("learns")
        moved = (actions + shift).clamp(low, high)
        actions = torch.where(theirs[..., None], moved, actions)
        batch = replace(batch, fields={**batch.fields, "actions": actions}, checked=True)
        log_prob = torch.full((batch.n_steps, 3), -1.0)
        learner = make_learner("happo", batch.spec, epochs=2, last_action=False)
        learner.update(batch.with_steps(log_prob=log_prob))
        weights.append([p.detach().clone() for p in learner.networks.parameters()])
    for a, b in zip(*weights, strict=True):
        assert torch.equal(a, b)


def test_what_agents_that_have_left_saw_and_did_moves_no_weight() -> None:
    spec = make_spec(n_agents=3)
    weights = []
    for garbage in (0, 1):
        batch = played(spec, 5)
        fields = dict(batch.fields)
        draws = torch.Generator().manual_seed(garbage)
        gone = ~batch.alive
        fields["obs"] = torch.where(gone[..., None], torch.randn(batch.obs.shape, generator=draws), batch.obs)
        drawn = torch.randint(0, spec.n_actions, gone.shape, generator=draws)
        fields["actions"] = torch.where(gone, drawn, batch["actions"])
        learner = make_learner("happo", spec, epochs=2)
        learner.update(replace(batch, fields=fields, checked=True))
        weights.append([p.detach().clone() for p in learner.networks.parameters()])
    for a, b in zip(*weights, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("happo", {"share": "all"}, "share: given 'all', want 'none': HAPPO moves agents one by one"),
        ("happo", {"share": "kind"}, "share: given 'kind', want 'none'"),
        ("coma", {"share": "some"}, "share: given 'some', want one of all, none, kind"),
        ("coma", {"td_lambda": 1.5}, "td_lambda: given 1.5, want 0 to 1"),
        ("coma", {"target_tau": -1.0}, "target_tau: given -1.0, want 0 to 1"),
    ],
)
def test_settings_that_make_no_sense(name: str, settings: dict[str, Any], message: str) -> None:
    kind: Any = ALGORITHMS[name]
    with pytest.raises(ValueError, match=message):
        kind(**settings)


@pytest.mark.parametrize("name", ["coma", "happo"])
def test_what_is_logged_has_a_meaning(name: str) -> None:
    learner = make_learner(name, make_spec())
    metrics = learner.update(played(make_spec(), 1))
    assert metrics.keys() == ALGORITHMS[name].METRICS.keys()
    assert all(torch.isfinite(metric) and not metric.requires_grad for metric in metrics.values())


def test_the_stored_field_is_the_one_of_every_actor_critic() -> None:
    for name in ("coma", "happo"):
        learner = make_learner(name, make_spec())
        assert learner.spec.fields["log_prob"] == Field((3,), torch.float32, per="step")
