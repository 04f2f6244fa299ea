"""The losses of prioritised samples against padded losses, episode by episode; the priorities they report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.algorithms import ALGORITHMS, MADDPGLearner, QLearner, ValueLearner
from endmark.algorithms.replay_settings import ReplaySettings
from endmark.algorithms.values import mean, priority
from endmark.audit import Case, audit, hard_batch
from endmark.episodes import EpisodeBatch, Field
from support.helpers import make_batch, make_spec, random_batch
from support.padded_maddpg import padded_maddpg_loss
from support.padded_oracle import padded_loss, perturb
from support.padded_values import padded_value_loss
from support.seated import MODELS, make_omg, seated_batch

NAMES = [n for n, kind in ALGORITHMS.items() if issubclass(kind, ReplaySettings) and n != "omg"]
WEIGHTS = torch.tensor([1.0, 0.25, 0.5, 0.125, 0.75, 0.0625])


def weighted(batch: EpisodeBatch, weight: Tensor) -> EpisodeBatch:
    return batch.with_steps(importance=weight.repeat_interleave(batch.lengths))


def in_double(batch: EpisodeBatch) -> EpisodeBatch:
    fields = {k: v.double() if v.is_floating_point() else v for k, v in batch.fields.items()}
    return replace(batch, fields=fields, checked=True)


def make_learner(name: str, batch: EpisodeBatch, **settings: Any) -> Any:
    torch.manual_seed(0)
    learner: Any = ALGORITHMS[name](hidden_size=8, **settings).learner(batch.spec, torch.device("cpu"))  # type: ignore[call-arg]
    perturb(learner.networks, torch.Generator().manual_seed(1))
    learner.networks.double()
    return learner


def padded(learner: Any, batch: EpisodeBatch) -> Tensor:
    """The loss of this batch by the oracle of its algorithm, where each step weighs the same."""
    tensors = {k: v.double() if v.is_floating_point() else v for k, v in batch.to_padded().items()}
    if isinstance(learner, MADDPGLearner):
        learns = torch.ones(batch.n_episodes, batch.spec.n_agents, dtype=torch.bool)
        return padded_maddpg_loss(learner, tensors, learns)
    if isinstance(learner, QLearner):
        return padded_loss(learner, tensors)
    assert isinstance(learner, ValueLearner)
    return padded_value_loss(learner, tensors)


def gradients(learner: Any, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [p for p in learner.networks.parameters() if p.requires_grad]))


def test_these_are_all() -> None:
    assert {"iql", "qmix", "qplex", "ow-qmix", "cw-qmix", "qtran", "qatten", "vdn", "maddpg"} == {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_that_of_padded_episodes_each_with_its_weight(name: str) -> None:
    """The padded loss of an episode alone is a mean over what counts in it."""
    batch = random_batch(7)
    learner = make_learner(name, batch)
    per_agent = name in ("iql", "maddpg")
    total, counts = torch.zeros((), dtype=torch.float64), 0
    for episode, weight in zip(batch.split(), WEIGHTS.tolist(), strict=True):
        count = int(episode.alive[episode.step_frames].sum()) if per_agent else episode.n_steps
        total, counts = total + weight * count * padded(learner, episode), counts + count
    given = learner.loss(weighted(in_double(batch), WEIGHTS))["loss"]
    want, uniform = total / counts, learner.loss(in_double(batch))["loss"]
    assert not torch.isclose(given, uniform, rtol=1e-3)
    torch.testing.assert_close(given, want, rtol=1e-5, atol=1e-7)
    for got, wanted in zip(gradients(learner, given), gradients(learner, want), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_a_priority_is_of_the_episodes_own_errors(name: str) -> None:
    """Of an episode of one step, it is that step's error."""
    one_agent = name == "maddpg"  # which logs squares: their root is the error of one agent
    spec = make_spec(n_agents=1 if one_agent else 3)
    batch = in_double(make_batch(spec, [1, 4, 1, 2, 1, 3], [True, False, False, True, True, True]))
    learner = make_learner(name, batch)
    given = learner.loss(weighted(batch, WEIGHTS))["priority"]
    assert given.shape == (6,)
    assert not given.requires_grad
    for e, episode in enumerate(batch.split()):
        terms = learner.loss(episode)
        error = terms["critic_loss"].sqrt() if one_agent else terms["td_error_abs"]
        if batch.lengths[e] == 1:
            torch.testing.assert_close(given[e], error + 1e-6, rtol=1e-5, atol=1e-9)
        else:
            assert given[e] > (1 + 1e-3) * error or one_agent, "the largest error counts most"
    assert "priority" not in learner.loss(batch)
    update = learner.update(weighted(batch, WEIGHTS))
    torch.testing.assert_close(update["priority"], given, rtol=1e-9, atol=0)


