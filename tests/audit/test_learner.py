"""`audit_learner` on learners that train in place: the numbers that it compares, and the ways in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from endmark.audit import AuditError, assert_no_leaks, audit_learner, hard_batch
from endmark.audit.learner import LearnerSubject, transition_data, with_transition_data
from endmark.episodes import shift_mask, step_mask
from support.learners import SPEC, Batch, Learner, ModuleLearner, batch_of, call, report_on, view_of_batch


def test_a_right_learner_is_clean() -> None:
    """Hidden states that stay behind depend on padding, clocks on the time: neither is a leak."""
    report = report_on()
    assert report.leaks == ()
    assert {(f.probe, f.severity) for f in report.findings} == {("poison", "fragile")}
    assert {*report.skipped} == {"causality", "agents"}
    assert_no_leaks(report)


@pytest.mark.parametrize(
    ("leak", "what"),
    [
        ("gradient", "gradient of mac.agent.rnn.weight_ih"),
        ("statistic", "attribute reward_mean"),
        ("array", "attribute numpy_mean"),
    ],
)
def test_leaks_are_found_and_named(leak: str, what: str) -> None:
    report = report_on(leak)
    assert what in {change.what for finding in report.leaks for change in finding.moved}
    assert {finding.probe for finding in report.leaks} <= {"poison", "padding", "weight"}
    with pytest.raises(AssertionError, match=r"repair: loss = "):
        assert_no_leaks(report)


def test_what_call_returns_is_watched() -> None:
    def returning(learner: Learner, batch: Batch) -> dict[str, Any]:
        learner.train(batch, 0, 0)
        return {"nested": {"padded": batch["reward"].mean().item()}, "name": "x", "count": 3}

    report = audit_learner(Learner(), batch_of(), returning, probes=["poison"])
    metrics = [f for f in report.findings if f.severity == "metric"]
    assert {change.what for f in metrics for change in f.moved} == {"metric nested padded"}
    assert report.leaks == ()


def test_gradients_are_those_before_clipping_and_of_every_step() -> None:
    learner, batch = Learner(), batch_of()

    def twice(learner: Learner, batch: Batch) -> None:
        learner.train(batch, 0, 0)
        learner.train(batch, 0, 0)

    view = view_of_batch(batch)
    once = (
        LearnerSubject(learner, batch, call, transition_data, with_transition_data, view)
        .measure(view)
        .numbers
    )
    both = (
        LearnerSubject(learner, batch, twice, transition_data, with_transition_data, view)
        .measure(view)
        .numbers
    )
    assert float(once["gradient norm"]) > 0.1  # clipped to 0.001 when it trains
    names = [name for name in once if name.startswith("gradient of")]
    assert names == [
        f"gradient of mac.agent.{part}"
        for part in (
            "rnn.weight_ih",
            "rnn.weight_hh",
            "rnn.bias_ih",
            "rnn.bias_hh",
            "head.weight",
            "head.bias",
        )
    ]
    for name in names:  # several epochs are compared at the same weights
        assert torch.equal(once[name], both[name])
        torch.testing.assert_close(both[f"{name}, step 2"], once[name])


def test_several_epochs_of_adam_raise_no_alarm() -> None:
    """Adam's first steps go by the gradient's sign, so they would magnify what rounding does."""

    def epochs(learner: Learner, batch: Batch) -> None:
        for _ in range(3):
            learner.train(batch, 0, 0)

    report = audit_learner(Learner(), batch_of(), epochs, quick=True)
    assert report.leaks == ()


def test_a_foreign_batch_by_get_and_set() -> None:
    class Foreign:
        def __init__(self, columns: list[tuple[str, Tensor]]) -> None:
            self.columns = columns

    def of(batch: Foreign) -> dict[str, Tensor]:
        return dict(batch.columns)

    def renewed(batch: Foreign, tensors: Mapping[str, Tensor]) -> Foreign:
        return Foreign(list(tensors.items()))

    batch = Foreign(list(batch_of().data.transition_data.items()))
    trained: list[Foreign] = []

    def train(learner: Learner, batch: Foreign) -> None:
        trained.append(batch)
        call(learner, Batch(of(batch)))

    report = audit_learner(Learner("gradient"), batch, train, get=of, set=renewed, quick=True)
    assert {f.probe for f in report.leaks} >= {"padding"}
    assert all(isinstance(given, Foreign) and given is not batch for given in trained)
    with pytest.raises(AuditError, match=r"a Foreign, has no data\.transition_data: hand over get= and set="):
        audit_learner(Learner(), batch, train)


def test_a_batch_that_is_a_mapping() -> None:
    report = audit_learner(
        Learner(), dict(batch_of().data.transition_data), lambda it, b: call(it, Batch(dict(b))), quick=True
    )
    assert report.leaks == ()


def test_a_copy_of_a_foreign_batch_knows_its_size_and_leaves_the_original_alone() -> None:
    batch = batch_of()
    other = with_transition_data(batch, {k: v[:2, :4] for k, v in batch.data.transition_data.items()})
    assert (other.batch_size, other.max_seq_length) == (2, 4)
    assert other.scheme is batch.scheme
    assert (batch.batch_size, batch.max_seq_length) == (7, 7)
    assert batch["obs"].shape[:2] == (7, 7)


def test_a_call_that_steps_no_optimiser() -> None:
    with pytest.raises(AuditError, match="the call stepped no torch optimiser"):
        audit_learner(Learner(), batch_of(), lambda learner, batch: None)


def test_a_learner_that_forgets_to_refuse_an_empty_batch() -> None:
    learner = ModuleLearner(leak=False)
    report = audit_learner(learner, batch_of(), lambda it, b: it.fit(b), bootstraps=False, probes=["empty"])
    assert [(f.probe, f.severity) for f in report.findings] == [("empty", "fragile")]
    assert report_on(probes=["empty"]).findings == ()


class FactorLearner:
    """HAPPO in short: agent 0 learns, and its new ratio multiplies the objective of agent 1."""

    def __init__(self, *, masked: bool) -> None:
        torch.manual_seed(0)
        self.actors = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])
        self.optimisers = [torch.optim.Adam(actor.parameters(), lr=0.05) for actor in self.actors]
        self.masked = masked

    def log_prob(self, batch: Mapping[str, Tensor], agent: int) -> Tensor:
        logits = self.actors[agent](batch["obs"][:, :-1, agent])
        log_prob: Tensor = logits.log_softmax(2).gather(2, batch["actions"][:, :-1, agent]).squeeze(2)
        return log_prob

    def train(self, batch: Mapping[str, Tensor]) -> None:
        steps = step_mask(batch["filled"], batch["terminated"]).squeeze(2)
        factor = torch.ones_like(batch["reward"][:, :-1, 0])
        for agent in (1, 0):  # the last agent leaves half-way
            alive = steps & batch["alive"][:, :-1, agent]
            before = self.log_prob(batch, agent).detach()
            objective = factor * self.log_prob(batch, agent) * batch["reward"][:, :-1, 0]
            self.optimisers[agent].zero_grad()
            (-torch.where(alive, objective, 0.0).sum() / alive.sum().clamp(min=1)).backward()  # type: ignore[no-untyped-call]
            self.optimisers[agent].step()
            ratio = (self.log_prob(batch, agent).detach() - before).exp()
            factor = factor * torch.where(alive if self.masked else steps, ratio, 1.0)


def test_a_factor_that_takes_in_the_dead_is_seen_once_steps_are_real() -> None:
    batch = hard_batch(SPEC, 0)
    found: dict[tuple[bool, str], set[str]] = {}
    for masked in (False, True):
        for steps in ("held", "real"):
            learner = FactorLearner(masked=masked)
            before = [parameter.detach().clone() for parameter in learner.actors.parameters()]
            report = audit_learner(
                learner, batch, lambda it, b: it.train(b), probes=["agents", "poison"], steps=steps,
                bootstraps=False, quick=True,
            )  # fmt: skip
            found[masked, steps] = {finding.probe for finding in report.leaks}
            for parameter, was in zip(learner.actors.parameters(), before, strict=True):
                assert torch.equal(parameter, was)
    assert found == {(False, "held"): set(), (False, "real"): {"agents"}, (True, "held"): set(),
                     (True, "real"): set()}  # fmt: skip


class ByColumn(Learner):
    """An optimiser step for each column that holds a step, as COMA makes them; `shift` has the usual mask."""

    def __init__(self, *, shift: bool) -> None:
        super().__init__()
        self.shift = shift

    def train(self, batch: Batch, t_env: int, episode: int) -> None:
        mask = (shift_mask if self.shift else step_mask)(batch["filled"], batch["terminated"])
        q = self.mac.q(batch)[:, :-1].gather(3, batch["actions"][:, :-1]).squeeze(3).sum(2, keepdim=True)
        for t in range(mask.shape[1]):
            if (mask[:, t] != 0).any():
                error = torch.where(mask[:, t] != 0, q[:, t] - batch["reward"][:, t], 0.0)
                self.optimiser.zero_grad()
                (error.square().sum() / mask[:, t].sum()).backward(retain_graph=True)  # type: ignore[no-untyped-call]
                self.optimiser.step()


@pytest.mark.parametrize("shift", [False, True])
def test_a_column_that_brings_an_optimiser_step_is_blamed_once(shift: bool) -> None:
    """With one more column, the usual mask makes one more step. That is no matter of order or of padding."""
    probes = ["poison", "padding", "company"]
    report = audit_learner(ByColumn(shift=shift), batch_of(), call, probes=probes)
    assert {f.probe for f in report.leaks} == ({"poison"} if shift else set())


class Normaliser(nn.Module):
    """A running mean in a parameter without gradient, as on-policy's ValueNorm has it."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()), requires_grad=False)


@pytest.mark.parametrize("padded", [False, True])
def test_a_statistic_may_be_a_parameter_without_gradient(padded: bool) -> None:
    learner = Learner()
    normaliser = learner.normaliser = Normaliser()  # type: ignore[attr-defined]

    def train(learner: Learner, batch: Batch) -> None:
        reward, mask = batch["reward"][:, :-1], step_mask(batch["filled"], batch["terminated"])
        normaliser.mean.mul_(0.9).add_(0.1 * (reward if padded else reward[mask]).mean())
        learner.train(batch, 0, 0)

    report = audit_learner(learner, batch_of(), train, probes=["poison"])
    moved = {change.what for f in report.leaks for change in f.moved}
    assert moved == ({"buffer normaliser.mean"} if padded else set())
    assert float(normaliser.mean) == 0  # restored
