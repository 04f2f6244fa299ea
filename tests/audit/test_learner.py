"""`audit_learner` on learners that train in place: the numbers that it compares, and the ways in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.audit import AuditError, assert_no_leaks, audit_learner
from endmark.audit.learner import LearnerSubject, transition_data, with_transition_data
from support.learners import Batch, Learner, ModuleLearner, batch_of, call, report_on, view_of_batch


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
