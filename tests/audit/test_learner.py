"""`audit_learner` on learners that train in place: what it sees, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import copy
import io
import random
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from endmark.audit import AuditError, Case, Report, assert_no_leaks, audit_learner, hard_batch
from endmark.audit.clipping import without_clipping
from endmark.audit.learner import LearnerSubject, transition_data, with_transition_data
from endmark.audit.restore import restored_learner
from endmark.audit.view import View, view_of
from endmark.episodes import EpisodeSpec, step_mask

SPEC = EpisodeSpec.of(n_agents=2, n_actions=3, episode_limit=6, obs_shape=(4,))


class Batch:
    """Padded tensors behind an object, as PyMARL has them."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.data = SimpleNamespace(transition_data=tensors)
        self.batch_size, self.max_seq_length = tensors["filled"].shape[:2]
        self.scheme = {"obs": {"vshape": 4}}

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self.data.transition_data[name]
        return tensor


class Mac:
    """Networks, and the hidden state that they leave behind: the padded last column's, of no importance."""

    def __init__(self) -> None:
        self.agent = nn.ModuleDict({"rnn": nn.GRUCell(4, 6), "head": nn.Linear(6, 3)})
        self.hidden_states = torch.zeros(1)

    def q(self, batch: Batch) -> Tensor:
        b, t, n = batch["obs"].shape[:3]
        assert (b, t) == (batch.batch_size, batch.max_seq_length)
        self.hidden_states = torch.zeros(b * n, 6)
        outputs = []
        for i in range(t):
            self.hidden_states = self.agent["rnn"](batch["obs"][:, i].flatten(0, 1), self.hidden_states)
            outputs.append(self.agent["head"](self.hidden_states).view(b, n, 3))
        return torch.stack(outputs, 1)


class Logger:
    """With an open file, which can be neither copied nor restored, and a clock."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.stats: dict[str, list[float]] = defaultdict(list)
        self.last = time.perf_counter()

    def log_stat(self, name: str, value: float) -> None:
        self.stats[name].append(value)
        self.last = time.perf_counter()
        self.file.write(f"{name} {value}\n")


class Learner:
    """PyMARL's, in short; `leak` puts one bug in."""

    def __init__(self, leak: str = "") -> None:
        torch.manual_seed(0)
        self.mac, self.logger, self.leak = Mac(), Logger(), leak
        self.target_mac = copy.deepcopy(self.mac)
        with torch.no_grad():
            for parameter in self.target_mac.agent.parameters():
                parameter.add_(0.1)
        self.params = list(self.mac.agent.parameters())
        self.optimiser = torch.optim.Adam(self.params, lr=1e-2)
        self.reward_mean = torch.zeros(())
        self.numpy_mean = np.zeros(2)
        self.best_loss = float("inf")
        self.updates = 0
        self.losses: deque[float] = deque(maxlen=3)
        self.history: list[dict[str, float]] = []
        self.counts: OrderedDict[str, int] = OrderedDict(calls=0)
        self.seen_lengths: set[int] = set()
        self.generator = torch.Generator().manual_seed(3)
        self.rng = np.random.default_rng(3)
        self.dice = random.Random(3)

    def train(self, batch: Batch, t_env: int, episode: int) -> None:
        mask = step_mask(batch["filled"], batch["terminated"])
        if not mask.any():
            raise ValueError("nothing real")
        reward, actions = batch["reward"][:, :-1], batch["actions"][:, :-1]
        self.reward_mean += 0.1 * (reward if self.leak == "statistic" else reward[mask]).mean()
        self.numpy_mean += (reward if self.leak == "array" else reward[mask]).mean().item()
        q = self.mac.q(batch)
        chosen = q[:, :-1].gather(3, actions).squeeze(3).sum(2, keepdim=True)
        best = self.target_mac.q(batch)[:, 1:].max(3).values.sum(2, keepdim=True).detach()
        target = reward + torch.where(batch["terminated"][:, :-1] == 1, 0.0, 0.9 * best)
        errors = torch.where(mask, chosen - target, 0.0).square()
        loss = errors.mean() if self.leak == "gradient" else errors.sum() / mask.sum()
        noise = float(torch.rand((), generator=self.generator)) + self.rng.random() + self.dice.random()
        assert 0 <= noise + torch.rand(()).item() + np.random.rand() + random.random() <= 6  # noqa: NPY002
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(self.params, 1e-3)
        self.optimiser.step()
        self.updates += 1
        self.best_loss = min(self.best_loss, float("inf"))
        self.losses.append(loss.item())
        self.history.append({"t_env": t_env})
        self.counts["calls"] += 1
        self.seen_lengths.add(batch.max_seq_length)
        self.logger.log_stat("loss", loss.item())
        if self.leak == "crash":
            raise ZeroDivisionError("after the step")


def call(learner: Learner, batch: Batch) -> None:
    learner.train(batch, 0, 0)


def batch_of(seed: int = 0) -> Batch:
    tensors = hard_batch(SPEC, seed)
    del tensors["alive"]
    return Batch(tensors)


def report_on(leak: str = "", **options: Any) -> Report:
    return audit_learner(Learner(leak), batch_of(), call, **options)


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


# --- what it sees ---


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
    assert {change.what for f in report.leaks for change in f.moved} == {"metric nested padded"}


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


def view_of_batch(batch: Batch) -> View:
    return view_of(Case(lambda _: torch.zeros(()), transition_data(batch)))


# --- that it leaves nothing behind ---


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


# --- clipping ---


def test_clipping_is_off_inside_and_back_afterwards() -> None:
    usual = nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_, clip_grad_norm_
    weights = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(1))]
    weights[0].grad = torch.full((3,), 100.0)
    learner = Learner()
    for error in (None, KeyError):
        with contextlib.suppress(KeyError), without_clipping(learner, call):  # this module has it by name
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


# --- ways in ---


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


class ModuleLearner(nn.Module):
    """A learner that is a network itself, with statistics in a buffer."""

    mean: Tensor

    def __init__(self, *, leak: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.value = nn.Linear(4, 1)
        self.register_buffer("mean", torch.zeros(()))
        self.optimiser = torch.optim.SGD(self.parameters(), lr=0.1)
        self.leak = leak

    def fit(self, batch: Batch) -> dict[str, Tensor]:
        mask = step_mask(batch["filled"], batch["terminated"])
        reward = batch["reward"][:, :-1]
        seen = reward if self.leak else reward[mask]
        self.mean = 0.9 * self.mean + seen.mean()  # another tensor, not the same one written to
        errors = self.value(batch["obs"][:, :-1, 0]) - reward
        loss = torch.where(mask, errors, 0.0).square().sum() / mask.sum()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return {"loss": loss.detach()}


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


def test_a_call_that_steps_no_optimiser() -> None:
    with pytest.raises(AuditError, match="the call stepped no torch optimiser"):
        audit_learner(Learner(), batch_of(), lambda learner, batch: None)


def test_a_learner_that_forgets_to_refuse_an_empty_batch() -> None:
    learner = ModuleLearner(leak=False)
    report = audit_learner(learner, batch_of(), lambda it, b: it.fit(b), bootstraps=False, probes=["empty"])
    assert [(f.probe, f.severity) for f in report.findings] == [("empty", "fragile")]
    assert report_on(probes=["empty"]).findings == ()
