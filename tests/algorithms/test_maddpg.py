"""MADDPG against its padded loss, and by its laws."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from endmark.algorithms import MADDPGConfig, MADDPGLearner
from endmark.audit import Case, audit, hard_batch
from endmark.episodes import EpisodeBatch, EpisodeSpec, Seen
from endmark.policies import NoisyPolicy, SoftmaxPolicy
from support.actors import SHARES
from support.helpers import make_spec, random_batch, with_garbage
from support.padded_maddpg import padded_maddpg_loss
from support.padded_oracle import perturb
from support.seated import seated_batch

KINDS = [pytest.param(False, id="numbered"), pytest.param(True, id="vectors")]


def make_learner(spec: EpisodeSpec, *, seed: int = 0, **settings: Any) -> MADDPGLearner:
    """A learner whose target networks are not its online ones."""
    torch.manual_seed(seed)
    learner = MADDPGConfig(hidden_size=8, **settings).learner(spec, torch.device("cpu"))
    perturb(learner.networks, torch.Generator().manual_seed(seed + 1))
    return learner


def double(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}


def gradients(learner: MADDPGLearner, loss: Tensor) -> dict[str, Tensor]:
    named = {name: p for name, p in learner.networks.named_parameters() if p.requires_grad}
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def assert_agrees(learner: MADDPGLearner, batch: EpisodeBatch, learns: Tensor) -> None:
    learner.networks.double()
    loss = learner.loss(replace(batch, fields=double(batch.fields), checked=True))["loss"]
    want = padded_maddpg_loss(learner, double(batch.to_padded()), learns)
    torch.testing.assert_close(loss, want, rtol=1e-5, atol=1e-7)
    given_, wanted = gradients(learner, loss), gradients(learner, want)
    for key, gradient in wanted.items():
        size = float(gradient.abs().max())
        assert size > 0, f"{key}: a gradient of zero shows nothing"
        torch.testing.assert_close(given_[key], gradient, rtol=0, atol=1e-5 * size, msg=key)


@pytest.mark.parametrize("vectors", KINDS)
@pytest.mark.parametrize("agent", ["gru", "feedforward"])
@pytest.mark.parametrize("seed", range(4))
def test_the_padded_loss_agrees_in_value_and_in_every_gradient(vectors: bool, agent: str, seed: int) -> None:
    spec = make_spec(vectors=vectors, reward_per_agent=seed % 2 == 0, state=seed < 2, kinds=(0, 0, 1))
    options: dict[str, Any] = {"agent": agent, "share": SHARES[seed % 3], "temperature": 0.7}
    reward = "team" if seed in (0, 3) else "agent"
    learner = make_learner(spec, seed=seed, td_lambda=0.5 * (seed % 2), reward=reward, **options)
    learner.updates = seed
    batch = random_batch(seed, spec=spec)
    assert not batch.alive.all()
    assert_agrees(learner, batch, torch.ones(batch.n_episodes, 3, dtype=torch.bool))


@pytest.mark.parametrize("vectors", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_partners_act_for_themselves_and_are_not_learned(vectors: bool, seed: int) -> None:
    batch = seated_batch(seed, spec=make_spec(vectors=vectors, reward_per_agent=True), learners=2)
    learner = make_learner(batch.spec, seed=seed, reward="team" if seed else "agent")
    learns = batch["learns"][batch.first_frames]
    assert not learns.all()
    assert_agrees(learner, batch, learns)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 500), st.booleans())
def test_what_is_undefined_or_has_left_changes_nothing(seed: int, vectors: bool) -> None:
    spec = make_spec(vectors=vectors, reward_per_agent=True)
    learner = make_learner(spec, last_action=False)
    batch = random_batch(seed, spec=spec)
    want = learner.loss(batch)["loss"]
    other = with_garbage(batch, seed + 1)
    fields = {**other.fields, "actions": other["actions"].clone(), "reward": other["reward"].clone()}
    fields["actions"][~batch.alive] = torch.nan if vectors else 99
    fields["reward"][~batch.alive] = torch.nan
    loss = learner.loss(replace(other, fields=fields, checked=True))["loss"]
    assert torch.equal(loss, want)
    for key, gradient in gradients(learner, loss).items():
        assert gradient.isfinite().all(), key


@pytest.mark.parametrize("vectors", KINDS)
@pytest.mark.parametrize("td_lambda", [0.0, 0.6])
def test_the_audit_finds_nothing(vectors: bool, td_lambda: float) -> None:
    for state in (True, False):
        spec = make_spec(vectors=vectors, state=state)
        learner = make_learner(spec, td_lambda=td_lambda)
        batch = EpisodeBatch.from_padded(hard_batch(spec, 0), spec)
        report = audit(Case(learner.loss, batch, [learner.networks]), quick=not state)
        assert report.findings == ()


def test_a_loss_is_a_function_of_networks_batch_and_update() -> None:
    spec = make_spec()
    learner, batch = make_learner(spec), random_batch(0, spec=spec)
    first = learner.loss(batch)["loss"]
    torch.rand(10)
    assert torch.equal(learner.loss(batch)["loss"], first)
    learner.updates += 1
    assert not torch.equal(learner.loss(batch)["loss"], first), "another update, another noise"


@pytest.mark.parametrize("vectors", KINDS)
def test_the_actors_gradient_goes_through_the_critic_and_leaves_it_alone(vectors: bool) -> None:
    """The critic's gradient is that of its own loss: it does not depend on what the actor would do."""
    spec = make_spec(vectors=vectors)
    learner, batch = make_learner(spec), random_batch(1, spec=spec)
    before = gradients(learner, learner.loss(batch)["loss"])
    with torch.no_grad():
        for parameter in learner.actor.parameters():
            parameter.add_(0.5)
    after = gradients(learner, learner.loss(batch)["loss"])
    critic = [name for name in before if name.startswith("online.critic")]
    assert critic
    for name in critic:
        assert torch.equal(before[name], after[name]), name
    assert any(not torch.equal(before[name], after[name]) for name in before.keys() - {*critic})


