"""OMG and the models beside it: against loops in float64, by what acts, and by what must not matter."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.algorithms import OMGConfig, OMGLearner
from endmark.algorithms.omg.prior import gaussian_kl
from endmark.algorithms.omg.subgoals import History
from endmark.algorithms.omg.view import of_batch
from endmark.episodes import EpisodeBatch, ragged
from support.helpers import garbage
from support.seated import MODELS, double, in_double, make_omg, seated_batch, small_spec

CERTAIN: dict[str, Any] = {"sample_codes": False, "mix_start": 0.0}
"""Nothing is drawn."""


def value_and_gradients(learner: OMGLearner, batch: EpisodeBatch) -> tuple[float, list[Tensor]]:
    parameters = [p for p in learner.networks.parameters() if p.requires_grad]
    loss = learner.loss(batch)["loss"]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    kept = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    return float(loss.detach()), kept


def same(one: tuple[float, list[Tensor]], other: tuple[float, list[Tensor]]) -> bool:
    return one[0] == other[0] and all(map(torch.equal, one[1], other[1]))


# The loss.


def naive_loss(learner: OMGLearner, batch: EpisodeBatch, share: float, horizon: int) -> tuple[float, float]:
    """The TD loss and the model's, by a loop over episodes and steps; codes are means, told if share is 1."""
    config, actor, target = learner.config, learner.actor, learner._target
    model = actor.model
    assert isinstance(model, History)
    view = of_batch(batch, config.goal_of)
    td, inference, n_td, n_model = 0.0, 0.0, 0, 0
    start = 0
    for e, length in enumerate(batch.lengths.tolist()):
        (one,) = [batch.select([e])]
        own = of_batch(one, config.goal_of)
        features, slow = actor.unroll(own, one.time_major), target.unroll(own, one.time_major)
        belief = model(own, one.time_major)
        mu, log_var = model.prior.encode(own.goal_obs)
        (seat,) = one["learns"][0].nonzero()[:, 0].tolist()
        for t in range(length):
            if not own.alive[t]:
                continue
            window = []
            for k in range(1, horizon + 1):
                if t + k > length or (config.goal_of == "obs" and not own.alive[t + k]):
                    break
                window.append(t + k)
            legal = own.avail_actions[t]
            values = [float(actor.head(features[t], mu[f])[legal].mean()) for f in window]
            code = belief.code[t]
            if window:
                best = max(values) if config.selector == "optimistic" else min(values)
                goal = window[values.index(best)]
                code = mu[goal] if share == 1.0 else code
                seen = model.prior.standardised(own.goal_obs[goal if config.reconstruct == "subgoal" else t])
                decoded = model.decoder(  # type: ignore[operator]
                    torch.cat([belief.code[t], belief.history[t, model.frame.out_features :]])
                )
                kl = gaussian_kl(belief.code[t], belief.log_var[t], mu[goal], log_var[goal])
                inference += float((decoded - seen).square().mean()) + config.kl_weight * float(kl)
                n_model += 1
            q = actor.head(features[t], code)[one["actions"][t, seat]]
            next_code = belief.code[t + 1] if config.held is False else code
            reward = one["reward"][t, seat] if batch.spec.reward_per_agent else one["reward"][t]
            is_last = (t == length - 1 and bool(one.terminated[0])) or not own.alive[t + 1]
            value = float(reward)
            if not is_last:
                next_q = torch.where(
                    own.avail_actions[t + 1], actor.head(features[t + 1], next_code), -torch.inf
                )
                value += config.gamma * float(target.head(slow[t + 1], next_code)[next_q.argmax()])
            td += (value - float(q)) ** 2
            n_td += 1
        start += length + 1
    assert start == batch.n_frames == len(view.obs)
    return td / n_td, inference / max(n_model, 1)


