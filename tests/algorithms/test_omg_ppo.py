"""PPO beside partners: against a loop in float64; what a batch keeps while it is learned from; what acts."""

from __future__ import annotations

import copy
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.algorithms import OMGPPOConfig, OMGPPOLearner
from endmark.algorithms.omg.policy import ModellingSoftmax
from endmark.algorithms.omg.prior import gaussian_kl
from endmark.algorithms.omg.subgoals import History
from endmark.algorithms.omg.view import of_batch
from endmark.envs import make
from endmark.episodes import EpisodeBatch, Field
from endmark.ops.categorical import log_softmax
from endmark.policies import with_seats
from endmark.run import read_metrics
from endmark.training import TrainConfig, load, train
from support.helpers import garbage, make_spec
from support.seated import (
    MODELS,
    in_double,
    make_omg_ppo,
    moved,
    seated_batch,
    seen_at,
    small_spec,
    write_prior,
)

CERTAIN: dict[str, Any] = {"sample_codes": False, "mix_start": 0.0}
"""Nothing is drawn."""
SUBGOALS = ("supervised", "omg")


def played(seed: int, **options: Any) -> EpisodeBatch:
    """Episodes of legal actions, with log-probabilities that have nothing to do with any weights here."""
    batch = seated_batch(seed, extra=True, **options)
    steps = batch.step_frames
    legal = batch.avail_actions.clone()
    taken = torch.nn.functional.one_hot(batch.steps("actions"), batch.spec.n_actions).bool()
    legal[steps] |= taken & batch.alive[steps][..., None]
    return replace(batch, fields={**batch.fields, "avail_actions": legal}, checked=True)


def in_doubles(learner: OMGPPOLearner) -> OMGPPOLearner:
    learner.networks.double()
    return learner


def prepared(learner: OMGPPOLearner, batch: EpisodeBatch) -> EpisodeBatch:
    """The batch with all that its epochs keep."""
    return learner._with_targets(learner._with_codes(batch, learner._draws())[0])


def loss_of(learner: OMGPPOLearner, part: EpisodeBatch) -> dict[str, Tensor]:
    return learner._loss(part, learner._draws())


def value_and_gradients(
    learner: OMGPPOLearner, batch: EpisodeBatch
) -> tuple[dict[str, Tensor], list[Tensor]]:
    metrics = learner.loss(batch)
    parameters = [p for group in learner._groups for p in group]
    gradients = torch.autograd.grad(metrics["loss"], parameters)
    return {name: value.detach() for name, value in metrics.items()}, list(gradients)


def same(one: tuple[dict[str, Tensor], list[Tensor]], other: tuple[dict[str, Tensor], list[Tensor]]) -> bool:
    assert one[0].keys() == other[0].keys()
    equal = all(torch.equal(value, other[0][name]) for name, value in one[0].items())
    return equal and all(map(torch.equal, one[1], other[1]))


# The loss.


