"""Audit a learner that trains in place, such as `learner.train(batch, t_env, episode)`, in its own files.

Before each look the learner's state is saved, after it restored: parameters, buffers, optimiser state, random
generators, and what else of its Python state can be copied. Gradients are caught as the optimiser steps.
"""

from __future__ import annotations

import copy
import random
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from endmark.audit.case import Case
from endmark.audit.findings import Report
from endmark.audit.observe import Observation
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

    Watched: the gradients that the optimiser is about to use, the buffers of the learner's modules, tensors
    and numbers among its attributes, and what `call` returns if that is a number or a mapping of numbers.
    Learners seldom return their loss, so gradients stand for it. They are not clipped while this runs.
    """
    case = Case(loss=lambda _: torch.zeros(()), batch=get(batch), **fields)
    subject = LearnerSubject(learner, batch, call, get, set)
    return run_probes(subject, view_of(case), case, probes=probes, seed=seed, quick=quick, observe=observe)


class LearnerSubject:
    """A learner that is asked what it does to itself."""

    def __init__(self, learner: Any, batch: Any, call: Callable[[Any, Any], Any], get: Get, set: Set) -> None:
        self.learner, self.batch, self.call, self.get, self.set = learner, batch, call, get, set

    def observe(self, view: View) -> Observation:
        """The gradients, buffers, attributes and numbers after one call."""
        return self._run(view)[0]

    def touched(self, view: View) -> dict[str, Tensor]:
        """The batch's tensors after the call."""
        return self._run(view)[1]

    def _run(self, view: View) -> tuple[Observation, dict[str, Tensor]]:
        assert isinstance(view, PaddedView)
        native = self.set(self.batch, view.native())
        with restored(self.learner), clipping_off(), caught_gradients() as gradients:
            returned = self.call(self.learner, native)
            seen: Observation = {}
            for i, gradient in enumerate(gradients):
                seen[f"gradient of {self._name(gradient[0], i)}"] = gradient[1]
            if not gradients:
                raise AuditError(
                    "the call stepped no torch optimiser: audit_learner watches that for the gradients"
                )
            norm = torch.stack([g.double().norm() for _, g in gradients]).norm()
            seen = {"gradient norm": norm.float(), **seen, **_numbers("metric", returned), **self._state()}
        return seen, {name: tensor.detach() for name, tensor in self.get(native).items()}

    def _name(self, parameter: Tensor, index: int) -> str:
        for name, module in _modules(self.learner).items():
            for inner, candidate in module.named_parameters():
                if candidate is parameter:
                    return f"{name}.{inner}"
        return f"parameter {index}"

    def _state(self) -> Observation:
        """Buffers, and tensors and numbers among the learner's attributes and theirs."""
        seen: Observation = {}
        for name, module in _modules(self.learner).items():
            for inner, buffer in module.named_buffers():
                seen[f"buffer {name}.{inner}"] = buffer.detach().clone()
        for name, value in _attributes(self.learner).items():
            seen |= _numbers(f"attribute {name}", value)
        return seen


@contextmanager
def caught_gradients() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """(parameter, its gradient) of every optimiser step inside."""
    caught: list[tuple[Tensor, Tensor]] = []

    def catch(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimiser.param_groups:
            caught.extend((p, p.grad.detach().clone()) for p in group["params"] if p.grad is not None)

    handle = register_optimizer_step_pre_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()


@contextmanager
def clipping_off() -> Iterator[None]:
    """Gradients are not clipped inside: clipping makes every episode's share depend on all others."""
    usual = nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_

    def norm_only(parameters: Any, *_: Any, **__: Any) -> Tensor:
        return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])

    nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_ = norm_only, lambda *_, **__: None
    try:
        yield
    finally:
        nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_ = usual


