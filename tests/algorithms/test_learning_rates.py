"""`lr_updates`: learning rates that fall in a straight line, and what a run that is resumed knows of them."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from endmark.algorithms import ALGORITHMS
from endmark.algorithms.named import config_class
from endmark.episodes import EpisodeBatch
from support.helpers import make_batch, make_spec
from support.seated import BESIDE_PARTNERS, seated_batch

FALLING = [
    name
    for name, kind in ALGORITHMS.items()
    if any(field.name == "lr_updates" for field in dataclasses.fields(kind))  # type: ignore[arg-type]
]


def test_every_algorithm_has_the_option() -> None:
    assert [*ALGORITHMS] == FALLING


def batch_of(name: str) -> EpisodeBatch:
    if name in BESIDE_PARTNERS:
        batch = seated_batch(3)
    else:
        batch = make_batch(make_spec(), [3, 5, 7], [True, False, True])
    batch["avail_actions"].fill_(True)  # what was done was legal
    return batch


def learner_of(name: str, batch: EpisodeBatch, **settings: Any) -> Any:
    torch.manual_seed(0)
    return config_of(name, **settings).learner(batch.spec, torch.device("cpu"))


def config_of(name: str, **settings: Any) -> Any:
    plain = {"model": "none"} if name in BESIDE_PARTNERS else {}  # which needs no prior
    return config_class(name)(**plain, **settings)


def updated(learner: Any, batch: EpisodeBatch) -> list[float]:
    """The learning rates that an update used."""
    if "log_prob" in learner.spec.fields:
        batch = batch.with_steps(log_prob=torch.full((batch.n_steps, batch.spec.n_agents), -1.0))
    learner.update(batch)
    return [group["lr"] for group in learner.optimiser.param_groups]


def weights(learner: Any) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in learner.actor.parameters()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", FALLING)
def test_rates_fall_in_a_straight_line_and_nothing_moves_at_the_end(name: str) -> None:
    batch = batch_of(name)
    learner = learner_of(name, batch, lr_updates=4)
    first = [group["lr"] for group in learner.optimiser.param_groups]
    for update in range(4):
        before = weights(learner)
        assert updated(learner, batch) == pytest.approx([rate * (1 - update / 4) for rate in first])
        assert not same(before, weights(learner))
    before = weights(learner)
    for _ in range(2):
        assert updated(learner, batch) == [0.0] * len(first)
    assert same(before, weights(learner))


@pytest.mark.parametrize("name", FALLING)
def test_rates_stay_by_default(name: str) -> None:
    batch = batch_of(name)
    learner = learner_of(name, batch)
    first = [group["lr"] for group in learner.optimiser.param_groups]
    assert updated(learner, batch) == updated(learner, batch) == first


@pytest.mark.parametrize("name", FALLING)
def test_a_learner_that_is_loaded_goes_on_at_the_same_rate(name: str) -> None:
    batch = batch_of(name)
    learner, other = (learner_of(name, batch, lr_updates=5) for _ in range(2))
    for _ in range(2):
        updated(learner, batch)
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    assert updated(learner, batch) == updated(other, batch) != updated(learner_of(name, batch), batch)
    assert same(weights(learner), weights(other))


@pytest.mark.parametrize("name", FALLING)
def test_a_number_of_updates_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lr_updates: given -1, want at least 0, and finite"):
        config_of(name, lr_updates=-1)