def naive_loss(old: OMGPPOLearner, new: OMGPPOLearner, batch: EpisodeBatch) -> dict[str, float]:
    """The parts of the loss of `new`, by a loop over episodes and steps, where `old` was as the batch began.

    Codes are means; the critic is told every subgoal if `mix_start` is 1, and none if it is 0.
    """
    config, moments = old.config, old.networks.value_moments
    mean, std = (float(moments.mean), float(moments.std)) if config.normalise_value else (0.0, 1.0)
    steps: list[dict[str, float]] = []
    inference: list[float] = []
    for e, length in enumerate(batch.lengths.tolist()):
        one = batch.select([e])
        own = of_batch(one, config.goal_of)
        seen = own.obs
        if config.critic_of == "state":
            seen = torch.cat([one.state, own.obs[:, -batch.spec.n_agents :]], 1)
        before, now = old.networks, new.networks
        belief, belief_now = (n.actor.model(own, one.time_major) for n in (before, now))
        logits = [n.actor.unroll(own, one.time_major) for n in (before, now)]
        critics = [n.critic.unroll(seen, own.own_last, one.time_major) for n in (before, now)]
        (seat,) = one["learns"][0].nonzero()[:, 0].tolist()
        values = [
            mean + std * float(before.critic.value(critics[0][t], belief.code[t])) for t in range(length + 1)
        ]
        model = before.actor.model
        advantage, own_steps = 0.0, []
        for t in reversed(range(length)):
            if not own.alive[t]:
                continue
            reward = one["reward"][t, seat] if batch.spec.reward_per_agent else one["reward"][t]
            is_last = (t == length - 1 and bool(one.terminated[0])) or not own.alive[t + 1]
            td_error = float(reward) - values[t] + (0.0 if is_last else config.gamma * values[t + 1])
            carried = 0.0 if is_last or t == length - 1 else config.gamma * config.gae_lambda * advantage
            advantage = td_error + carried
            code = critic_code = belief.code[t]
            if isinstance(model, History):
                mu, log_var = model.prior.encode(own.goal_obs)
                window = []
                for f in range(t + 1, min(t + config.horizon, length) + 1):
                    if config.goal_of == "obs" and not own.alive[f]:
                        break
                    window.append(f)
                if window:
                    worth = [float(before.critic.value(critics[0][t], mu[f])) for f in window]
                    best = min(worth) if config.selector == "conservative" else max(worth)
                    goal = window[worth.index(best)]
                    critic_code = mu[goal] if config.mix_start == 1 else code
                    inferring: Any = now.actor.model
                    h = belief_now.history[t, inferring.frame.out_features :]
                    decoded = inferring.decoder(torch.cat([belief_now.code[t], h]))
                    error = (decoded - model.prior.standardised(own.goal_obs[t])).square().mean()
                    kl = gaussian_kl(belief_now.code[t], belief_now.log_var[t], mu[goal], log_var[goal])
                    inference.append(float(error) + config.kl_weight * float(kl))
            log_probs = [
                torch.where(own.avail_actions[t], n.actor.head(f[t], code), -torch.inf).log_softmax(0)
                for n, f in zip((before, now), logits, strict=True)
            ]
            action = one["actions"][t, seat]
            legal = log_probs[1][own.avail_actions[t]]
            own_steps.append(
                {
                    "advantage": advantage,
                    "target": (advantage + values[t] - mean) / std,
                    "ratio": float((log_probs[1][action] - log_probs[0][action]).exp()),
                    "entropy": -float((legal.exp() * legal).sum()),
                    "old_value": float(before.critic.value(critics[0][t], critic_code)),
                    "value": float(now.critic.value(critics[1][t], critic_code)),
                }
            )
        steps += own_steps
    advantages = torch.tensor([step["advantage"] for step in steps], dtype=torch.float64)
    if config.normalise_advantage:
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
    policy = value = 0.0
    for step, a in zip(steps, advantages.tolist(), strict=True):
        clipped = min(max(step["ratio"], 1 - config.clip), 1 + config.clip)
        policy -= min(step["ratio"] * a, clipped * a)
        error = (step["value"] - step["target"]) ** 2
        if config.value_clip is not None:
            change = min(max(step["value"] - step["old_value"], -config.value_clip), config.value_clip)
            error = max(error, (step["old_value"] + change - step["target"]) ** 2)
        value += 0.5 * error
    n = len(steps)
    return {
        "policy_loss": policy / n,
        "value_loss": value / n,
        "entropy": sum(step["entropy"] for step in steps) / n,
        "model_loss": sum(inference) / max(len(inference), 1),
    }


