"""A2C and PPO against the padded losses of the usual kind, and by the laws that connect them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.algorithms import ALGORITHMS, A2CLearner, PPOLearner
from endmark.algorithms.actor_critic import targets_of
from endmark.algorithms.ppo import with_targets
from endmark.algorithms.proximal import balanced
from endmark.episodes import EpisodeBatch, EpisodeSpec, Field
from endmark.ops.categorical import log_prob, log_softmax
from support.helpers import final_frames, make_spec, random_batch, with_garbage
from support.padded_actor_critic import padded_a2c_loss, padded_ppo_loss, padded_terms
from support.padded_oracle import perturb

NAMES = ("ia2c", "maa2c", "ippo", "mappo")
CRITICS = [("own", "agent"), ("own", "team"), ("central", "agent"), ("central", "team"), ("team", "team")]


def make_learner(name: str, spec: EpisodeSpec, *, seed: int = 0, **settings: Any) -> A2CLearner | PPOLearner:
    """A learner with every parameter moved, and with value targets seen before."""
    torch.manual_seed(seed)
    kind: Any = ALGORITHMS[name]
    hidden_size = 8 if settings.get("agent") == "attention" else 9
    learner = kind(hidden_size=hidden_size, **settings).learner(spec, torch.device("cpu"))
    assert isinstance(learner, A2CLearner | PPOLearner)
    perturb(learner.networks, torch.Generator().manual_seed(seed + 1))
    learner.networks.value_moments.add(torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 2 + 1)
    return learner


def played(spec: EpisodeSpec, seed: int, *, n_episodes: int = 7) -> EpisodeBatch:
    """Random episodes with legal actions, and the log-probability of each under some older policy."""
    batch = random_batch(seed, n_episodes=n_episodes, spec=spec)
    avail = batch.avail_actions.clone()
    steps = batch.step_frames
    avail[steps] = avail[steps].scatter(2, batch.steps("actions")[..., None], True)
    batch = EpisodeBatch(spec, {**batch.fields, "avail_actions": avail}, batch.lengths, batch.terminated)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(avail[steps].shape, generator=generator)
    taken = log_prob(log_softmax(logits, avail[steps]), batch.steps("actions"))
    return with_garbage(batch.with_steps(log_prob=taken), seed)


def in_float64(
    learner: A2CLearner | PPOLearner, batch: EpisodeBatch
) -> tuple[EpisodeBatch, dict[str, Tensor]]:
    """The learner's networks, the batch, and the padded batch in float64."""
    learner.networks.double()

    def double(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}

    return replace(batch, fields=double(batch.fields), checked=True), double(batch.to_padded())