@contextmanager
def restored(learner: Any) -> Iterator[None]:
    """The learner, what it owns and all random generators are afterwards what they were.

    Objects that cannot be copied, such as loggers with open files, are shared, not restored.
    """
    owners = _owners(learner)
    dictionaries = [(owner, dict(vars(owner))) for owner in owners]
    contents = [(tensor, tensor.detach().clone()) for tensor in _tensors(owners)]
    gradients = [(tensor, tensor.grad) for tensor, _ in contents if tensor.is_leaf]
    optimisers = [(o, copy.deepcopy(o.state_dict())) for o in owners if isinstance(o, torch.optim.Optimizer)]
    containers = [(c, copy.copy(c)) for c in _containers(owners)]
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        for owner, attributes in dictionaries:
            vars(owner).clear()
            vars(owner).update(attributes)
        for container, items in containers:
            container.clear()
            container.update(items) if isinstance(container, dict) else container.extend(items)
        with torch.no_grad():
            for tensor, content in contents:
                tensor.copy_(content)
            for tensor, gradient in gradients:
                tensor.grad = gradient
        for optimiser, state in optimisers:
            optimiser.load_state_dict(state)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def _owners(root: Any) -> list[Any]:
    """The object and those it holds, to any depth, that have attributes of their own."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if (
            id(thing) in seen
            or isinstance(thing, (type, Tensor))
            or (callable(thing) and not hasattr(thing, "__dict__"))
        ):
            continue
        seen.add(id(thing))
        if isinstance(thing, dict):
            waiting += thing.values()
        elif isinstance(thing, (list, tuple)):
            waiting += thing
        elif hasattr(thing, "__dict__") and not _foreign(thing):
            found.append(thing)
            waiting += vars(thing).values()
    return found


def _foreign(thing: Any) -> bool:
    """Functions, modules of code, and objects of the standard library: nothing that training changes."""
    if isinstance(thing, (types.ModuleType, types.FunctionType, types.MethodType, torch.device, torch.dtype)):
        return True
    return type(thing).__module__.partition(".")[0] in sys.stdlib_module_names - {
        "types",
        "argparse",
        "__main__",
    }


def _tensors(owners: list[Any]) -> list[Tensor]:
    """Every tensor held by the owners, by their lists and dictionaries."""
    found: dict[int, Tensor] = {}
    for owner in owners:
        waiting: list[Any] = list(vars(owner).values())
        while waiting:
            thing = waiting.pop()
            if isinstance(thing, Tensor):
                found[id(thing)] = thing
            elif isinstance(thing, dict):
                waiting += thing.values()
            elif isinstance(thing, (list, tuple)):
                waiting += thing
    return list(found.values())


def _containers(owners: list[Any]) -> list[Any]:
    """Lists and dictionaries that the owners hold, and those in them."""
    found: dict[int, Any] = {}
    waiting: list[Any] = [value for owner in owners for value in vars(owner).values()]
    while waiting:
        thing = waiting.pop()
        if type(thing) in (list, dict) and id(thing) not in found:
            found[id(thing)] = thing
            waiting += thing.values() if isinstance(thing, dict) else thing
    return list(found.values())


def _modules(learner: Any) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    for owner in _owners(learner):
        for name, value in vars(owner).items():
            if isinstance(value, nn.Module) and not isinstance(owner, nn.Module):
                found.setdefault(name, value)
    return {"learner": learner} if isinstance(learner, nn.Module) else found


def _attributes(learner: Any) -> dict[str, Any]:
    """Tensors and floats that the learner, or what it holds outside of modules, keeps: running statistics."""
    found: dict[str, Any] = {}
    for owner in _owners(learner):
        if isinstance(owner, (nn.Module, torch.optim.Optimizer)):
            continue
        for name, value in vars(owner).items():
            if isinstance(value, float) or (
                isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
            ):
                found[f"{type(owner).__name__}.{name}"] = value
    return found


def _numbers(kind: str, value: Any) -> Observation:
    """What of a returned or kept value can be compared."""
    if isinstance(value, Mapping):
        return {k: v for name, inner in value.items() for k, v in _numbers(f"{kind} {name}", inner).items()}
    if isinstance(value, Tensor) and value.is_floating_point():
        return {kind: value.detach().clone()}
    if isinstance(value, float):
        return {kind: torch.tensor(value, dtype=torch.float64)}
    return {}