@pytest.mark.parametrize("seed", [10, 11])
@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mix_start": 1.0, "selector": "conservative", "horizon": 3},
        {"mix_start": 1.0, "goal_of": "state", "critic_of": "state", "gae_lambda": 0.5},
        {"normalise_advantage": False, "normalise_value": False, "value_clip": None, "agent": "feedforward"},
        {"model": "none", "critic_of": "state"},
        {"model": "index", "normalise_advantage": False},
        {"model": "actions", "last_action": False},
    ],
    ids=str,
)
def test_the_loss_is_that_of_a_loop(
    settings: dict[str, Any], changed: bool, seed: int, tmp_path: Path
) -> None:
    """changed: by weights that are no longer those by which the batch was prepared, model included."""
    batch = in_double(played(seed, reward_per_agent=seed % 2 == 0))
    spec = small_spec(reward_per_agent=seed % 2 == 0)
    old = in_doubles(make_omg_ppo(tmp_path, spec, **(CERTAIN | settings)))
    new = moved(copy.deepcopy(old), 99) if changed else old
    with torch.no_grad():
        given = loss_of(new, prepared(old, batch)) if changed else new.loss(batch)
        want = naive_loss(old, new, batch)
    for name, value in want.items():
        assert float(given[name]) == pytest.approx(value, rel=1e-6, abs=1e-9), name
    whole = want["policy_loss"] + want["value_loss"] + want["model_loss"] - 0.01 * want["entropy"]
    assert float(given["loss"]) == pytest.approx(whole, rel=1e-6, abs=1e-7)  # its parts may cancel
    if changed:
        assert float(given["clip_fraction"]) > 0.1


# What stays as it is while a batch is learned from.


@pytest.mark.parametrize("agent", ["gru", "attention", "feedforward"])
@pytest.mark.parametrize("model", MODELS)
def test_the_ratio_starts_at_one(model: Any, agent: Any, tmp_path: Path) -> None:
    """Exactly, and stays so while only the model and the critic learn."""
    batch = played(20)
    learner = make_omg_ppo(tmp_path, small_spec(), model=model, agent=agent)
    metrics = learner.loss(batch)
    assert float(metrics["policy_kl"]) == float(metrics["clip_fraction"]) == 0.0
    kept = prepared(learner, batch)
    with torch.no_grad():
        for parameter in [*learner._model, *learner._critic]:
            parameter.add_(1.0)
    assert float(loss_of(learner, kept)["policy_kl"]) == 0.0
    with torch.no_grad():
        for parameter in learner._policy:
            parameter.add_(0.3 * torch.randn_like(parameter))
    assert float(loss_of(learner, kept)["policy_kl"]) > 0.0


@pytest.mark.parametrize("model", MODELS)
def test_a_part_of_a_batch_starts_at_one(model: Any, tmp_path: Path) -> None:
    """Up to the last bit, which may depend on an episode's company."""
    learner = in_doubles(make_omg_ppo(tmp_path, small_spec(), model=model))
    kept = prepared(learner, in_double(played(21)))
    for part in ([0, 3], [5, 1, 2], [4]):
        assert float(loss_of(learner, kept.select(part))["policy_kl"]) == pytest.approx(0.0, abs=1e-20)


@pytest.mark.parametrize("model", MODELS)
def test_policy_critic_and_model_learn_apart(model: Any, tmp_path: Path) -> None:
    """The gradient of each does not change with the weights of the others."""
    learner = make_omg_ppo(tmp_path, small_spec(), model=model, mix_start=0.5)
    kept = prepared(learner, played(22))
    groups = {"policy": learner._policy, "critic": learner._critic, "model": learner._model}
    groups = {name: group for name, group in groups.items() if group}

    def gradients(of: str) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss_of(learner, kept)["loss"], groups[of])

    for name in groups:
        before = gradients(name)
        assert any(gradient.abs().sum() > 0 for gradient in before)
        weights = copy.deepcopy(learner.networks.state_dict())
        with torch.no_grad():
            for other in groups.keys() - {name}:
                for parameter in groups[other]:
                    parameter.add_(0.5)
        assert all(map(torch.equal, before, gradients(name))), name
        learner.networks.load_state_dict(weights)


