"""QPLEX, weighted QMIX, QTRAN and QATTEN against their padded losses, and by what must not matter."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.algorithms import ALGORITHMS, QLearner, ValueLearner
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.targets import n_step_return
from support.helpers import make_batch, make_spec, random_batch, with_garbage
from support.padded_oracle import perturb
from support.padded_values import padded_value_loss
from support.seated import seated_batch

SIZES: dict[str, dict[str, int]] = {
    "iql": {},
    "vdn": {},
    "qmix": {"mixer_embed_size": 5, "mixer_hyper_size": 7},
    "qplex": {"mixer_hyper_size": 7, "mixer_heads": 3},
    "ow-qmix": {"mixer_embed_size": 5, "mixer_hyper_size": 7, "central_size": 6},
    "cw-qmix": {"mixer_embed_size": 5, "mixer_hyper_size": 7, "central_size": 6},
    "qtran": {"joint_size": 6},
    "qatten": {"mixer_embed_size": 4, "mixer_hyper_size": 7, "mixer_heads": 3},
}
NAMES = [name for name in SIZES if name not in ("iql", "vdn", "qmix")]
"""The others are tested in test_qlearning.py."""


def make_learner(name: str, spec: EpisodeSpec, *, seed: int = 0, **settings: Any) -> ValueLearner:
    """A learner whose target network is not its online one."""
    torch.manual_seed(seed)
    kind: Any = ALGORITHMS[name]
    learner = kind(**({"hidden_size": 9} | SIZES[name] | settings)).learner(spec, torch.device("cpu"))
    assert isinstance(learner, ValueLearner)
    perturb(learner.networks, torch.Generator().manual_seed(seed + 1))
    return learner


def loss_of(learner: ValueLearner, batch: EpisodeBatch) -> dict[str, Tensor]:
    any_learner: Any = learner
    terms: dict[str, Tensor] = any_learner.loss(batch)
    return terms


def update(learner: ValueLearner, batch: EpisodeBatch) -> dict[str, Tensor]:
    any_learner: Any = learner
    terms: dict[str, Tensor] = any_learner.update(batch)
    return terms


def value_and_gradients(learner: ValueLearner, loss: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    named = {name: p for name, p in learner.networks.named_parameters() if p.requires_grad}
    return loss.detach(), dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def to(dtype: torch.dtype, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}


def assert_same_as_padded(learner: ValueLearner, batch: EpisodeBatch, dtype: torch.dtype) -> None:
    learner.networks.to(dtype)
    padded = to(dtype, batch.to_padded())
    batch = replace(batch, fields=to(dtype, batch.fields), checked=True)
    given, gradients = value_and_gradients(learner, loss_of(learner, batch)["loss"])
    want, want_gradients = value_and_gradients(learner, padded_value_loss(learner, padded))
    # In float64 what differs is the rounding of discounts, which are float32 whatever the values are.
    tolerance = 1e-5 if dtype == torch.float32 else 2e-6
    assert given.dtype == dtype
    torch.testing.assert_close(given, want, rtol=tolerance, atol=0)
    largest = max(float(gradient.abs().max()) for gradient in want_gradients.values())
    for name, gradient in gradients.items():
        size = float(want_gradients[name].abs().max())
        assert size > 0, f"{name}: a gradient of zero shows nothing"
        size = max(size, 0.1 * largest)  # where terms nearly cancel, rounding is that of the terms
        torch.testing.assert_close(gradient, want_gradients[name], rtol=0, atol=tolerance * size, msg=name)


# --- the padded losses ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("settings", [{}, {"td_lambda": 0.0, "double_q": False}, {"td_n": 2}], ids=str)
@pytest.mark.parametrize("reward_per_agent", [False, True])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_padded_loss_agrees_in_value_and_in_every_gradient(
    name: str, settings: dict[str, Any], reward_per_agent: bool, state: bool, dtype: torch.dtype
) -> None:
    batch = random_batch(7, n_episodes=8, state=state, reward_per_agent=reward_per_agent)
    assert set(batch.terminated.tolist()) == {True, False}
    assert 1 in batch.lengths
    assert not batch.alive.all()
    assert_same_as_padded(make_learner(name, batch.spec, **settings), batch, dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("learners", [1, 2])
def test_the_padded_loss_agrees_beside_partners(name: str, learners: int) -> None:
    for seed in range(3):
        batch = seated_batch(seed, learners=learners, n_episodes=9, reward_per_agent=seed % 2 == 0)
        learner = make_learner(name, batch.spec, seed=seed)
        if name == "qatten" and learners == 1:  # attention to one agent is 1, whatever it sees
            learner.networks.double()
            padded = to(torch.float64, batch.to_padded())
            batch = replace(batch, fields=to(torch.float64, batch.fields), checked=True)
            want = padded_value_loss(learner, padded)
            torch.testing.assert_close(loss_of(learner, batch)["loss"], want, rtol=4e-7, atol=0)
        else:
            assert_same_as_padded(learner, batch, torch.float64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "settings", [{"share": "none"}, {"share": "kind"}, {"agent": "feedforward"}], ids=str
)
def test_the_padded_loss_agrees_with_other_agents(name: str, settings: dict[str, Any]) -> None:
    batch = random_batch(3, n_episodes=9, n_agents=4, n_actions=5, limit=9, kinds=(0, 1, 1, 0))
    assert_same_as_padded(make_learner(name, batch.spec, **settings), batch, torch.float64)


# --- the target ---


@pytest.mark.parametrize("name", SIZES)
def test_one_step_is_the_same_by_either_name_and_more_steps_are_not(name: str) -> None:
    batch = random_batch(2)
    one = loss_of(make_learner(name, batch.spec, td_n=1), batch)["loss"]
    torch.testing.assert_close(one, loss_of(make_learner(name, batch.spec, td_lambda=0.0), batch)["loss"])
    assert not torch.isclose(loss_of(make_learner(name, batch.spec, td_n=3), batch)["loss"], one)
    # Longer than every episode, it is the Monte Carlo return.
    many = loss_of(make_learner(name, batch.spec, td_n=50), batch)["loss"]
    torch.testing.assert_close(many, loss_of(make_learner(name, batch.spec, td_lambda=1.0), batch)["loss"])


def test_the_n_step_return_is_the_function_of_targets() -> None:
    batch = random_batch(4)
    learner = make_learner("vdn", batch.spec, td_n=3, gamma=0.9)
    value = torch.randn(batch.n_steps, generator=torch.Generator().manual_seed(0))
    want = n_step_return(batch.steps("reward"), batch.discount(0.9), value, batch.lengths, 3)
    assert torch.equal(learner.target_return(batch, value), want)


# --- what must not matter ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reward_per_agent", [False, True])
def test_garbage_in_the_step_fields_of_final_frames_changes_no_bit(name: str, reward_per_agent: bool) -> None:
    batch = random_batch(3, reward_per_agent=reward_per_agent)
    other = with_garbage(batch, seed=99)
    learner = make_learner(name, batch.spec, normalise_reward="standardise")
    twin = copy.deepcopy(learner)
    first, second = update(learner, batch), update(twin, other)
    assert first.keys() == ALGORITHMS[name].METRICS.keys()
    for key, value in first.items():
        assert value.isfinite()
        assert not value.requires_grad
        assert torch.equal(value, second[key]), key
    for key, tensor in learner.networks.state_dict().items():
        assert torch.equal(twin.networks.state_dict()[key], tensor), key


@pytest.mark.parametrize("name", NAMES)
def test_what_agents_see_and_do_after_they_have_left_changes_no_bit(name: str) -> None:
    batch = random_batch(4, n_episodes=9)
    gone = ~batch.alive
    assert gone.any()
    generator = torch.Generator().manual_seed(0)
    obs, actions, avail = batch.obs.clone(), batch["actions"].clone(), batch.avail_actions.clone()
    obs[gone] = torch.randn(obs[gone].shape, generator=generator)
    actions[gone] = torch.randint(0, batch.spec.n_actions, actions[gone].shape, generator=generator)
    avail[gone] = False
    fields = {**batch.fields, "obs": obs, "actions": actions, "avail_actions": avail}
    other = EpisodeBatch(batch.spec, fields, batch.lengths, batch.terminated)
    learner = make_learner(name, batch.spec)
    given, gradients = value_and_gradients(learner, loss_of(learner, other)["loss"])
    want, want_gradients = value_and_gradients(learner, loss_of(learner, batch)["loss"])
    assert torch.equal(given, want)
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, want_gradients[key], rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_order_multiplicity_and_padding_do_not_matter(name: str) -> None:
    spec = make_spec(limit=60)
    batch = make_batch(spec, [5, 60, 1, 33, 59, 60], [True, False, False, True, False, True], seed=2)
    learner = make_learner(name, spec)
    want, want_gradients = value_and_gradients(learner, loss_of(learner, batch)["loss"])
    padded = EpisodeBatch.from_padded(batch.to_padded(600), spec)
    assert torch.equal(loss_of(learner, padded)["loss"], want)
    parts = batch.split()
    shuffled = EpisodeBatch.cat([parts[i] for i in (4, 2, 0, 5, 3, 1)])
    for other in (shuffled, EpisodeBatch.cat([batch, shuffled])):
        given, gradients = value_and_gradients(learner, loss_of(learner, other)["loss"])
        torch.testing.assert_close(given, want, rtol=1e-5, atol=0)
        for key, gradient in gradients.items():
            size = float(want_gradients[key].abs().max())
            torch.testing.assert_close(gradient, want_gradients[key], rtol=0, atol=2e-5 * size, msg=key)


# --- updates ---


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_pure_and_an_update_moves_everything(name: str) -> None:
    batch = random_batch(9)
    learner = make_learner(name, batch.spec, target_tau=0.25, lr=1e-2)
    before = {key: tensor.clone() for key, tensor in learner.networks.state_dict().items()}
    generator = torch.get_rng_state()
    first, second = loss_of(learner, batch), loss_of(learner, batch)
    for key, value in first.items():
        assert value.shape == ()
        assert torch.equal(value, second[key]), key
        assert value.requires_grad == (key == "loss")
    assert torch.equal(torch.get_rng_state(), generator)
    for key, tensor in learner.networks.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    update(learner, batch)
    assert learner.updates == 1
    after = learner.networks.state_dict()
    for key, parameter in learner.online.named_parameters():
        assert not torch.equal(parameter, before[f"online.{key}"]), key
        want = torch.lerp(before[f"target.{key}"], parameter, 0.25)
        torch.testing.assert_close(after[f"target.{key}"], want, rtol=0, atol=0, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_is_gone_on_from_bit_for_bit(name: str) -> None:
    batch = random_batch(13)
    learner = make_learner(name, batch.spec, normalise_reward="scale")
    for _ in range(2):
        update(learner, batch)
    other = make_learner(name, batch.spec, seed=5, normalise_reward="scale")
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    for _ in range(2):
        first, second = update(learner, batch), update(other, batch)
        assert all(torch.equal(first[key], second[key]) for key in first)
    for key, tensor in learner.networks.state_dict().items():
        assert torch.equal(other.networks.state_dict()[key], tensor), key


@pytest.mark.parametrize("name", NAMES)
def test_updates_fit_rewards(name: str) -> None:
    batch = random_batch(11)
    torch.manual_seed(0)
    kind: Any = ALGORITHMS[name]
    learner = kind(gamma=0.0, lr=5e-3).learner(batch.spec, torch.device("cpu"))
    first = float(learner.update(batch)["td_error_abs"])
    for _ in range(150):
        last = float(learner.update(batch)["td_error_abs"])
    assert last < 0.4 * first


def test_these_are_all_value_algorithms() -> None:
    spec = make_spec()
    found = set()
    for name, kind in ALGORITHMS.items():
        if not name.startswith("omg"):
            any_kind: Any = kind
            learner = any_kind().learner(spec, torch.device("cpu"))
            found |= {name} if isinstance(learner, ValueLearner) else set()
    assert found == SIZES.keys()
    assert isinstance(make_learner("qmix", spec), QLearner)


# --- the configuration ---


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("qmix", {"td_n": 0}, "td_n: given 0, want at least 1"),
        ("qmix", {"td_n": -3}, "td_n: given -3, want at least 1"),
        ("iql", {"td_n": 2, "td_lambda": 0.9}, "td_n: given 2 beside td_lambda 0.9, want one of the two"),
        ("qplex", {"mixer_heads": 0}, "mixer_heads: given 0, want more than 0"),
        ("qplex", {"mixer_hyper_size": 0}, "mixer_hyper_size: given 0, want more than 0"),
        ("ow-qmix", {"alpha": 1.5}, "alpha: given 1.5, want 0 to 1"),
        ("cw-qmix", {"alpha": float("nan")}, "alpha: given nan, want 0 to 1"),
        ("cw-qmix", {"central_size": 0}, "central_size: given 0, want more than 0"),
        ("qtran", {"opt_coef": -1.0}, "opt_coef: given -1.0, want at least 0"),
        ("qtran", {"nopt_coef": float("inf")}, "nopt_coef: given inf, want at least 0, and finite"),
        ("qtran", {"joint_size": 0}, "joint_size: given 0, want more than 0"),
        ("qatten", {"mixer_embed_size": 0}, "mixer_embed_size: given 0, want more than 0"),
        ("qatten", {"gamma": 2.0}, "gamma: given 2.0, want 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ALGORITHMS[name](**settings)
