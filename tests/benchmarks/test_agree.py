"""The check that comes before every time can fail: each wrong half is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from benchmarks.agree import (
    CORNER,
    MARGIN,
    Disagreement,
    _corners,
    check_update,
    same,
    same_fields,
    without_corners,
    without_ties,
)
from benchmarks.baseline_replay import PaddedReplay
from benchmarks.baseline_runner import OneEnvironmentActor
from benchmarks.run import run
from torch import Tensor, nn

from benchmarks import agree, baseline
from benchmarks import targets as targets_section
from endmark.algorithms import QLearner, QMIXConfig
from endmark.episodes import EpisodeBatch
from endmark.nets import LinearHead, QMIXMixer, RecurrentAgent
from support.helpers import random_batch

Patch = Callable[[pytest.MonkeyPatch], None]


def wrap(owner: Any, name: str, change: Callable[..., Any]) -> Patch:
    """Replace `owner.name` by `change(original, *arguments)`."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, **named: change(original, *given, **named))

    return patch


def nothing_lasts(
    original: Any, reward: Tensor, value: Tensor, mask: Tensor, ended: Tensor, *rest: float
) -> Tensor:
    result: Tensor = original(reward, value, mask, torch.ones_like(ended), *rest)
    return result


def phantom_step(original: Any, batch: EpisodeBatch) -> Any:
    padded = original(batch)
    padded.mask[:, 1:] |= padded.mask[:, :-1].clone()
    padded.mask[:, -1] = False
    return padded


def half(original: Any, *given: Any) -> Any:
    return original(*given) * 0.5


def no_optimiser(original: Any, self: baseline.BaselineLearner, batch: Any) -> Any:
    self.optimiser.step = lambda *_: None  # type: ignore[method-assign]
    return original(self, batch)


def never_follows(original: Any, self: baseline.BaselineLearner, batch: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "_foreach_lerp_", lambda *_: None)
        return original(self, batch)


WRONG: dict[str, Patch] = {
    "every step ends": wrap(baseline, "padded_lambda_return", nothing_lasts),
    "a step too many": wrap(agree, "padded_batch", phantom_step),
    "half a mixer": wrap(baseline.Mixer, "forward", half),
    "half a loss": wrap(QLearner, "loss", lambda f, *x: {k: v * 0.5 for k, v in f(*x).items()}),
    "no step of the optimiser": wrap(baseline.BaselineLearner, "update", no_optimiser),
    "a target network that stays": wrap(baseline.BaselineLearner, "update", never_follows),
    "learns less": wrap(QLearner, "_follow", lambda f, self: None),
}


@pytest.mark.parametrize("patch", WRONG.values(), ids=WRONG.keys())
def test_whatever_is_wrong_is_refused(patch: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch(2, n_episodes=7)
    config = QMIXConfig(hidden_size=8, mixer_embed_size=4, mixer_hyper_size=6, normalise_reward="none")
    check_update(QLearner(batch.spec, config), batch)
    patch(monkeypatch)
    with pytest.raises(Disagreement, match=r"not timed|shapes"):
        check_update(QLearner(batch.spec, config), batch)


def test_a_run_reports_nothing_then(monkeypatch: pytest.MonkeyPatch) -> None:
    WRONG["half a mixer"](monkeypatch)
    with pytest.raises(Disagreement, match=r"the loss differs by .* not timed"):
        run(["update"], threads=1, quick=True, observe=lambda *_: None)


@pytest.mark.parametrize("name", ["padded_gae", "lambda_return"])
def test_targets_are_checked_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrap(targets_section, name, half)(monkeypatch)
    with pytest.raises(Disagreement):
        run(["targets"], threads=1, quick=True, observe=lambda *_: None)


def test_a_store_that_forgets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def upside_down(original: Any, self: PaddedReplay, rows: Tensor) -> Any:
        return original(self, rows.flip(0))

    wrap(PaddedReplay, "rows", upside_down)(monkeypatch)
    with pytest.raises(Disagreement, match="replay"):
        run(["replay"], threads=1, quick=True, observe=lambda *_: None)


def test_other_actions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_legal(original: Any, self: OneEnvironmentActor, obs: Tensor, avail: Tensor) -> Tensor:
        return avail.long().argmax(-1)

    wrap(OneEnvironmentActor, "act", first_legal)(monkeypatch)
    with pytest.raises(Disagreement, match="actions"):
        run(["acting"], threads=1, quick=True, observe=lambda *_: None)


def test_the_same_is_the_same() -> None:
    x = torch.tensor([3.0, 4.0])
    assert same("x", x, x) == 0
    assert same("x", x + torch.tensor([0.0, 2e-5]), x) == pytest.approx(4e-6, rel=0.1)
    with pytest.raises(Disagreement, match=r"x differs by 1\.0e-01 of its norm, want at most 1e-05"):
        same("x", x + torch.tensor([0.0, 0.5]), x)
    with pytest.raises(Disagreement, match="nan"):
        same("x", x * torch.nan, x)
    with pytest.raises(Disagreement, match="shapes"):
        same("x", x[:1], x)
    with pytest.raises(Disagreement, match="field 'b'"):
        same_fields("what", {"a": x, "b": x + 1e-6}, {"a": x, "b": x})


def test_no_unit_stands_at_a_corner() -> None:
    batch = random_batch(1, n_episodes=7)
    learner = QLearner(batch.spec, QMIXConfig(hidden_size=8, normalise_reward="none"))
    with torch.no_grad():
        frame = batch.obs[3, 1]
        agent, mixer = learner.actor.agent, learner.online["mixer"]
        assert isinstance(agent, RecurrentAgent)
        assert isinstance(mixer, QMIXMixer)
        agent.encoder.bias[2] = -agent.encoder.weight[2, : len(frame)] @ frame
        agent.encoder.weight[2, len(frame) :] = 0  # so that this unit of this frame is at 0
        state = batch.state[5]
        last = mixer.weight_1[2]
        assert isinstance(last, nn.Linear)
        last.bias[4] -= mixer.weight_1(state)[4]  # and this weight at that one
    clear = without_corners(learner, batch)
    assert (clear.obs != batch.obs).flatten(1).any(1).nonzero().flatten().tolist() == [3, 5]
    assert all((x.abs() >= CORNER).all() for x in _corners(learner, clear))
    assert not all((x.abs() >= CORNER).all() for x in _corners(learner, batch))
    check_update(learner, batch)


def test_no_two_actions_are_tied_for_the_best() -> None:
    batch = random_batch(1, n_episodes=7)
    learner = QLearner(batch.spec, QMIXConfig(hidden_size=8, normalise_reward="none"))
    with torch.no_grad():
        for parameter in cast(LinearHead, learner.actor.head).parameters():
            parameter.mul_(1e-3)  # so that many are within the margin
    clear = without_ties(learner, batch)
    with torch.no_grad():
        q = torch.where(clear.avail_actions, learner.actor(batch), -torch.inf)
    best, second = q.topk(2, -1).values.unbind(-1)
    assert (best - second >= MARGIN).all()
    assert clear.avail_actions.any(-1).all()
    assert not (clear.avail_actions & ~batch.avail_actions).any()
    assert clear.avail_actions.sum() < batch.avail_actions.sum()