@pytest.mark.parametrize("model", SUBGOALS)
def test_advantages_know_nothing_of_the_selected_subgoal(model: Any, tmp_path: Path) -> None:
    """It is a frame of the future; the critic alone is told."""
    batch = played(23)
    told, untold = (make_omg_ppo(tmp_path, small_spec(), model=model, mix_start=s) for s in (1.0, 0.0))
    one, other = prepared(told, batch), prepared(untold, batch)
    for name in ("advantage", "value_target", "code", "old_log_prob"):
        assert torch.equal(one.steps(name), other.steps(name)), name
    assert not torch.equal(one.steps("critic_code"), other.steps("critic_code"))
    assert float(told.loss(batch)["told"]) > 0.3


@pytest.mark.parametrize("model", MODELS)
def test_an_update_changes_what_it_must_and_nothing_else(model: Any, tmp_path: Path) -> None:
    learner = make_omg_ppo(tmp_path, small_spec(), model=model)
    before = copy.deepcopy(learner.networks.state_dict())
    metrics = learner.update(played(24))
    assert metrics.keys() <= OMGPPOConfig.METRICS.keys()
    assert all(value.isfinite() and not value.requires_grad for value in metrics.values())
    assert learner.updates == 1
    for name, tensor in learner.networks.state_dict().items():
        stays = ".prior." in name or (model == "none" and name.endswith("head.code.weight"))  # reads zeros
        assert torch.equal(tensor, before[name]) == stays, name


def test_every_metric_is_that_of_some_model(tmp_path: Path) -> None:
    logged = set[str]()
    for model in MODELS:
        learner = make_omg_ppo(tmp_path, small_spec(), model=model, horizon=10)
        logged |= learner.update(played(25)).keys()
    assert logged == OMGPPOConfig.METRICS.keys()


def test_a_model_that_is_told_nothing_learns_nothing(tmp_path: Path) -> None:
    """Where (8) acts on what is to be inferred, in the batches in which it does."""
    learner = make_omg_ppo(tmp_path, small_spec(), mix="target", mix_start=1.0)
    before = [parameter.clone() for parameter in learner._model]
    metrics = learner.update(played(26))
    assert all(value.isfinite() for value in metrics.values())
    assert float(metrics["told"]) == 1.0
    assert all(map(torch.equal, before, learner._model))


@pytest.mark.parametrize("model", MODELS)
def test_the_loss_is_a_pure_function_and_that_of_the_first_step(model: Any, tmp_path: Path) -> None:
    batch = played(27)
    learner = make_omg_ppo(tmp_path, small_spec(), model=model, epochs=1, normalise_value=False)
    before = copy.deepcopy(learner.networks.state_dict())
    first = value_and_gradients(learner, batch)
    assert same(first, value_and_gradients(learner, batch))
    assert all(torch.equal(t, before[name]) for name, t in learner.networks.state_dict().items())
    metrics = learner.update(batch)
    assert all(torch.equal(value, metrics[name]) for name, value in first[0].items())


