"""Audit a learner that trains in place, such as `learner.train(batch, t_env, episode)`, in its own files."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from endmark.audit.adapters import buffer_fields, with_buffer_fields
from endmark.audit.case import Case
from endmark.audit.clipping import without_clipping
from endmark.audit.compare import Numbers
from endmark.audit.findings import Report
from endmark.audit.layout import view_of
from endmark.audit.measure import Measurement, exits_are_errors
from endmark.audit.noise import PinnedNoise
from endmark.audit.reachable import attributes_of, modules_of, numbers_in, parameter_names
from endmark.audit.restore import restored_generators, restored_learner
from endmark.audit.run import Progress, run_probes
from endmark.audit.view import AuditError, PaddedView, View

Steps = Literal["held", "real"]
Getter = Callable[[Any], Mapping[str, Tensor]]
Setter = Callable[[Any, Mapping[str, Tensor]], Any]


def transition_data(batch: Any) -> Mapping[str, Tensor]:
    """The tensors of a foreign batch: PyMARL's `batch.data.transition_data`, or a mapping's own."""
    if isinstance(batch, Mapping):
        return batch
    data = getattr(getattr(batch, "data", None), "transition_data", None)
    if not isinstance(data, Mapping):
        raise AuditError(
            f"the batch, a {type(batch).__name__}, has no data.transition_data: hand over get= and set=, or "
            f"rows= for a buffer of arrays whose rows hold several episodes"
        )
    return data


def with_transition_data(batch: Any, tensors: Mapping[str, Tensor]) -> Any:
    """A copy of a foreign batch with other tensors; its `batch_size` and `max_seq_length` follow them."""
    if isinstance(batch, Mapping):
        return {**batch, **tensors}
    other = copy.copy(batch)
    other.data = copy.copy(batch.data)
    other.data.transition_data = {**batch.data.transition_data, **tensors}
    rows, columns = next(iter(tensors.values())).shape[:2]
    for name, size in [("batch_size", rows), ("max_seq_length", columns)]:
        if hasattr(batch, name):
            setattr(other, name, size)
    return other


def audit_learner(
    learner: Any,
    batch: Any,
    call: Callable[[Any, Any], Any],
    *,
    get: Getter = transition_data,
    set: Setter = with_transition_data,
    probes: list[str] | None = None,
    seed: int = 0,
    quick: bool = False,
    steps: Steps = "held",
    on_progress: Progress | None = None,
    **fields: Any,
) -> Report:
    """Audit the changes that `call(learner, batch)` makes to the learner.

    call: such as `lambda learner, batch: learner.train(batch, 0, 0)`. It must step a torch optimiser.
    get: returns the batch's tensors by name. set: returns a copy of the batch with other tensors.
    steps: "held" or "real", whether an optimiser's step moves the parameters; see below.
    fields: arguments of `Case`, such as `frame_fields` and `step_fields`. With `rows`, the batch is
        a buffer, whose attributes are arrays or tensors; see `endmark.audit.adapters`.
    The other arguments are those of `audit`.

    These numbers are compared: the gradients at each optimiser step; the buffers of the learner's modules;
    the tensors, arrays and floats among its attributes; and the numbers that `call` returns, alone or in a
    mapping. An attribute whose shape depends on the batch's, such as a hidden state, is left out. A learner
    seldom returns its loss, so the gradients stand for it.

    Each evaluation saves the learner's state first and restores it afterwards: parameters, buffers,
    optimiser state, random generators, and other Python state that can be copied. During an evaluation
    gradients are not clipped, and optimiser steps move no parameter, so that several epochs are compared at
    the same weights. Then the ratio of the new policy to the old one stays 1, and what it multiplies, such as
    a factor of HAPPO, cannot be seen. With steps="real" a step moves the parameters against the gradient, as
    far as a first step of Adam with the optimiser's learning rate. Not by the optimiser's own rule: that
    would magnify rounding.
    """
    if fields.get("rows") is not None and get is transition_data:
        get, set = buffer_fields, with_buffer_fields
    case = Case(loss=_no_loss, batch=get(batch), **fields)
    view = view_of(case)
    subject = LearnerSubject(learner, batch, call, get, set, view, steps)
    return run_probes(subject, view, case, probes=probes, seed=seed, quick=quick, on_progress=on_progress)


def _no_loss(_: Any) -> Tensor:
    raise AuditError("a learner has no loss of its own")


class LearnerSubject:
    """A learner, measured by the changes that a call makes to it."""

    def __init__(
        self,
        learner: Any,
        batch: Any,
        call: Callable[[Any, Any], Any],
        get: Getter,
        set: Setter,
        view: View,
        steps: Steps = "held",
    ) -> None:
        if steps not in get_args(Steps):
            raise AuditError(f"steps: given {steps!r}, want 'held' or 'real'")
        self.steps = steps
        self.learner, self.batch, self.call, self.get, self.set = learner, batch, call, get, set
        self.noise: PinnedNoise | None = None
        self.transient: frozenset[str] = frozenset()
        self.transient = self._transient_attributes(view)

    def measure(self, view: View) -> Measurement:
        """Call the learner on a copy of the view's batch, and collect its numbers; see `audit_learner`."""
        with exits_are_errors():
            return self._measure(view)

    def _measure(self, view: View) -> Measurement:
        assert isinstance(view, PaddedView)
        batch = self.set(self.batch, view.to_batch())
        names = parameter_names(self.learner)
        with restored_learner(self.learner), restored_generators(), without_clipping(self.learner, self.call):
            with captured_gradients(self.steps) as gradients, self.noise or nullcontext():
                returned = self.call(self.learner, batch)
            if not gradients:
                raise AuditError(
                    "the call stepped no torch optimiser: audit_learner reads the gradients at its step"
                )
            numbers = _named_gradients(gradients, names) | numbers_in("metric", returned) | self._state()
        numbers = {name: value for name, value in numbers.items() if name not in self.transient}
        after = {name: x.detach() for name, x in view.tensors_of(self.get(batch)).items()}
        return Measurement(numbers, after)

    def _state(self) -> Numbers:
        """The buffers of the learner's modules, and the numbers among its attributes."""
        numbers: Numbers = {}
        for path, module in modules_of(self.learner):
            # A running statistic may also be a parameter that no gradient moves.
            fixed = ((name, p) for name, p in module.named_parameters() if not p.requires_grad)
            for name, buffer in (*module.named_buffers(), *fixed):
                numbers[f"buffer {path}.{name}".replace(" .", " ")] = buffer.detach().clone()
        for name, value in attributes_of(self.learner).items():
            numbers |= numbers_in(f"attribute {name}", value)
        return numbers

    def _transient_attributes(self, view: View) -> frozenset[str]:
        """The attributes whose shape changes with one more episode, such as hidden states."""
        try:
            before = self.measure(view).numbers
            after = self.measure(view.select([*range(view.n_episodes), 0])).numbers
        except Exception:
            return frozenset()  # the audit's first evaluation meets the same error, and reports it
        names = [name for name in before if name.startswith("attribute ")]
        return frozenset(n for n in names if n not in after or before[n].shape != after[n].shape)