def test_illegal_actions_are_never_drawn_and_get_no_gradient() -> None:
    spec = make_spec()
    learner, batch = make_learner(spec), random_batch(2, spec=spec)
    steps = batch.step_frames
    outputs = torch.randn(batch.n_steps, 3, 4, requires_grad=True)
    noise = torch.rand(batch.n_steps, 3, 4)
    acts = learner.kind.relaxed(outputs, batch, noise)
    legal = batch.avail_actions[steps]
    assert torch.equal(acts.detach().round().sum(-1), torch.ones(batch.n_steps, 3))
    assert not (acts.detach().round().bool() & ~legal)[legal.any(-1)].any()
    gradient = torch.autograd.grad((acts * torch.randn(acts.shape)).sum(), outputs)[0]
    assert gradient.isfinite().all()
    assert (gradient[~legal & legal.any(-1, keepdim=True)] == 0).all()
    assert (gradient[legal] != 0).any()


def test_straight_through_draws_are_those_of_the_softmax() -> None:
    """Gumbel-max: the share of each action is its probability."""
    spec = make_spec(n_agents=1, n_actions=3, limit=7)
    learner, batch = make_learner(spec), random_batch(0, spec=spec)
    fields = {**batch.fields, "avail_actions": torch.ones_like(batch.avail_actions)}
    batch = replace(batch, fields=fields, checked=True)
    outputs = torch.tensor([0.0, 1.0, -0.5]).expand(batch.n_steps, 1, 3)
    draws = torch.Generator().manual_seed(0)
    total, rounds = torch.zeros(3), 400
    for _ in range(rounds):
        total += learner.kind.relaxed(outputs, batch, torch.rand(outputs.shape, generator=draws)).sum((0, 1))
    torch.testing.assert_close(total / total.sum(), outputs[0, 0].softmax(0), rtol=0, atol=0.02)


@pytest.mark.parametrize("vectors", KINDS)
def test_resuming_changes_no_bit(vectors: bool) -> None:
    spec = make_spec(vectors=vectors)
    batch = random_batch(0, spec=spec)
    learner, other = make_learner(spec), make_learner(spec, seed=9)
    for _ in range(3):
        learner.update(batch)
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    for _ in range(2):
        given_, want = other.update(batch), learner.update(batch)
        assert given_.keys() == want.keys() == MADDPGConfig.METRICS.keys()
        for name in want:
            assert torch.equal(given_[name], want[name]), name
    for one, same in zip(learner.networks.parameters(), other.networks.parameters(), strict=True):
        assert torch.equal(one, same)