@pytest.mark.parametrize("model", MODELS)
def test_updates_go_on_bit_for_bit(model: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": model, "minibatches": 3, "mix_updates": 5}
    learner = make_omg_ppo(tmp_path, small_spec(), **options)
    other = make_omg_ppo(tmp_path, small_spec(), seed=7, **options)
    learner.update(played(0))
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    for seed in range(1, 4):
        one, two = learner.update(played(seed)), other.update(played(seed))
        assert all(torch.equal(one[name], two[name]) for name in one)
    for name, tensor in learner.networks.state_dict().items():
        assert torch.equal(tensor, other.networks.state_dict()[name]), name


def test_epochs_stop_where_the_policy_has_moved_too_far(tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": "liam", "epochs": 20, "actor_lr": 1e-2}
    free = make_omg_ppo(tmp_path, small_spec(), **options)
    assert float(free.update(played(28))["steps_taken"]) == 20
    held = make_omg_ppo(tmp_path, small_spec(), target_kl=0.01, **options)
    assert 1 <= float(held.update(played(28))["steps_taken"]) < 20


# What must not matter, and what must.


@pytest.mark.parametrize("critic_of", ["obs", "state"])
@pytest.mark.parametrize("model", MODELS)
def test_partners_own_numbers_do_not_matter(model: Any, critic_of: Any, tmp_path: Path) -> None:
    """Their legal actions, rewards and log-probabilities: not a bit."""
    batch = played(29, reward_per_agent=True)
    learner = make_omg_ppo(tmp_path, small_spec(reward_per_agent=True), model=model, critic_of=critic_of)
    first = batch.first_frames.repeat_interleave(batch.lengths + 1)
    theirs = ~batch["learns"][first]
    draws = torch.Generator().manual_seed(0)
    fields = dict(batch.fields)
    for name in ("reward", "avail_actions", "log_prob"):
        fields[name] = fields[name].clone()
        fields[name][theirs] = garbage(fields[name][theirs], draws)
    poisoned = replace(batch, fields=fields, checked=True)
    assert same(value_and_gradients(learner, poisoned), value_and_gradients(learner, batch))


def test_the_critic_reads_the_state_where_it_is_to(tmp_path: Path) -> None:
    batch = played(30)
    other = replace(batch, fields={**batch.fields, "state": batch.state + 1.0}, checked=True)
    for critic_of, matters in (("obs", False), ("state", True)):
        learner = make_omg_ppo(tmp_path, small_spec(), model="none", critic_of=critic_of)
        one, two = learner.loss(batch)["value"], learner.loss(other)["value"]
        assert torch.equal(one, two) != matters


@pytest.mark.parametrize("model", ["none", "liam"])
def test_updates_make_better_rewarded_actions_likelier(model: Any, tmp_path: Path) -> None:
    """A bandit: the learner's action 0 is worth 1, its others nothing, and its partners' all the more."""
    spec = small_spec(n_agents=3, reward_per_agent=True)
    learner = make_omg_ppo(tmp_path, spec, model=model, actor_lr=5e-3, critic_lr=5e-3, gamma=0.0)
    for seed in range(60):
        batch = played(seed, reward_per_agent=True)
        rewarded = torch.where(batch["learns"], 1.0, -9.0) * (batch["actions"] == 0)
        batch = replace(batch, fields={**batch.fields, "reward": rewarded}, checked=True)
        learner.update(batch)
    view = of_batch(batch, "obs")
    with torch.no_grad():
        code = learner.actor.model(view, batch.time_major).code
        logits = learner.actor.head(learner.actor.unroll(view, batch.time_major), code)
    assert float(logits.softmax(1)[:, 0].mean()) > 0.6


# What acts.


@pytest.mark.parametrize("model", MODELS)
def test_what_acts_stores_the_log_probability_of_what_it_did(model: Any, tmp_path: Path) -> None:
    """Frame by frame it acts as the loss says of whole episodes, and does what is legal."""
    batch = in_double(seated_batch(31, n_episodes=5))
    learner = in_doubles(make_omg_ppo(tmp_path, batch.spec, model=model, **CERTAIN))
    view = of_batch(batch, "obs")
    with torch.no_grad():
        code = learner.actor.model(view, batch.time_major).code
        logits = learner.actor.head(learner.actor.unroll(view, batch.time_major), code)
    log_probs = log_softmax(logits, view.avail_actions)
    policy = learner.policy(learner.actor, 1, torch.Generator().manual_seed(0))
    greedy = learner.greedy_policy(1)
    for f in range(batch.n_frames):
        seen = seen_at(batch, torch.tensor([f]))
        given = policy.act(seen)
        assert given["actions"].shape == given["log_prob"].shape == (1, batch.spec.n_agents)
        (action,), (likeliest,) = {*given["actions"][0].tolist()}, {*greedy.act(seen)["actions"][0].tolist()}
        if view.alive[f]:
            assert bool(view.avail_actions[f, action])
            assert likeliest == int(log_probs[f].argmax())
        torch.testing.assert_close(given["log_prob"][0, 0], log_probs[f, action], rtol=1e-10, atol=1e-10)


def test_a_policy_draws_by_its_probabilities(tmp_path: Path) -> None:
    batch = seated_batch(32, n_episodes=1)
    learner = make_omg_ppo(tmp_path, batch.spec, model="none")
    policy = learner.policy(learner.actor, 4000, torch.Generator().manual_seed(0))
    given = policy.act(seen_at(batch, torch.zeros(4000, dtype=torch.int64)))
    share = torch.bincount(given["actions"][:, 0], minlength=4) / 4000
    likely = torch.zeros(4).index_put((given["actions"][:, 0],), given["log_prob"][:, 0].exp())
    torch.testing.assert_close(share, likely, rtol=0, atol=0.03)


def test_a_policy_goes_on_from_its_state(tmp_path: Path) -> None:
    """Codes are drawn, too."""
    batch = seated_batch(33, n_episodes=4)
    learner = make_omg_ppo(tmp_path, batch.spec)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    one, other = (ModellingSoftmax(learner.actor, 2, "obs", g, draw_codes=True) for g in generators)
    frames = torch.arange(batch.n_frames // 2 * 2).view(2, -1)
    for t, pair in enumerate(frames.unbind(1)):
        seen = seen_at(batch, pair)
        given = one.act(seen)
        if t >= 3:
            again = other.act(seen)
            assert all(torch.equal(value, again[name]) for name, value in given.items())
        if t == 2:
            other.load_state_dict(copy.deepcopy(one.state_dict()))


# Training.

LBF = "lbforaging:Foraging-5x5-2p-1f-v3"


@pytest.mark.parametrize("model", MODELS)
def test_it_trains_beside_scripted_partners(model: Any, tmp_path: Path) -> None:
    """The first batch is of the weights that it is learned by: what acted is what learns."""
    (tmp_path / "prior").mkdir()
    with closing(make(LBF)) as env:
        prior = write_prior(tmp_path / "prior", with_seats(env.spec), "obs")
    algorithm = OMGPPOConfig(
        model=model, prior=prior, hidden_size=8, batch_size=4, epochs=2, minibatches=2, sample_codes=False
    )
    config = TrainConfig[Any](
        algorithm=algorithm,
        env=LBF,
        partners=("endmark.policies.scripted:random",),
        steps=300,
        n_envs=2,
        log_every=50,
        eval_every=200,
        eval_episodes=2,
        episode_limit=20,
    )
    train(config, tmp_path / "run", lambda *_: None)
    learned = [line for line in read_metrics(tmp_path / "run") if "policy_loss" in line]
    assert len(learned) >= 3
    first = learned[0]["acted_kl"]
    assert first is not None
    assert first < 1e-5
    loaded, learner = load(tmp_path / "run")
    assert loaded.algorithm == algorithm
    assert isinstance(learner, OMGPPOLearner)


# Settings.


def test_the_learner_stores_log_prob(tmp_path: Path) -> None:
    learner = make_omg_ppo(tmp_path, small_spec())
    assert learner.spec == small_spec().extend(log_prob=Field((3,), torch.float32, per="step"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "prior: given none, want one for model 'omg'"),
        ({"model": "none", "clip": 0.0}, "clip: given 0.0, want more than 0"),
        ({"model": "none", "horizon": 11}, "horizon: given 11, want 1 to 10"),
        ({"model": "none", "minibatches": 17}, "minibatches: given 17, want 1 to 16"),
        ({"model": "none", "gae_lambda": 2.0}, "gae_lambda: given 2.0, want 0 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OMGPPOConfig(**settings)


def test_without_partners_it_is_refused() -> None:
    with pytest.raises(ValueError, match="partners: given none"):
        OMGPPOLearner(make_spec(), OMGPPOConfig(model="none"))