@pytest.mark.parametrize("seed", [10, 11, 12])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"selector": "conservative", "horizon": 3},
        {"goal_of": "state", "horizon": 10},
        {"held": False, "reconstruct": "subgoal"},
        {"mix_start": 1.0, "horizon": 1},
        {"mix_start": 1.0, "duelling": False, "agent": "feedforward"},
    ],
    ids=str,
)
def test_the_loss_is_that_of_a_loop(settings: dict[str, Any], seed: int, tmp_path: Path) -> None:
    batch = in_double(seated_batch(seed, reward_per_agent=seed % 2 == 0))
    learner = double(make_omg(tmp_path, batch.spec, **(CERTAIN | settings)))
    with torch.no_grad():
        given = learner.loss(batch)
        td, inference = naive_loss(learner, batch, settings.get("mix_start", 0.0), settings.get("horizon", 5))
    assert float(given["model_loss"]) == pytest.approx(inference, rel=1e-6)
    assert float(given["loss"] - given["model_loss"]) == pytest.approx(td, rel=1e-5)


@pytest.mark.parametrize("model", ["actions", "naive", "liam", "supervised", "omg"])
def test_a_subgoal_is_held_and_nothing_else_is(model: Any, tmp_path: Path) -> None:
    """What the others do at a step says nothing of the next one, whose value is read under its own code."""
    batch = seated_batch(19)
    losses = {
        held: make_omg(tmp_path, batch.spec, model=model, held=held, **CERTAIN).loss(batch)["loss"].item()
        for held in (None, True, False)
    }
    assert losses[True] != losses[False]
    assert losses[None] == losses[model in ("supervised", "omg")]


@pytest.mark.parametrize("model", MODELS)
def test_the_values_and_the_model_learn_apart(model: Any, tmp_path: Path) -> None:
    """No gradient of the TD error reaches the model, nor one of the model's loss the values."""
    batch = seated_batch(20)
    learner = make_omg(tmp_path, batch.spec, model=model)
    metrics = learner.loss(batch)
    td = metrics["loss"] - 0.0
    of_model = learner.actor.model.parameters()
    learning = [p for p in of_model if p.requires_grad]
    gradients = torch.autograd.grad(td, learner._values, retain_graph=True)
    assert any(g.abs().sum() > 0 for g in gradients)
    if learning:
        assert any(g.abs().sum() > 0 for g in torch.autograd.grad(td, learning, retain_graph=True))
    # With the values' weights changed, the model's gradient changes only through the choice of subgoals.
    if model in ("naive", "liam"):
        before = torch.autograd.grad(td, learning)
        with torch.no_grad():
            for p in learner._values:
                p.add_(1.0)
        after = torch.autograd.grad(learner.loss(batch)["loss"], learning)
        assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("model", ["supervised", "omg"])
def test_the_prior_stays_as_it_is(model: Any, tmp_path: Path) -> None:
    batch = seated_batch(21)
    learner = make_omg(tmp_path, batch.spec, model=model)
    assert isinstance(learner.actor.model, History)
    before = copy.deepcopy(learner.actor.model.prior.state_dict())
    for seed in range(5):
        learner.update(seated_batch(seed))
    after = learner.actor.model.prior.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("model", MODELS)
def test_updates_go_on_bit_for_bit(model: Any, tmp_path: Path) -> None:
    learner = make_omg(tmp_path, small_spec(), model=model)
    other = make_omg(tmp_path, small_spec(), model=model, seed=7)
    learner.update(seated_batch(0))
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    for seed in range(1, 4):
        one, two = learner.update(seated_batch(seed)), other.update(seated_batch(seed))
        assert all(torch.equal(one[name], two[name]) for name in one)
        assert set(one) <= set(OMGConfig.METRICS)
    for name, tensor in learner.networks.state_dict().items():
        assert torch.equal(tensor, other.networks.state_dict()[name]), name


@pytest.mark.parametrize("model", MODELS)
def test_the_loss_is_a_pure_function(model: Any, tmp_path: Path) -> None:
    batch = seated_batch(22)
    learner = make_omg(tmp_path, batch.spec, model=model)
    assert same(value_and_gradients(learner, batch), value_and_gradients(learner, batch))


