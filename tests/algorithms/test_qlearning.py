"""Q-learning against the padded loss of the usual kind, by hand, and by what must not matter."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from endmark.algorithms import ALGORITHMS, QLearner, QLearningConfig, QMIXConfig
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets import Actor, LinearHead, RunningMoments
from support.helpers import (
    assert_same_episodes,
    final_frames,
    make_batch,
    make_spec,
    random_batch,
    with_garbage,
)
from support.padded_oracle import padded_loss, perturb

Mixing = Literal["iql", "vdn", "qmix"]
MIXINGS: tuple[Mixing, ...] = ("iql", "vdn", "qmix")
PLAIN: dict[str, Any] = {"td_lambda": 0.6, "normalise_reward": "none", "hidden_size": 12}
MIXER: dict[str, Any] = {"mixer_embed_size": 5, "mixer_hyper_size": 7}


def config_of(mixing: Mixing, **settings: Any) -> QLearningConfig:
    """Small networks, plain rewards."""
    settings = PLAIN | (MIXER if mixing == "qmix" else {}) | settings
    return cast(QLearningConfig, ALGORITHMS[mixing](**settings))


def make_learner(mixing: Mixing, spec: EpisodeSpec, *, seed: int = 0, **settings: Any) -> QLearner:
    """A learner whose target network is not its online one."""
    torch.manual_seed(seed)
    learner = QLearner(spec, config_of(mixing, **settings))
    perturb(learner.networks, torch.Generator().manual_seed(seed + 1))
    return learner


def to(dtype: torch.dtype, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}


def value_and_gradients(learner: QLearner, loss: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and its gradient by every parameter that learns."""
    named = {name: p for name, p in learner.networks.named_parameters() if p.requires_grad}
    return loss.detach(), dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def snapshot(learner: QLearner) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in learner.networks.state_dict().items()}


def assert_unchanged(learner: QLearner, before: dict[str, Tensor]) -> None:
    for name, tensor in learner.networks.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def online(learner: QLearner) -> dict[str, Tensor]:
    return dict(learner.online.named_parameters())