@pytest.mark.parametrize("vectors", KINDS)
def test_the_critic_learns_and_the_actor_climbs(vectors: bool) -> None:
    """One step, one agent; the reward is highest at one action, which the greedy policy finds."""
    spec = make_spec(n_agents=1, n_actions=4, limit=1, vectors=vectors, state=False)
    torch.manual_seed(0)
    config = MADDPGConfig(hidden_size=32, actor_lr=5e-3, critic_lr=5e-3, last_action=False)
    learner = config.learner(spec, torch.device("cpu"))
    batches = [random_batch(s, n_episodes=64, spec=spec) for s in range(4)]
    for k, batch in enumerate(batches):
        fields = {**batch.fields, "obs": torch.ones_like(batch.obs)}
        if vectors:
            fields["reward"] = -(batch["actions"][:, 0, 0] - 1.25).abs()
        else:
            fields["avail_actions"] = torch.ones_like(batch.avail_actions)
            fields["reward"] = torch.tensor([0.0, 0.3, 1.0, 0.5])[batch["actions"][:, 0].clamp(0, 3)]
        fields["reward"] = fields["reward"].nan_to_num()
        ended = torch.ones_like(batch.terminated)
        batches[k] = EpisodeBatch(spec, fields, batch.lengths, ended, checked=True)
    for step in range(400):
        learner.update(batches[step % 4])
    seen = seen_of(spec, 2)
    legal = None if vectors else torch.ones(2, 1, 4, dtype=torch.bool)
    seen = seen._replace(obs=torch.ones(2, 1, 5), avail_actions=legal)
    action = learner.greedy_policy(2).act(seen)["actions"]
    if vectors:
        assert (action[:, 0, 0] - 1.25).abs().max() < 0.25
    else:
        assert (action == 2).all()


def seen_of(spec: EpisodeSpec, rows: int) -> Seen:
    n = spec.n_agents
    generator = torch.Generator().manual_seed(5)
    vectors = spec.bounds is not None
    avail = torch.rand(rows, n, max(spec.n_actions, 1), generator=generator) < 0.5
    avail[..., 0] = True
    last = torch.zeros(rows, n, spec.action_size) if vectors else torch.full((rows, n), -1)
    return Seen(
        torch.randn(rows, n, 5, generator=generator),
        None if vectors else avail,
        torch.ones(rows, n, dtype=torch.bool),
        None,
        torch.ones(rows, dtype=torch.bool),
        last,
        torch.zeros(rows, dtype=torch.int64),
    )


def test_the_policies_explore_within_bounds_and_by_legal_actions() -> None:
    learner = make_learner(make_spec(vectors=True), noise_start=2.0, noise_end=0.0, noise_steps=100)
    seen = seen_of(learner.spec, 50)
    policy = learner.policy(learner.actor, 50, torch.Generator().manual_seed(0))
    assert isinstance(policy, NoisyPolicy)
    assert policy.schedule(50) == {"noise": 1.0}
    actions = policy.act(seen)["actions"]
    assert learner.spec.bounds is not None
    low, high = learner.spec.bounds.tensors()
    assert ((actions >= low) & (actions <= high)).all()
    greedy = learner.greedy_policy(50).act(seen)
    assert not torch.equal(actions, greedy["actions"])
    policy = learner.policy(learner.actor, 50, torch.Generator().manual_seed(0))
    policy.schedule(100)
    assert torch.equal(policy.act(seen)["actions"], greedy["actions"])

    numbered = make_learner(make_spec())
    seen = seen_of(numbered.spec, 200)
    drawing = numbered.policy(numbered.actor, 200, torch.Generator().manual_seed(0))
    assert isinstance(drawing, SoftmaxPolicy)
    out = drawing.act(seen)
    assert out.keys() == {"actions"}
    assert seen.legal.gather(2, out["actions"][..., None]).all()


def test_a_noisy_policy_goes_on_from_its_state() -> None:
    learner = make_learner(make_spec(vectors=True))
    seen = seen_of(learner.spec, 4)
    one, other = (learner.policy(learner.actor, 4, torch.Generator().manual_seed(s)) for s in (0, 1))
    one.schedule(10)
    one.act(seen)
    other.load_state_dict(one.state_dict())
    seen = seen._replace(first=torch.zeros(4, dtype=torch.bool))
    assert torch.equal(one.act(seen)["actions"], other.act(seen)["actions"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.1}, "gamma: given 1.1, want 0 to 1"),
        ({"noise_start": -0.1}, "noise_start: given -0.1, want at least 0"),
        ({"noise_steps": -1}, "noise_steps: given -1"),
        ({"temperature": 0.0}, "temperature: given 0.0, want more than 0"),
        ({"batch_size": 0}, "batch_size: given 0, want at least 1"),
        ({"output_penalty": float("nan")}, "output_penalty: given nan"),
        ({"actor_lr": 0.0}, "actor_lr: given 0.0, want more than 0"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MADDPGConfig(**options)
