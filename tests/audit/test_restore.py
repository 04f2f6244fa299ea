"""An audit leaves nothing behind: learners and clipping are restored."""

from __future__ import annotations

import contextlib
import copy
import random
from collections import deque
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from endmark.audit import AuditError, audit_learner
from endmark.audit.clipping import without_clipping
from endmark.audit.learner import transition_data
from endmark.audit.restore import restored_learner
from support import learners
from support.learners import Learner, ModuleLearner, batch_of, call, report_on


def snapshot(learner: Learner) -> dict[str, Any]:
    """Everything there is, by value; bit for bit where it is compared."""
    parts = {
        "online": learner.mac.agent.state_dict(),
        "target": learner.target_mac.agent.state_dict(),
        "optimiser": learner.optimiser.state_dict(),
        "gradients": [p.grad for p in learner.params],
        "hidden": learner.mac.hidden_states.detach(),
        "statistics": (learner.reward_mean, learner.numpy_mean, learner.best_loss),
        "counters": (learner.updates, learner.history, learner.losses, learner.counts, learner.seen_lengths),
        "log": (dict(learner.logger.stats), learner.logger.last),
        "generators": (
            learner.generator.get_state(),
            learner.rng.bit_generator.state,
            learner.dice.getstate(),
            torch.get_rng_state(),
            np.random.get_state(),  # noqa: NPY002 - not random's: beartype draws from it while tests run
        ),
    }
    return copy.deepcopy(parts)


def assert_equal(a: Any, b: Any, where: str) -> None:
    assert type(a) is type(b), where
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype, where
        assert torch.equal(a, b), where
    elif isinstance(a, np.ndarray):
        assert np.array_equal(a, b), where
    elif isinstance(a, Mapping):
        assert list(a) == list(b), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, (list, tuple, deque)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


@pytest.mark.parametrize("leak", ["", "gradient", "crash"])
@pytest.mark.parametrize("trained", [0, 2])
def test_everything_is_put_back_bit_for_bit(leak: str, trained: int) -> None:
    learner, batch = Learner(), batch_of()
    for _ in range(trained):
        call(learner, batch)
    learner.leak = leak
    groups, moments = learner.optimiser.param_groups[0], learner.mac.hidden_states
    before, tensors = snapshot(learner), {k: v.clone() for k, v in transition_data(batch).items()}
    if leak == "crash":
        with pytest.raises(AuditError, match="ZeroDivisionError: after the step"):
            audit_learner(learner, batch, call, quick=True)
    else:
        audit_learner(learner, batch, call, quick=True)
    assert_equal(before, snapshot(learner), "learner")
    assert_equal(tensors, dict(transition_data(batch)), "batch")
    assert learner.optimiser.param_groups[0] is groups  # not a copy of it: a scheduler may hold on to it
    assert learner.mac.hidden_states is moments
    assert all(a is b for a, b in zip(learner.params, learner.mac.agent.parameters(), strict=True))


def test_training_goes_on_as_if_there_had_been_no_audit() -> None:
    states = []
    for audited in (False, True):
        learner, batch = Learner(), batch_of()
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        for _ in range(2):
            call(learner, batch)
            if audited:
                audit_learner(learner, batch, call, quick=True, probes=["poison", "company"])
        call(learner, batch)
        state = snapshot(learner)
        del state["log"]
        states.append(state)
    assert_equal(states[0], states[1], "learner")


def test_a_logger_is_shared_though_its_own_lists_are_put_back() -> None:
    learner = Learner()
    audit_learner(learner, batch_of(), call, quick=True, probes=["padding"])
    assert learner.logger.file.getvalue().count("loss ") > 3  # what was written stays written
    assert learner.logger.stats == {}
    assert learner.updates == 0


def test_attributes_that_come_and_go_are_put_back() -> None:
    thing = SimpleNamespace(kept=[1, [2]], gone={"a": torch.ones(2)}, inner=SimpleNamespace(x=1.0))
    inner, nested = thing.inner, thing.kept[1]
    with restored_learner(thing):
        thing.kept[1].append(3)
        thing.kept.append(4)
        thing.gone["a"] += 1
        thing.gone["b"] = torch.zeros(1)
        thing.inner.x, thing.inner.y = 2.0, 3.0
        thing.inner = None
        thing.new = 5
        del thing.gone
    assert thing.kept == [1, [2]]
    assert thing.kept[1] is nested
    assert thing.inner is inner
    assert vars(inner) == {"x": 1.0}
    assert {*vars(thing)} == {"kept", "gone", "inner"}
    assert {*thing.gone} == {"a"}
    assert thing.gone["a"].tolist() == [1, 1]


def test_gradients_that_were_there_are_put_back_even_if_they_were_zeroed_in_place() -> None:
    learner = Learner()
    held = [torch.full_like(parameter, 0.5) for parameter in learner.params]
    for parameter, gradient in zip(learner.params, held, strict=True):
        parameter.grad = gradient
    with restored_learner(learner):
        learner.optimiser.zero_grad(set_to_none=False)
        learner.params[0].grad = None
    for parameter, gradient in zip(learner.params, held, strict=True):
        assert gradient is not None
        assert parameter.grad is gradient
        assert torch.equal(gradient, torch.full_like(gradient, 0.5))


def test_clipping_is_off_inside_and_back_afterwards() -> None:
    usual = nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_, clip_grad_norm_
    weights = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(1))]
    weights[0].grad = torch.full((3,), 100.0)
    learner = Learner()

    def here() -> None:
        """A function of this module, which imports `clip_grad_norm_` by name, too."""

    for error in (None, KeyError):
        with contextlib.suppress(KeyError), without_clipping(learner, here):
            assert vars(learners)["clip_grad_norm_"] is not usual[2]  # the module of the learner's class
            assert float(clip_grad_norm_(weights, 1.0)) == pytest.approx(100 * 3**0.5)
            assert float(nn.utils.clip_grad_norm_(weights[0], 1.0)) == pytest.approx(100 * 3**0.5)
            assert float(nn.utils.clip_grad.clip_grad_norm_(iter(weights[1:]), 1.0)) == 0.0
            nn.utils.clip_grad_value_(weights, 1.0)
            assert weights[0].grad.tolist() == [100.0] * 3
            if error is not None:
                raise error
    assert (nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_, clip_grad_norm_) == usual
    clip_grad_norm_(weights, 1.0)
    assert float(weights[0].grad.norm()) == pytest.approx(1.0, rel=1e-3)


def test_clipping_is_no_coupling() -> None:
    """Which it would be: a share of the clipped gradient depends on all the others."""

    assert report_on(probes=["company", "weight"]).findings == ()


@pytest.mark.parametrize("leak", [False, True])
def test_a_learner_that_is_a_module(leak: bool) -> None:
    learner = ModuleLearner(leak=leak)
    before = copy.deepcopy(learner.state_dict())
    mean = learner.mean
    report = audit_learner(
        learner, batch_of(), lambda it, batch: it.fit(batch), bootstraps=False, probes=["poison", "weight"]
    )
    moved = {change.what for finding in report.leaks for change in finding.moved}
    assert moved == ({"buffer mean"} if leak else set())
    assert_equal(before, copy.deepcopy(learner.state_dict()), "learner")
    assert learner.mean is mean