def test_of_several_agents_those_that_count_are_averaged() -> None:
    batch = weighted(random_batch(3), WEIGHTS)
    error = torch.randn(batch.n_steps, 3, generator=torch.Generator().manual_seed(0))
    counted = batch.learning[batch.step_frames]
    error[~counted] = torch.nan
    given = priority(batch, error, counted)["priority"]
    start = 0
    for e, length in enumerate(batch.lengths.tolist()):
        steps = []
        for t in range(start, start + length):
            alive = [abs(float(error[t, n])) for n in range(3) if counted[t, n]]
            steps.append(sum(alive) / len(alive))
        assert float(given[e]) == pytest.approx(0.9 * max(steps) + 0.1 * sum(steps) / length + 1e-6, rel=1e-5)
        start += length


def test_a_weighted_mean_divides_by_how_many_there_are() -> None:
    values, weight = torch.tensor([[1.0, 2.0], [3.0, torch.nan]]), torch.tensor([0.5, 0.25])
    counted = torch.tensor([[True, True], [True, False]])
    assert float(mean(values, counted, weight)) == pytest.approx((0.5 + 1.0 + 0.75) / 3)
    assert float(mean(torch.tensor([1.0, 3.0]), weight=weight)) == pytest.approx(0.625)


@pytest.mark.parametrize("model", MODELS)
def test_every_term_of_omg_is_weighted(model: Any, tmp_path: Path) -> None:
    """The loss is linear in the weights, and halves with them."""
    batch = in_double(seated_batch(1, n_episodes=6))
    learner = make_omg(tmp_path, batch.spec, model=model, sample_codes=False, mix_start=0.0)
    learner.networks.double()

    def terms(weight: Tensor) -> dict[str, Tensor]:
        return learner.loss(weighted(batch, weight.double()))

    plain, ones = learner.loss(batch), terms(torch.ones(6))
    torch.testing.assert_close(ones["loss"], plain["loss"])
    torch.testing.assert_close(ones["model_loss"], plain["model_loss"])
    alone = [terms(torch.eye(6)[e]) for e in range(6)]
    for name in ("loss", "model_loss"):
        want = sum((WEIGHTS[e] * alone[e][name] for e in range(6)), torch.zeros(()).double())
        torch.testing.assert_close(terms(WEIGHTS)[name], want)
    assert ones["priority"].shape == (6,)
    if model in ("naive", "liam", "supervised", "omg"):
        assert len({float(one["model_loss"].detach()) for one in alone}) == 6


@pytest.mark.parametrize("layout", ["ragged", "padded"])
@pytest.mark.parametrize("name", NAMES)
def test_the_audit_finds_no_leak(name: str, layout: str) -> None:
    """Also with garbage in the weights of final frames. The weights of an episode are the sample's."""
    base = make_spec(n_agents=2, limit=6)
    spec = base.extend(importance=Field((), torch.float32, per="step"))
    learner = make_learner(name, random_batch(0, spec=base))
    learner.networks.float()
    tensors = hard_batch(spec, 0)
    ragged = EpisodeBatch.from_padded(tensors, spec)

    def loss(batch: EpisodeBatch) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = learner.loss(batch)
        return {key: value for key, value in terms.items() if key != "priority"}

    from_padded: Callable[[Any], dict[str, Tensor]] = lambda b: loss(EpisodeBatch.from_padded(b, spec))  # noqa: E731
    case = (
        Case(loss, ragged, [learner.networks])
        if layout == "ragged"
        else Case(from_padded, tensors, [learner.networks], step_fields=tuple(spec.step_fields))
    )
    report = audit(case, quick=True)
    assert report.leaks == ()