# --- the padded loss of the usual kind ---


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize("td_lambda", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("reward_per_agent", [False, True])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_padded_loss_agrees_in_value_and_in_every_gradient(
    mixing: Mixing, double_q: bool, td_lambda: float, reward_per_agent: bool, state: bool, dtype: torch.dtype
) -> None:
    batch = random_batch(7, n_episodes=8, state=state, reward_per_agent=reward_per_agent)
    assert set(batch.terminated.tolist()) == {True, False}
    assert 1 in batch.lengths
    assert not batch.alive.all()
    learner = make_learner(mixing, batch.spec, double_q=double_q, td_lambda=td_lambda)
    learner.networks.to(dtype)
    padded = to(dtype, batch.to_padded())
    batch = replace(batch, fields=to(dtype, batch.fields), checked=True)
    given, gradients = value_and_gradients(learner, learner.loss(batch)["loss"])
    want, want_gradients = value_and_gradients(learner, padded_loss(learner, padded))
    # In float64 what differs is the rounding of discounts, which are float32 whatever the values are.
    tolerance = 1e-5 if dtype == torch.float32 else 4e-7
    assert given.dtype == dtype
    torch.testing.assert_close(given, want, rtol=tolerance, atol=0)
    largest = max(float(gradient.abs().max()) for gradient in want_gradients.values())
    for name, gradient in gradients.items():
        size = float(want_gradients[name].abs().max())
        assert size > 0, f"{name}: a gradient of zero shows nothing"
        if (
            dtype == torch.float32
        ):  # the terms of the last bias's nearly cancel, and rounding is that of the terms
            size = max(size, 0.1 * largest)
        torch.testing.assert_close(gradient, want_gradients[name], rtol=0, atol=tolerance * size, msg=name)


@pytest.mark.parametrize("seed", range(12))
def test_the_padded_loss_agrees_on_other_batches_and_options(seed: int) -> None:
    n_agents, limit, n_episodes = 1 + seed % 4, 1 + 4 * (seed % 5), 1 + 2 * (seed % 4)
    per_agent, state = seed % 2 == 0, seed % 3 == 0
    spec = make_spec(
        n_agents=n_agents,
        n_actions=1 + seed % 5,
        limit=limit,
        state=state,
        reward_per_agent=per_agent,
        kinds=(0, 1, 0, 0)[:n_agents],
    )
    batch = random_batch(seed, n_episodes=n_episodes, spec=spec)
    padded = to(torch.float64, batch.to_padded())
    batch = replace(batch, fields=to(torch.float64, batch.fields), checked=True)
    options: dict[str, Any] = {
        "last_action": seed % 2 == 1,
        "agent_id": seed % 4 < 2,
        "agent": ("gru", "feedforward", "attention")[seed % 3],
        "attention_heads": 3,  # of the twelve units
        "share": ("kind", "all", "none")[seed % 3],
        "normalise_reward": "standardise" if seed % 2 else "scale",
        "td_lambda": 0.3,
    }
    for mixing in MIXINGS:
        learner = make_learner(mixing, spec, seed=seed, **options)
        learner.networks.double()
        learner.reward_moments.add(torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 3 + 1)
        given, gradients = value_and_gradients(learner, learner.loss(batch)["loss"])
        want, want_gradients = value_and_gradients(learner, padded_loss(learner, padded))
        torch.testing.assert_close(given, want, rtol=2e-7, atol=0)
        for name, gradient in gradients.items():
            size = float(want_gradients[name].abs().max())
            torch.testing.assert_close(
                gradient, want_gradients[name], rtol=0, atol=2e-7 * size + 1e-14, msg=name
            )


@pytest.mark.parametrize("mixing", MIXINGS)
def test_the_padded_loss_agrees_on_long_episodes_of_many_agents(mixing: Mixing) -> None:
    spec = make_spec(n_agents=8, n_actions=14, limit=60)
    batch = random_batch(1, n_episodes=8, spec=spec)
    torch.manual_seed(0)
    learner = QLearner(spec, config_of(mixing, hidden_size=64))
    with torch.no_grad():  # as in the middle of training: not far from the online network, but not it
        for parameter in learner.target["actor"].parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    given, gradients = value_and_gradients(learner, learner.loss(batch)["loss"])
    want, want_gradients = value_and_gradients(learner, padded_loss(learner, batch.to_padded(100)))
    torch.testing.assert_close(given, want, rtol=1e-5, atol=0)
    for name, gradient in gradients.items():
        size = float(want_gradients[name].abs().max())
        torch.testing.assert_close(gradient, want_gradients[name], rtol=0, atol=1e-5 * size, msg=name)


# --- by hand ---


@pytest.mark.parametrize(("double_q", "want"), [(True, 86.0625), (False, 148.5625)])
def test_a_tiny_case_by_hand(double_q: bool, want: float) -> None:
    """Constant values: online (1, 2), target (30, 20); γ = 1/2, λ = 0, one agent, no mixer.

    Episode 0 terminates: actions 0 1 0, rewards 1 -1 0.5; at frame 2 only action 0 is legal.
    Episode 1 is truncated: action 1, reward 2.

        double Q:  targets 1 + 20/2, -1 + 30/2, 0.5; 2 + 20/2     errors 10, 12, -0.5; 10
        otherwise: targets 1 + 30/2, -1 + 30/2, 0.5; 2 + 30/2     errors 15, 12, -0.5; 15
    """
    spec = EpisodeSpec.of(n_agents=1, n_actions=2, episode_limit=5, obs_shape=(1,))
    avail = torch.ones(6, 1, 2, dtype=torch.bool)
    avail[2, 0, 1] = False
    fields = {
        "obs": torch.randn(6, 1, 1, generator=torch.Generator().manual_seed(0)),
        "avail_actions": avail,
        "alive": torch.ones(6, 1, dtype=torch.bool),
        "actions": torch.tensor([0, 1, 0, 1, 1, 0])[:, None],
        "reward": torch.tensor([1, -1, 0.5, torch.nan, 2, torch.nan]),
    }
    batch = EpisodeBatch(spec, fields, torch.tensor([3, 1]), torch.tensor([True, False]))
    learner = QLearner(spec, config_of("iql", gamma=0.5, td_lambda=0.0, double_q=double_q))
    for networks, values in [(learner.online, [1.0, 2.0]), (learner.target, [30.0, 20.0])]:
        head = cast(LinearHead, cast(Actor, networks["actor"]).head)
        with torch.no_grad():
            head.linear.weight.zero_()
            head.linear.bias.copy_(torch.tensor(values))
    metrics = {name: value.detach() for name, value in learner.loss(batch).items()}
    assert float(metrics["loss"]) == want
    assert float(metrics["q_taken"]) == (1 + 2 + 1 + 2) / 4
    errors = [10, 12, -0.5, 10] if double_q else [15, 12, -0.5, 15]
    assert float(metrics["td_error_abs"]) == sum(map(abs, errors)) / 4
    assert float(metrics["target"]) == (sum(errors) + 6) / 4


# --- what must not matter ---


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("reward_per_agent", [False, True])
def test_garbage_in_the_step_fields_of_final_frames_changes_no_bit(
    mixing: Mixing, reward_per_agent: bool
) -> None:
    batch = random_batch(3, reward_per_agent=reward_per_agent)
    other = with_garbage(batch, seed=99)
    final = final_frames(batch)
    assert not batch["reward"][final].isfinite().all()
    assert not torch.equal(batch["actions"][final], other["actions"][final])
    learner = make_learner(mixing, batch.spec, normalise_reward="standardise")
    twin = copy.deepcopy(learner)
    first, second = learner.update(batch), twin.update(other)
    for name, value in first.items():
        assert value.isfinite()
        assert torch.equal(value, second[name]), name
    assert_unchanged(twin, snapshot(learner))


@pytest.mark.parametrize("mixing", MIXINGS)
def test_what_agents_do_after_they_have_left_changes_no_bit(mixing: Mixing) -> None:
    batch = random_batch(4, n_episodes=9, reward_per_agent=mixing == "iql")
    gone = ~batch.alive
    assert gone.any()
    generator = torch.Generator().manual_seed(0)
    obs, actions, avail = batch.obs.clone(), batch["actions"].clone(), batch.avail_actions.clone()
    obs[gone] = torch.randn(obs[gone].shape, generator=generator)
    actions[gone] = torch.randint(0, batch.spec.n_actions, actions[gone].shape, generator=generator)
    avail[gone] = False
    fields = {**batch.fields, "obs": obs, "actions": actions, "avail_actions": avail}
    if mixing == "iql":
        reward = batch["reward"].clone()
        reward[gone] = 1000.0
        fields["reward"] = reward
    other = EpisodeBatch(batch.spec, fields, batch.lengths, batch.terminated)
    learner = make_learner(mixing, batch.spec)
    for name, value in learner.loss(batch).items():
        assert torch.equal(value, learner.loss(other)[name]), name


@pytest.mark.parametrize("mixing", MIXINGS)
def test_the_length_of_padding_changes_no_bit(mixing: Mixing) -> None:
    spec = make_spec(limit=120)
    batch = make_batch(spec, [5, 120, 1, 33, 119, 120], [True, False, False, True, False, True], seed=2)
    learner = make_learner(mixing, spec)
    want, want_gradients = value_and_gradients(learner, learner.loss(batch)["loss"])
    for limit in (120, 1200):
        again = EpisodeBatch.from_padded(batch.to_padded(limit), spec)
        assert_same_episodes(again, batch)
        given, gradients = value_and_gradients(learner, learner.loss(again)["loss"])
        assert torch.equal(given, want)
        for name, gradient in gradients.items():
            assert torch.equal(gradient, want_gradients[name]), name


@pytest.mark.parametrize("mixing", MIXINGS)
def test_order_and_multiplicity_of_episodes_do_not_matter(mixing: Mixing) -> None:
    batch = random_batch(5, n_episodes=7)
    learner = make_learner(mixing, batch.spec)
    want, want_gradients = value_and_gradients(learner, learner.loss(batch)["loss"])
    parts = batch.split()
    shuffled = EpisodeBatch.cat([parts[i] for i in (4, 2, 6, 0, 5, 3, 1)])
    for other in (shuffled, EpisodeBatch.cat([batch, batch]), EpisodeBatch.cat([shuffled, batch, shuffled])):
        given, gradients = value_and_gradients(learner, learner.loss(other)["loss"])
        torch.testing.assert_close(given, want, rtol=1e-5, atol=0)
        for name, gradient in gradients.items():
            size = float(want_gradients[name].abs().max())
            torch.testing.assert_close(gradient, want_gradients[name], rtol=0, atol=1e-5 * size, msg=name)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_the_loss_weighs_every_step_alike(mixing: Mixing) -> None:
    """The batch's loss is the mean over counted steps, not a mean of episodes' means."""
    batch = random_batch(6, n_episodes=7)
    learner = make_learner(mixing, batch.spec)
    total, count = 0.0, 0
    for episode in batch.split():
        counted = int(episode.steps("alive").sum()) if mixing == "iql" else episode.n_steps
        total += float(learner.loss(episode)["loss"].detach()) * counted
        count += counted
    assert float(learner.loss(batch)["loss"].detach()) == pytest.approx(total / count, rel=1e-5)


# --- purity and updates ---


@pytest.mark.parametrize("mixing", MIXINGS)
def test_loss_is_pure(mixing: Mixing) -> None:
    batch = random_batch(8)
    fields = {name: tensor.clone() for name, tensor in batch.fields.items()}
    learner = make_learner(mixing, batch.spec, normalise_reward="standardise")
    learner.update(batch)  # so that there is an optimiser state, and moments to standardise with
    optimiser = copy.deepcopy(learner.optimiser.state_dict())
    before, generator = snapshot(learner), torch.get_rng_state()
    first, second = learner.loss(batch), learner.loss(batch)
    assert first.keys() == second.keys() == {"loss", "q_taken", "target", "td_error_abs"}
    for name, value in first.items():
        assert value.shape == ()
        assert torch.equal(value, second[name]), name
        assert value.requires_grad == (name == "loss")
    assert_unchanged(learner, before)
    assert torch.equal(torch.get_rng_state(), generator)
    torch.testing.assert_close(learner.optimiser.state_dict(), optimiser, rtol=0, atol=0)
    for name, tensor in batch.fields.items():
        torch.testing.assert_close(tensor, fields[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_update_moves_the_online_network_and_the_target_by_tau(mixing: Mixing) -> None:
    batch = random_batch(9)
    fields = {name: tensor.clone() for name, tensor in batch.fields.items()}
    learner = make_learner(mixing, batch.spec, target_tau=0.25, lr=1e-2)
    for updates in range(1, 4):
        before = snapshot(learner)
        metrics = learner.update(batch)
        assert not any(value.requires_grad for value in metrics.values())
        assert learner.updates == updates
        for name, parameter in online(learner).items():
            assert not torch.equal(parameter, before[f"online.{name}"]), name
            target = learner.networks.state_dict()[f"target.{name}"]
            want = torch.lerp(before[f"target.{name}"], parameter, 0.25)
            torch.testing.assert_close(target, want, rtol=0, atol=0, msg=name)
    assert int(learner.reward_moments.count) == 0, "rewards are not standardised here"
    for name, tensor in batch.fields.items():
        torch.testing.assert_close(tensor, fields[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_a_hard_target_is_copied_every_period(mixing: Mixing) -> None:
    batch = random_batch(9)
    learner = make_learner(mixing, batch.spec, target_update="hard", target_period=3, lr=1e-2)
    for updates in range(1, 8):
        before = snapshot(learner)
        learner.update(batch)
        for name, parameter in online(learner).items():
            want = parameter if updates % 3 == 0 else before[f"target.{name}"]
            assert torch.equal(learner.networks.state_dict()[f"target.{name}"], want), (updates, name)


def test_every_parameter_is_optimised_and_no_target_is() -> None:
    for mixing in MIXINGS:
        learner = QLearner(make_spec(), config_of(mixing))
        held = {id(p) for group in learner.optimiser.param_groups for p in group["params"]}
        assert held == {id(p) for p in online(learner).values()}
        assert held == {id(p) for p in learner.networks.parameters() if p.requires_grad}
        # A fresh target network is a copy of its own, not the same tensors.
        for name, parameter in online(learner).items():
            target = learner.networks.state_dict()[f"target.{name}"]
            assert torch.equal(target, parameter)
            assert target.data_ptr() != parameter.data_ptr()


@pytest.mark.parametrize("mixing", MIXINGS)
def test_gradients_are_clipped_to_the_norm_and_reported_before(mixing: Mixing) -> None:
    batch = random_batch(10)
    for bound in (1e-3, 1e9):
        learner = make_learner(mixing, batch.spec, max_grad_norm=bound)
        _, gradients = value_and_gradients(learner, learner.loss(batch)["loss"])
        norm = torch.cat([g.flatten() for g in gradients.values()]).norm()
        metrics = learner.update(batch)
        torch.testing.assert_close(metrics["grad_norm"], norm)
        scale = min(1.0, bound / float(norm))
        for name, parameter in learner.networks.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None
                torch.testing.assert_close(parameter.grad, gradients[name] * scale, rtol=1e-4, atol=1e-9)
        applied = torch.cat(
            [p.grad.flatten() for p in learner.networks.parameters() if p.grad is not None]
        ).norm()
        assert float(applied) <= bound * (1 + 1e-5)
        if bound < 1:
            assert float(norm) > bound


@pytest.mark.parametrize("mixing", MIXINGS)
def test_updates_fit_rewards(mixing: Mixing) -> None:
    batch = random_batch(11)
    torch.manual_seed(0)
    learner = QLearner(batch.spec, config_of(mixing, gamma=0.0, lr=5e-3, hidden_size=64))
    first = float(learner.update(batch)["loss"])
    for _ in range(150):
        last = float(learner.update(batch)["loss"])
    assert last < 0.2 * first


# --- reward normalisation ---


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("reward_per_agent", [False, True])
def test_reward_moments_are_those_of_real_steps(mixing: Mixing, reward_per_agent: bool) -> None:
    spec = make_spec(reward_per_agent=reward_per_agent)
    learner = make_learner(mixing, spec, normalise_reward="standardise")
    seen: list[float] = []
    for seed in range(5):
        batch = random_batch(20 + seed, spec=spec)
        for episode in batch.split():
            for t in range(episode.n_steps):  # the final frame's reward is garbage
                reward = episode["reward"][t].double().expand(spec.n_agents)
                if mixing == "iql":
                    seen += reward[episode.alive[t]].tolist()
                else:
                    seen.append(float(reward[episode.alive[t]].sum() if reward_per_agent else reward[0]))
        learner.update(batch)
        moments = learner.reward_moments
        assert int(moments.count) == len(seen)
        # Team rewards are summed in float32 before they are counted.
        np.testing.assert_allclose(float(moments.mean), np.mean(seen), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(float(moments.squares / moments.count), np.var(seen), rtol=1e-5)


@pytest.mark.parametrize("how", ["scale", "standardise"])
def test_normalised_rewards_enter_the_loss(how: str) -> None:
    batch = random_batch(12)
    learner = make_learner("vdn", batch.spec, normalise_reward=how)
    plain = make_learner("vdn", batch.spec)
    # Before any update nothing was seen, and the reward is taken as it is.
    assert torch.equal(learner.loss(batch)["loss"], plain.loss(batch)["loss"])
    reward = batch.steps("reward")
    learner.reward_moments.add(reward)
    scaled = batch["reward"].clone()
    standardised = (reward - reward.mean()) / reward.std(correction=0)
    scaled[batch.step_frames] = reward / reward.square().mean().sqrt() if how == "scale" else standardised
    by_hand = EpisodeBatch(
        batch.spec, {**batch.fields, "reward": scaled}, batch.lengths, batch.terminated, checked=True
    )
    torch.testing.assert_close(learner.loss(batch)["loss"], plain.loss(by_hand)["loss"])


def test_running_moments_against_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    moments, seen = RunningMoments(), np.zeros(0)
    values = torch.randn(10, generator=generator)
    assert torch.equal(moments.standardise(values), values)
    for n in (1, 1, 7, 1000, 3):
        # Far from zero, where the mean of squares less the square of the mean would lose every digit.
        chunk = torch.randn(n, generator=generator, dtype=torch.float64) * 0.01 + 1e6
        moments.add(chunk)
        seen = np.append(seen, chunk)
        np.testing.assert_allclose(float(moments.mean), seen.mean(), rtol=1e-12)
        np.testing.assert_allclose(float(moments.squares / moments.count), seen.var(), rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(float(moments.rms), np.sqrt((seen**2).mean()), rtol=1e-9)
    standardised = moments.standardise(torch.from_numpy(seen))
    np.testing.assert_allclose(standardised, (seen - seen.mean()) / seen.std(), rtol=1e-4, atol=1e-4)


def test_running_moments_of_a_constant_stay_finite() -> None:
    moments = RunningMoments()
    moments.add(torch.full((5,), 2.0))
    assert torch.equal(moments.standardise(torch.full((3,), 2.0)), torch.zeros(3))
    assert torch.equal(moments.scale(torch.full((3,), 2.0)), torch.ones(3)), "a reward of 1 a step stays one"


def test_moments_survive_a_checkpoint() -> None:
    batch = random_batch(13)
    learner = make_learner("qmix", batch.spec, normalise_reward="standardise")
    learner.update(batch)
    other = QLearner(batch.spec, learner.config)
    other.load_state_dict(learner.state_dict())
    assert torch.equal(other.loss(batch)["loss"], learner.loss(batch)["loss"])


# --- the configuration ---


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gamma", 1.5, "gamma: given 1.5, want 0 to 1"),
        ("gamma", float("nan"), "gamma: given nan, want 0 to 1"),
        ("td_lambda", -0.1, "td_lambda: given -0.1, want 0 to 1"),
        ("target_tau", 2.0, "target_tau: given 2.0, want 0 to 1"),
        ("lr", 0.0, "lr: given 0.0, want more than 0"),
        ("lr", float("nan"), "lr: given nan, want more than 0"),
        ("target_period", 0, "target_period: given 0, want more than 0"),
        ("max_grad_norm", -1.0, "max_grad_norm: given -1.0, want more than 0"),
        ("hidden_size", 0, "hidden_size: given 0, want more than 0"),
        ("mixer_embed_size", 0, "mixer_embed_size: given 0, want more than 0"),
        ("mixer_hyper_size", -3, "mixer_hyper_size: given -3, want more than 0"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, value: float, message: str) -> None:
    changes = {name: value}
    with pytest.raises(ValueError, match=re.escape(message)):
        ALGORITHMS["qmix"](**changes)


def test_a_misspelt_word_is_not_taken_for_another() -> None:
    # Seen by the shape checker in the tests, by the class itself otherwise.
    with pytest.raises((ValueError, TypeCheckError), match="Soft"):
        QMIXConfig(target_update="Soft")  # type: ignore[arg-type]
    with pytest.raises((ValueError, TypeCheckError), match="sometimes"):
        QMIXConfig(normalise_reward="sometimes")  # type: ignore[arg-type]


def test_the_limits_of_what_makes_sense_are_taken() -> None:
    for gamma, td_lambda, tau in itertools.product([0.0, 1.0], repeat=3):
        config = config_of("vdn", gamma=gamma, td_lambda=td_lambda, target_tau=tau)
        assert (config.gamma, config.td_lambda, config.target_tau) == (gamma, td_lambda, tau)
