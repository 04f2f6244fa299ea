"""Actor-critic algorithms whose actions are vectors, against padded losses; and who refuses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from endmark.algorithms import ALGORITHMS, A2CLearner, PPOLearner
from endmark.audit import Case, audit, hard_batch
from endmark.episodes import EpisodeBatch, EpisodeSpec, Seen
from endmark.nets import GaussianHead
from endmark.policies import GaussianMode, GaussianPolicy
from support.helpers import make_spec, random_batch, with_garbage
from support.padded_actor_critic import padded_a2c_loss, padded_ppo_loss
from support.padded_oracle import perturb
from support.seated import BESIDE_PARTNERS, seated_batch

TAKE_VECTORS = ("ia2c", "maa2c", "ippo", "mappo", "happo", "maddpg")


def make_learner(name: str, spec: EpisodeSpec, *, seed: int = 0, **settings: Any) -> A2CLearner | PPOLearner:
    torch.manual_seed(seed)
    kind: Any = ALGORITHMS[name]
    learner = kind(hidden_size=9, **settings).learner(spec, torch.device("cpu"))
    assert isinstance(learner, A2CLearner | PPOLearner)
    perturb(learner.networks, torch.Generator().manual_seed(seed + 1))
    learner.networks.value_moments.add(torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 2 + 1)
    return learner


def played(spec: EpisodeSpec, seed: int) -> EpisodeBatch:
    batch = random_batch(seed, n_episodes=7, spec=spec)
    taken = -3 * torch.rand(batch.n_steps, spec.n_agents, generator=torch.Generator().manual_seed(seed))
    return with_garbage(batch.with_steps(log_prob=taken), seed)


def double(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}


def gradients(learner: A2CLearner | PPOLearner, loss: Tensor) -> dict[str, Tensor]:
    named = dict(learner.networks.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@pytest.mark.parametrize("name", ["ia2c", "mappo"])
@pytest.mark.parametrize("squash", ["tanh", "clip"])
@pytest.mark.parametrize("agent", ["gru", "feedforward"])
@pytest.mark.parametrize(("seed", "share"), [(0, "all"), (1, "none"), (2, "kind")])
def test_the_padded_loss_agrees_in_value_and_in_every_gradient(
    name: str, squash: str, agent: str, seed: int, share: str
) -> None:
    spec = make_spec(vectors=True, reward_per_agent=seed == 0, state=seed == 1, kinds=(0, 1, 0))
    options: dict[str, Any] = {"squash": squash, "agent": agent, "share": share}
    learner = make_learner(name, spec, seed=seed, **options)
    batch = played(spec, seed)
    assert not batch.alive.all()
    learner.networks.double()
    ragged = replace(batch, fields=double(batch.fields), checked=True)
    loss = learner.loss(ragged)["loss"]
    oracle: Any = padded_a2c_loss if name == "ia2c" else padded_ppo_loss
    want = oracle(learner.networks, learner.config, double(batch.to_padded()))
    torch.testing.assert_close(loss, want, rtol=1e-5, atol=1e-7)
    given_, wanted = gradients(learner, loss), gradients(learner, want)
    n_heads = sum(key.endswith("log_std") for key in given_)
    assert n_heads == {"all": 1, "none": 3, "kind": 2}[share]
    for key, gradient in wanted.items():
        size = float(gradient.abs().max())
        assert size > 0, f"{key}: a gradient of zero shows nothing"
        torch.testing.assert_close(given_[key], gradient, rtol=0, atol=1e-4 * size, msg=key)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 500), st.sampled_from(["tanh", "clip"]))
def test_what_is_undefined_or_has_left_changes_nothing(seed: int, squash: str) -> None:
    """NaN on final frames, and other actions of agents that have left: the same loss, finite gradients."""
    spec = make_spec(vectors=True)
    learner = make_learner("ippo", spec, squash=squash, last_action=False)
    batch = played(spec, seed)
    want = learner.loss(batch)["loss"]
    other = with_garbage(batch, seed + 1)
    gone = ~batch.alive & torch.ones_like(batch.alive)
    fields = {**other.fields, "actions": other["actions"].clone()}
    fields["actions"][gone] = torch.nan
    loss = learner.loss(replace(other, fields=fields, checked=True))["loss"]
    assert torch.equal(loss, want)
    for key, gradient in gradients(learner, loss).items():
        assert gradient.isfinite().all(), key


@pytest.mark.parametrize("squash", ["tanh", "clip"])
def test_the_first_update_has_ratios_of_one(squash: str) -> None:
    """What acted and what learns are the same weights, and so the same probabilities."""
    spec = make_spec(vectors=True)
    learner = make_learner("ippo", spec, squash=squash, agent="feedforward", last_action=False)
    batch = random_batch(0, spec=spec)
    policy = learner.policy(learner.actor, batch.n_frames, torch.Generator().manual_seed(0))
    assert isinstance(policy, GaussianPolicy)
    first = torch.ones(batch.n_frames, dtype=torch.bool)
    seeds = torch.zeros(batch.n_frames, dtype=torch.int64)
    seen = Seen(batch.obs, None, batch.alive, None, first, batch.last_actions, seeds)
    out = policy.act(seen)
    assert out["actions"].dtype == torch.float32
    steps = batch.step_frames
    fields = {**batch.fields, "actions": out["actions"]}
    acted = EpisodeBatch(spec, fields, batch.lengths, batch.terminated)  # validated: they are within bounds
    acted = acted.with_steps(log_prob=out["log_prob"][steps])
    terms = learner.loss(acted)
    assert float(terms["kl"]) == pytest.approx(0, abs=1e-6)
    assert float(terms["clip_fraction"]) == 0
    greedy = learner.greedy_policy(batch.n_frames)
    assert isinstance(greedy, GaussianMode)
    assert torch.equal(greedy.act(seen)["actions"], greedy.act(seen)["actions"])
    assert greedy.act(seen).keys() == {"actions"}


def test_partners_vectors_count_nothing_but_through_the_state() -> None:
    batch = seated_batch(3, spec=make_spec(vectors=True, reward_per_agent=True), learners=2)
    taken = torch.full((batch.n_steps, 3), -1.0)
    learner = make_learner("ippo", batch.spec)
    batch = batch.with_steps(log_prob=taken)
    theirs = ~batch.learning | ~batch.alive
    fields = {**batch.fields, "actions": batch["actions"].clone()}
    fields["actions"][theirs] = 0.125
    other = replace(batch, fields=fields, checked=True)
    assert torch.equal(learner.loss(batch)["loss"], learner.loss(other)["loss"])


@pytest.mark.parametrize("name", ["ia2c", "ippo"])
@pytest.mark.parametrize("squash", ["tanh", "clip"])
def test_the_audit_finds_nothing(name: str, squash: str) -> None:
    spec = make_spec(vectors=True, limit=7)
    learner = make_learner(name, spec, squash=squash, normalise_advantage=False)
    batch = EpisodeBatch.from_padded(hard_batch(learner.spec, 0), learner.spec)
    report = audit(Case(learner.loss, batch, [learner.networks]), quick=True)
    assert report.findings == ()


@pytest.mark.parametrize("name", sorted(ALGORITHMS.keys() - {*BESIDE_PARTNERS}))
def test_every_algorithm_takes_vectors_or_refuses_in_one_line(name: str) -> None:
    kind: Any = ALGORITHMS[name]
    spec = make_spec(vectors=True)
    if name in TAKE_VECTORS:
        kind().learner(spec, torch.device("cpu"))
        return
    with pytest.raises(ValueError, match="actions: given vectors of 3 numbers, want numbered") as caught:
        kind().learner(spec, torch.device("cpu"))
    assert "\n" not in str(caught.value)
    for other in TAKE_VECTORS:
        assert other in str(caught.value)


def test_the_standard_deviation_starts_where_it_is_told_and_stays_within() -> None:
    spec = make_spec(vectors=True)
    learner = make_learner("ippo", spec)
    torch.manual_seed(0)
    kind: Any = ALGORITHMS["ippo"]
    fresh = kind(log_std=-1.25).learner(spec, torch.device("cpu"))
    features = torch.randn(4, 3, fresh.actor.agent.n_features)
    head = fresh.actor.gaussian
    assert isinstance(head, GaussianHead)
    torch.testing.assert_close(head.distribution(features).log_std, torch.full((4, 3, 3), -1.25))
    assert head.distribution(features).mean.abs().max() < 0.1
    for value, end in [(-100.0, -4.0), (100.0, 0.5)]:
        with torch.no_grad():
            head.log_std.fill_(value)
        torch.testing.assert_close(head.distribution(features).log_std, torch.full((4, 3, 3), end))
    assert "low" not in {key.rpartition(".")[2] for key in learner.networks.state_dict()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log_std": 1.0}, "log_std: given 1.0, want between log_std_min -4 and log_std_max 0.5"),
        ({"log_std_min": -11.0}, "log_std_min: given -11.0, want -10 to 2"),
        ({"log_std_max": float("nan")}, "log_std_max: given nan"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALGORITHMS["ippo"](**options)