def gradients(learner: A2CLearner | PPOLearner, loss: Tensor) -> dict[str, Tensor]:
    named = dict(learner.networks.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def assert_same_gradients(given: Mapping[str, Tensor], want: Mapping[str, Tensor], tolerance: float) -> None:
    assert given.keys() == want.keys()
    for name, gradient in given.items():
        size = float(want[name].abs().max())
        assert size > 0, f"{name}: a gradient of zero shows nothing"
        torch.testing.assert_close(gradient, want[name], rtol=0, atol=tolerance * size, msg=name)


# --- the padded losses ---


@pytest.mark.parametrize("name", ["ia2c", "ippo"])
@pytest.mark.parametrize(("critic", "reward"), CRITICS)
@pytest.mark.parametrize(
    ("agent", "seed"),
    [("gru", seed) for seed in range(4)] + [("feedforward", 0), ("attention", 3)],  # that loop takes seconds
)
def test_the_padded_loss_agrees_in_value_and_in_every_gradient(
    name: str, critic: str, reward: str, agent: str, seed: int
) -> None:
    per_agent, state, share = seed % 2 == 0, seed % 4 < 2, ("kind", "all", "all", "none")[seed]
    n_agents = 1 + (seed + 2) % 3
    spec = make_spec(n_agents=n_agents, reward_per_agent=per_agent, state=state, kinds=(0, 1, 0)[:n_agents])
    settings: dict[str, Any] = {"normalise_value": seed != 1, "normalise_advantage": seed != 2}
    if name == "ippo" and seed == 1:
        settings["value_clip"] = None
    learner = make_learner(
        name, spec, critic=critic, reward=reward, agent=agent, share=share, seed=seed, **settings
    )
    batch = played(spec, seed)
    assert spec.n_agents == 1 or not batch.alive.all()
    batch, padded = in_float64(learner, batch)
    loss = learner.loss(batch)["loss"]
    oracle: Any = padded_a2c_loss if name == "ia2c" else padded_ppo_loss
    want = oracle(learner.networks, learner.config, padded)
    torch.testing.assert_close(loss, want, rtol=1e-6, atol=1e-9)
    # What differs is the rounding of discounts, which are float32 whatever the values are.
    assert_same_gradients(gradients(learner, loss), gradients(learner, want), 1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_ppo_agrees_with_the_padded_loss_after_the_policy_has_moved(seed: int) -> None:
    """Ratios far from 1 and values far from the old ones, so that every clip is on."""
    spec = make_spec(reward_per_agent=True)
    learner = make_learner("ippo", spec, seed=seed)
    assert isinstance(learner, PPOLearner)
    batch, padded = in_float64(learner, played(spec, seed))
    targets = padded_terms(learner.networks, learner.config, padded)
    prepared = with_targets(batch, learner.networks, learner.config, learner.networks.critic(batch))
    perturb(learner.networks, torch.Generator().manual_seed(99))
    metrics = learner._loss(prepared)
    assert 0.05 < float(metrics["clip_fraction"]) < 0.95
    want = padded_ppo_loss(learner.networks, learner.config, padded, targets)
    torch.testing.assert_close(metrics["loss"], want, rtol=1e-6, atol=1e-9)
    assert_same_gradients(gradients(learner, metrics["loss"]), gradients(learner, want), 1e-5)


# --- laws ---


def as_taken_now(learner: A2CLearner | PPOLearner, batch: EpisodeBatch) -> EpisodeBatch:
    """The batch as if the learner's own policy had acted in all of it."""
    with torch.no_grad():
        logits = learner.networks.actor(batch)
    now = log_prob(log_softmax(logits, batch.avail_actions), batch["actions"].clamp(0, 3))
    return replace(batch, fields={**batch.fields, "log_prob": now}, checked=True)


@pytest.mark.parametrize(("a2c", "ppo"), [("ia2c", "ippo"), ("maa2c", "mappo")])
def test_ppo_without_clipping_has_the_gradient_of_a2c_at_first(a2c: str, ppo: str) -> None:
    spec = make_spec()
    first, second = make_learner(a2c, spec), make_learner(ppo, spec, clip=1e6, value_clip=None)
    batch = as_taken_now(first, played(spec, 3))
    batch, _ = in_float64(first, batch)
    second.networks.double()
    batch = as_taken_now(first, batch)
    a, b = first.loss(batch), second.loss(batch)
    assert float(b["clip_fraction"]) == 0
    torch.testing.assert_close(a["value_loss"], b["value_loss"])
    assert float(a["log_prob_drift"]) == pytest.approx(0, abs=1e-12)
    assert_same_gradients(gradients(second, b["loss"]), gradients(first, a["loss"]), 1e-9)


def test_lambda_one_is_the_monte_carlo_return_less_the_value() -> None:
    spec = make_spec(reward_per_agent=True)
    learner = make_learner("ia2c", spec, gae_lambda=1.0, gamma=0.9)
    batch = played(spec, 5)
    targets = targets_of(batch, learner.networks, learner.config, learner.networks.critic(batch))
    values = learner.networks.value_moments.restore(learner.networks.critic(batch).detach())
    start = first_step = 0
    for length, terminated in zip(batch.lengths.tolist(), batch.terminated.tolist(), strict=True):
        for n in range(spec.n_agents):
            alive = [bool(batch.alive[start + t, n]) for t in range(length + 1)]
            # An agent that has left before the final frame has a terminal step of its own.
            cut = not terminated and alive[length]
            g = float(values[start + length, n]) if cut else 0.0
            for t in reversed(range(length)):
                if not alive[t]:
                    continue
                g = float(batch["reward"][start + t, n]) + 0.9 * g
                want = g - float(values[start + t, n])
                assert float(targets.advantage[first_step + t, n]) == pytest.approx(want, rel=1e-4, abs=1e-4)
        start, first_step = start + length + 1, first_step + length


@pytest.mark.parametrize("name", NAMES)
def test_one_agent_with_one_action_has_no_policy_to_learn(name: str) -> None:
    spec = make_spec(n_agents=1, n_actions=1)
    learner = make_learner(name, spec)
    batch = played(spec, 1)
    metrics = learner.loss(batch)
    assert float(metrics["entropy"]) == 0
    named = dict(learner.networks.actor.named_parameters())
    for gradient in torch.autograd.grad(metrics["loss"], list(named.values()), allow_unused=True):
        assert gradient is None or float(gradient.abs().max()) == 0


# --- what must not matter ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per_agent", [False, True])
def test_garbage_on_final_frames_and_of_agents_that_left_changes_no_bit(name: str, per_agent: bool) -> None:
    spec = make_spec(reward_per_agent=per_agent)
    batch = played(spec, 2)
    other = with_garbage(batch, 99)
    final, gone = final_frames(batch), ~batch.alive
    assert not torch.equal(batch["log_prob"][final].nan_to_num(), other["log_prob"][final].nan_to_num())
    gone[final] = False
    fields = dict(other.fields)
    for field, nonsense in [("log_prob", float("nan")), ("actions", 3), ("avail_actions", False)]:
        fields[field] = fields[field].clone()
        fields[field][gone] = nonsense
    other = replace(other, fields=fields, checked=True)
    learner = make_learner(name, spec)
    twin = copy.deepcopy(learner)
    first, second = learner.update(batch), twin.update(other)
    for key, value in first.items():
        assert value.isfinite(), key
        assert torch.equal(value, second[key]), key
    for key, tensor in learner.networks.state_dict().items():
        assert torch.equal(tensor, twin.networks.state_dict()[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_pure_and_updates_are_counted(name: str) -> None:
    spec = make_spec()
    batch, learner = played(spec, 4), make_learner(name, make_spec())
    before = {key: tensor.clone() for key, tensor in learner.networks.state_dict().items()}
    first, second = learner.loss(batch), learner.loss(batch)
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
        assert value.requires_grad == (key == "loss"), key
    for key, tensor in learner.networks.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    metrics = learner.update(batch)
    assert metrics.keys() == ALGORITHMS[name].METRICS.keys()
    assert not any(value.requires_grad for value in metrics.values())
    assert learner.updates == 1
    changed = [k for k, tensor in learner.networks.state_dict().items() if not torch.equal(tensor, before[k])]
    assert changed == list(before)


@pytest.mark.parametrize("name", NAMES)
def test_updates_make_better_rewarded_actions_likelier(name: str) -> None:
    """A bandit: action 0 is worth 1, the others nothing."""
    spec = make_spec(n_agents=2, reward_per_agent=True)
    settings: dict[str, Any] = {"critic": "central"} if name in ("maa2c", "mappo") else {}
    learner = make_learner(name, spec, actor_lr=5e-3, critic_lr=5e-3, gamma=0.0, reward="agent", **settings)
    for seed in range(60):
        batch = played(spec, seed)
        rewarded = (batch["actions"] == 0).float()
        batch = replace(batch, fields={**batch.fields, "reward": rewarded}, checked=True)
        learner.update(as_taken_now(learner, batch))
    logits = learner.networks.actor(batch).detach()
    everything = torch.ones_like(batch.avail_actions)
    likely = log_softmax(logits, everything).exp()[..., 0][batch.alive]
    assert float(likely.mean()) > 0.6


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_goes_on_bit_for_bit(name: str) -> None:
    spec = make_spec()
    settings: dict[str, Any] = {"minibatches": 3} if name in ("ippo", "mappo") else {}
    learner, other = make_learner(name, spec, **settings), make_learner(name, spec, seed=7, **settings)
    learner.update(played(spec, 0))
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    for seed in range(1, 4):
        first, second = learner.update(played(spec, seed)), other.update(played(spec, seed))
        assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert other.updates == learner.updates == 4


# --- minibatches and early stopping ---


def test_minibatches_hold_every_episode_once_and_are_balanced() -> None:
    generator = torch.Generator().manual_seed(0)
    for n, n_parts in itertools.product([1, 2, 7, 30], [1, 2, 4]):
        lengths = torch.randint(1, 50, (n,), generator=generator)
        parts = balanced(lengths, n_parts, generator)
        assert sorted(itertools.chain.from_iterable(parts)) == list(range(n))
        assert len(parts) == min(n, n_parts)
        assert all(parts)
        steps = [int(lengths[part].sum()) for part in parts]
        if n > n_parts:
            assert max(steps) - min(steps) <= int(lengths.max())
    alike = torch.full((8,), 3)
    assert balanced(alike, 2, generator) != balanced(alike, 2, generator), "equally long ones are shuffled"


def test_ppo_takes_a_step_for_each_epoch_and_minibatch() -> None:
    spec = make_spec()
    learner = make_learner("ippo", spec, epochs=3, minibatches=2)
    metrics = learner.update(played(spec, 0))
    assert float(metrics["steps_taken"]) == 6
    assert next(iter(learner.optimiser.state.values()))["step"] == 6


def test_ppo_stops_where_the_policy_has_moved_too_far() -> None:
    spec = make_spec()
    learner = make_learner("ippo", spec, epochs=50, target_kl=0.01, actor_lr=1e-2)
    batch = as_taken_now(learner, played(spec, 0))
    steps = float(learner.update(batch)["steps_taken"])
    assert 1 <= steps < 50
    free = make_learner("ippo", spec, epochs=50, actor_lr=1e-2)
    assert float(free.update(batch)["steps_taken"]) == 50


# --- the configuration ---


@pytest.mark.parametrize("name", NAMES)
def test_the_learner_stores_log_prob(name: str) -> None:
    learner = make_learner(name, make_spec())
    assert learner.spec.fields["log_prob"] == Field((3,), torch.float32, per="step")
    assert learner.spec == make_spec().extend(log_prob=learner.spec.fields["log_prob"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 1.5}, "gamma: given 1.5, want 0 to 1"),
        ({"gae_lambda": -1.0}, "gae_lambda: given -1.0, want 0 to 1"),
        ({"entropy_coef": -0.1}, "entropy_coef: given -0.1, want at least 0"),
        ({"clip": 0.0}, "clip: given 0.0, want more than 0"),
        ({"target_kl": 0.0}, "target_kl: given 0.0, want more than 0"),
        ({"epochs": 0}, "epochs: given 0, want at least 1"),
        ({"minibatches": 17}, "minibatches: given 17, want 1 to 16"),
        ({"critic": "team", "reward": "agent"}, "reward: given 'agent', want 'team'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALGORITHMS["mappo"](**settings)
