"""Audit a learner that trains in place, such as `learner.train(batch, t_env, episode)`, in its own files.

Before each look the learner's state is saved, after it restored: parameters, buffers, optimiser state, random
generators, and what else of its Python state can be copied. Gradients are caught as the optimiser steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from endmark.audit.case import Case
from endmark.audit.findings import Report
from endmark.audit.measure import Observation, generators_kept
from endmark.audit.restore import attributes_of, clipping_off, modules_of, numbers, parameter_names, restored
from endmark.audit.run import Observe, run_probes
from endmark.audit.view import AuditError, PaddedView, View, view_of

Get = Callable[[Any], Mapping[str, Tensor]]
Set = Callable[[Any, Mapping[str, Tensor]], Any]


def transition_data(batch: Any) -> Mapping[str, Tensor]:
    """The tensors of a foreign batch: `batch.data.transition_data` as PyMARL has it, or a mapping's own."""
    if isinstance(batch, Mapping):
        return batch
    data = getattr(getattr(batch, "data", None), "transition_data", None)
    if not isinstance(data, Mapping):
        raise AuditError(
            f"the batch, a {type(batch).__name__}, has no data.transition_data: hand over get= and set="
        )
    return data


def with_transition_data(batch: Any, tensors: Mapping[str, Tensor]) -> Any:
    """A copy of a foreign batch that holds these tensors, and knows its new size if it has one."""
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
    get: Get = transition_data,
    set: Set = with_transition_data,
    probes: list[str] | None = None,
    seed: int = 0,
    quick: bool = False,
    observe: Observe | None = None,
    **fields: Any,
) -> Report:
    """Audit what `call(learner, batch)` does to the learner; see `audit` and `Case` for the rest.

    call: such as `lambda learner, batch: learner.train(batch, 0, 0)`. It must step a torch optimiser.
    get: the batch's tensors by name. set: a copy of the batch with these tensors instead.
    fields: of `Case`, such as `frame_fields` and `step_fields`.

    Watched: the gradients that optimisers are about to use, the buffers of the learner's modules, tensors,
    arrays and numbers among its attributes (not those whose size goes with the batch's, which are of the
    call alone), and what `call` returns if that is a number or a mapping of numbers. Learners seldom return
    their loss, so gradients stand for it. While this runs they are not clipped, and optimisers step without
    moving a parameter, so that several epochs are compared at the same weights.
    """
    case = Case(loss=_no_loss, batch=get(batch), **fields)
    view = view_of(case)
    subject = LearnerSubject(learner, batch, call, get, set, view)
    return run_probes(subject, view, case, probes=probes, seed=seed, quick=quick, observe=observe)


def _no_loss(_: Any) -> Tensor:
    raise AuditError("a learner has no loss of its own")


class LearnerSubject:
    """A learner that is asked what it does to itself."""

    def __init__(
        self,
        learner: Any,
        batch: Any,
        call: Callable[[Any, Any], Any],
        get: Get,
        set: Set,
        view: View,
    ) -> None:
        self.learner, self.batch, self.call, self.get, self.set = learner, batch, call, get, set
        self.of_the_call: frozenset[str] = frozenset()
        self.of_the_call = self._of_the_call(view)

    def look(self, view: View) -> tuple[Observation, dict[str, Tensor]]:
        """Gradients, buffers, attributes and numbers after one call, and the batch's tensors."""
        assert isinstance(view, PaddedView)
        native = self.set(self.batch, view.native())
        names = parameter_names(self.learner)
        with restored(self.learner), generators_kept(), clipping_off(self.learner, self.call):
            with caught_gradients() as gradients:
                returned = self.call(self.learner, native)
            if not gradients:
                raise AuditError(
                    "the call stepped no torch optimiser: audit_learner watches that for the gradients"
                )
            norm = torch.stack([g.double().norm().cpu() for _, g in gradients]).norm()
            seen: Observation = {"gradient norm": norm.float()}
            times: dict[int, int] = {}
            for i, (parameter, gradient) in enumerate(gradients):
                times[id(parameter)] = again = times.get(id(parameter), 0) + 1
                name = names.get(id(parameter), f"parameter {i}")
                seen[f"gradient of {name}" + (f", step {again}" if again > 1 else "")] = gradient
            seen |= numbers("metric", returned) | self._state()
        after = {name: x.detach() for name, x in self.get(native).items() if isinstance(x, Tensor)}
        return {k: v for k, v in seen.items() if k not in self.of_the_call}, after

    def _state(self) -> Observation:
        """Buffers, and tensors and numbers among the learner's attributes and theirs."""
        seen: Observation = {}
        for name, module in modules_of(self.learner):
            for inner, buffer in module.named_buffers():
                seen[f"buffer {name}.{inner}".replace(" .", " ")] = buffer.detach().clone()
        for name, value in attributes_of(self.learner).items():
            seen |= numbers(f"attribute {name}", value)
        return seen

    def _of_the_call(self, view: View) -> frozenset[str]:
        """Attributes whose size goes with the batch's, such as hidden states that stay behind."""
        try:
            before = self.look(view)[0]
            after = self.look(view.select([*range(view.n_episodes), 0]))[0]
        except Exception:
            return frozenset()  # whatever it is, it will come again, and be told
        names = [name for name in before if name.startswith("attribute ")]
        return frozenset(n for n in names if n not in after or before[n].shape != after[n].shape)


@contextmanager
def caught_gradients() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """(parameter, its gradient) of every optimiser step inside; the steps change nothing."""
    caught: list[tuple[Tensor, Tensor]] = []
    held: list[tuple[Tensor, Tensor]] = []

    def catch(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    caught.append((parameter, parameter.grad.detach().clone()))
                    held.append((parameter, parameter.grad))
                    parameter.grad = None

    def give_back(*_: Any) -> None:
        for parameter, gradient in held:
            parameter.grad = gradient
        held.clear()

    handles = register_optimizer_step_pre_hook(catch), register_optimizer_step_post_hook(give_back)
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()