@pytest.mark.parametrize("model", MODELS)
def test_partners_own_numbers_do_not_matter(model: Any, tmp_path: Path) -> None:
    """Their legal actions and rewards."""
    batch = seated_batch(23, reward_per_agent=True)
    learner = make_omg(tmp_path, batch.spec, model=model)
    first = batch.first_frames.repeat_interleave(batch.lengths + 1)
    theirs = ~batch["learns"][first]
    draws = torch.Generator().manual_seed(0)
    fields = dict(batch.fields)
    for name in ("reward", "avail_actions"):
        fields[name] = fields[name].clone()
        fields[name][theirs] = garbage(fields[name][theirs], draws)
    poisoned = replace(batch, fields=fields, checked=True)
    assert same(value_and_gradients(learner, poisoned), value_and_gradients(learner, batch))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("horizon", [1, 2, 4])
def test_nothing_beyond_a_window_matters(model: Any, horizon: int, tmp_path: Path) -> None:
    """The learner leaves after its second step, so that its last window ends 1 + horizon frames in."""
    batch = in_double(seated_batch(24, n_episodes=5, limit=12))
    options = {"model": model, "horizon": horizon, "goal_of": "state"}
    learner = double(make_omg(tmp_path, batch.spec, **(CERTAIN | options)))
    alive, late = batch.alive.clone(), list[int]()
    for start, length in zip(batch.first_frames.tolist(), batch.lengths.tolist(), strict=True):
        (seat,) = batch["learns"][start].nonzero()[:, 0].tolist()
        alive[start + 2 : start + length + 1, seat] = False
        alive[start : start + 2, seat] = True
        late += range(start + 2 + horizon, start + length + 1)
    batch = replace(batch, fields={**batch.fields, "alive": alive}, checked=True)
    assert late
    draws = torch.Generator().manual_seed(0)
    fields = dict(batch.fields)
    for name in ("obs", "state", "actions", "reward", "avail_actions"):
        fields[name] = fields[name].clone()
        values = torch.randint(0, 2, fields[name][late].shape, generator=draws)
        fields[name][late] = (values * (3 if name == "actions" else 77)).to(fields[name].dtype)
    poisoned = replace(batch, fields=fields, checked=True)
    one, other = value_and_gradients(learner, batch), value_and_gradients(learner, poisoned)
    assert one[0] == pytest.approx(other[0], rel=1e-12)
    for mine, its in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-12)


# Mutants: the errors of the padded way.


def over_the_end(lengths: Tensor, horizon: int, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Windows that run on into the next episode."""
    frames, real = ragged_windows(lengths, horizon, present)
    steps = ragged.step_frames(lengths)
    frames = (steps[:, None] + torch.arange(1, horizon + 1)).clamp(max=int((lengths + 1).sum()) - 1)
    return frames, torch.ones_like(real)


def padding_among_the_candidates(
    lengths: Tensor, horizon: int, present: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What stands in place of frames that are not real counts as a candidate."""
    frames, real = ragged_windows(lengths, horizon, present)
    return frames, torch.ones_like(real)


def without_the_final_frame(
    lengths: Tensor, horizon: int, present: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The final frame is no candidate, as where only the states of later steps are kept."""
    frames, real = ragged_windows(lengths, horizon, present)
    finals = ragged.final_frames(lengths).repeat_interleave(lengths)
    return frames, real & (frames < finals[:, None])


ragged_windows = ragged.windows


@pytest.mark.parametrize("wrong", [over_the_end, padding_among_the_candidates, without_the_final_frame])
def test_a_wrong_window_is_seen(wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop of `naive_loss` sees it."""
    seen = 0
    for seed in range(30, 36):
        batch = in_double(seated_batch(seed))
        learner = double(make_omg(tmp_path, batch.spec, **CERTAIN))
        with torch.no_grad():
            td, inference = naive_loss(learner, batch, 0.0, 5)
            monkeypatch.setattr(ragged, "windows", wrong)
            given = learner.loss(batch)
            monkeypatch.setattr(ragged, "windows", ragged_windows)
        seen += float(given["model_loss"]) != pytest.approx(inference, rel=1e-6)
        assert float(given["loss"] - given["model_loss"]) == pytest.approx(td, rel=1e-5)
    assert seen >= 4
