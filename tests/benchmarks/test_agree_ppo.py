"""The check that comes before MAPPO's times can fail: each wrong half is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from benchmarks.agree import Disagreement
from benchmarks.agree_ppo import check_ppo
from benchmarks.border import ppo_baseline_of
from benchmarks.setting import draw
from benchmarks.shapes import TINY, uniform
from torch import Tensor

from benchmarks import agree_ppo, baseline_ppo
from endmark.algorithms import MAPPOConfig
from endmark.algorithms.ppo import PPOLearner
from endmark.episodes import EpisodeBatch

Patch = Callable[[pytest.MonkeyPatch], None]


def wrap(owner: Any, name: str, change: Callable[..., Any]) -> Patch:
    """Replace `owner.name` by `change(original, *arguments)`."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, **named: change(original, *given, **named))

    return patch


def batch_of(seed: int) -> EpisodeBatch:
    return draw(TINY, uniform, 7, leaves=True, seed=seed)


def learner_of(batch: EpisodeBatch, **settings: Any) -> PPOLearner:
    return PPOLearner(batch.spec, MAPPOConfig(hidden_size=8, **settings))


def nothing_lasts(original: Any, reward: Tensor, *given: Any) -> Tensor:
    value, next_value, mask, ended, *rest = given
    result: Tensor = original(reward, value, next_value, mask, torch.ones_like(ended), *rest)
    return result


def phantom_step(original: Any, batch: EpisodeBatch) -> Any:
    padded = original(batch)
    padded.mask[:, 1:] |= padded.mask[:, :-1].clone()
    padded.mask[:, -1] = False
    return padded


def one_epoch(original: Any, self: Any, *given: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self, "config", MAPPOConfig(epochs=1))
        return original(self, *given)


def no_moments(original: Any, self: Any, *given: Any, take_in: bool) -> Any:
    return original(self, *given, take_in=False)


PPOBaseline = baseline_ppo.PPOBaselineLearner
WRONG: dict[str, Patch] = {
    "every step ends": wrap(baseline_ppo, "padded_gae", nothing_lasts),
    "a step too many": wrap(agree_ppo, "padded_batch", phantom_step),
    "half a loss": wrap(PPOLearner, "loss", lambda f, *x: {k: v * 0.5 for k, v in f(*x).items()}),
    "an epoch of four": wrap(PPOBaseline, "update", one_epoch),
    "moments without values": wrap(PPOBaseline, "prepare", no_moments),
}


@pytest.mark.parametrize("patch", WRONG.values(), ids=WRONG.keys())
def test_whatever_is_wrong_is_refused(patch: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(2)
    check_ppo(learner_of(batch), batch)
    patch(monkeypatch)
    with pytest.raises(Disagreement, match=r"not timed|shapes"):
        check_ppo(learner_of(batch), batch)


@pytest.mark.parametrize("seed", range(3))
def test_minibatches_are_the_same_too(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(seed)
    check_ppo(learner_of(batch, minibatches=3), batch)
    monkeypatch.setattr(agree_ppo, "divisions_of", lambda *_: None)
    with pytest.raises(Disagreement, match="an update of"):
        check_ppo(learner_of(batch, minibatches=3), batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"critic": "central"}, "one clipped value for the team"),
        ({"value_clip": None}, "one clipped value for the team"),
        ({"normalise_value": False}, "normalises values"),
        ({"agent": "feedforward"}, "one recurrent network"),
    ],
)
def test_what_the_baseline_is_not(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ppo_baseline_of(learner_of(batch_of(0), **settings))