def _named_gradients(gradients: list[tuple[Tensor, Tensor]], names: Mapping[int, str]) -> Numbers:
    """The gradients by parameter name, those of later optimiser steps apart, and the norm of all."""
    norm = torch.stack([gradient.double().norm().cpu() for _, gradient in gradients]).norm()
    numbers: Numbers = {"gradient norm": norm.float()}
    steps: dict[int, int] = {}
    for i, (parameter, gradient) in enumerate(gradients):
        steps[id(parameter)] = step = steps.get(id(parameter), 0) + 1
        name = names.get(id(parameter), f"parameter {i}")
        numbers[f"gradient of {name}" + (f", step {step}" if step > 1 else "")] = gradient
    return numbers


@torch.no_grad()
def _descend(optimiser: torch.optim.Optimizer) -> None:
    """Move each group against its gradient, by the learning rate times the root of its number of entries."""
    for group in optimiser.param_groups:
        moved = [p for p in group["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in moved]).norm() if moved else torch.zeros(())
        if norm > 0:
            reach = float(group["lr"]) * sum(p.numel() for p in moved) ** 0.5
            for parameter in moved:
                parameter.sub_(parameter.grad, alpha=reach / float(norm))


@contextmanager
def captured_gradients(steps: Steps = "held") -> Iterator[list[tuple[Tensor, Tensor]]]:
    """(parameter, gradient) at every optimiser step inside. A "real" step goes along the gradient."""
    captured: list[tuple[Tensor, Tensor]] = []
    held: list[tuple[Tensor, Tensor]] = []

    def capture(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        if steps == "real":
            _descend(optimiser)
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    captured.append((parameter, parameter.grad.detach().clone()))
                    held.append((parameter, parameter.grad))
                    parameter.grad = None  # an optimiser skips a parameter without a gradient

    def give_back(*_: Any) -> None:
        for parameter, gradient in held:
            parameter.grad = gradient
        held.clear()

    handles = register_optimizer_step_pre_hook(capture), register_optimizer_step_post_hook(give_back)
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()
