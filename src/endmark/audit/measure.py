"""What a loss gives for a batch: loss, metrics, gradients, buffers, as named numbers that can be compared."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from endmark.audit.case import Case
from endmark.audit.view import AuditError, View

SMALL = 1e-2
"""Numbers are compared as if they were at least so large."""

Observation = dict[str, Tensor]
"""`loss`, `metric NAME`, `gradient of NAME`, `buffer NAME`, `per_step`."""


@runtime_checkable
class Subject(Protocol):
    """Something that can be asked again and again what it makes of a batch, and is not changed by it."""

    def look(self, view: View) -> tuple[Observation, dict[str, Tensor]]:
        """What it makes of the batch, and the batch's tensors afterwards."""
        ...


@dataclass(frozen=True)
class Moved:
    """Something that changed. `by` is relative to its largest value; infinite if it became NaN."""

    what: str
    by: float

    def __str__(self) -> str:
        return f"{self.what} (by {self.by:.2g})" if np.isfinite(self.by) else f"{self.what} (NaN or inf)"


def moved(before: Observation, after: Observation) -> list[Moved]:
    """What differs by more than sums in another order do, the largest change first.

    What rounding may do is relative to the largest value, or to `floors` if that is larger, and is that of
    the coarsest number that is compared: a float64 statistic of float32 values is as coarse as they are.
    A parameter without a gradient has one of zeros.
    """
    least, coarse = floors(before), max(map(tolerance, before.values()))
    changes = []
    for name in (*before, *(after.keys() - before.keys())):
        if name == "per_step" or ((name not in before or name not in after) and not _is_gradient(name)):
            continue
        there = before[name] if name in before else after[name]
        a, b = (seen.get(name, torch.zeros_like(there)) for seen in (before, after))
        change = relative_change(a, b, least(name))
        if change > coarse:
            changes.append(Moved(name, change))
    return sorted(changes, key=lambda change: (change.what != "loss", -change.by))


def floors(seen: Observation) -> Callable[[str], float]:
    """What the change of a number is measured against at least, since it may be what is left of a sum that
    cancels out, all but rounding: a gradient against the largest of all gradients, the loss of a policy
    whose advantages add up to nothing against its gradient.
    """
    gradients = [value for name, value in seen.items() if _is_gradient(name)]
    largest = max((float(value.abs().max()) for value in gradients if value.numel()), default=0.0)
    return partial(_floor, largest)


def _floor(largest_gradient: float, name: str) -> float:
    if _is_gradient(name):
        return 0.1 * largest_gradient
    return max(SMALL, min(1.0, largest_gradient)) if name == "loss" else SMALL


def _is_gradient(name: str) -> bool:
    return name.startswith("gradient of")


def relative_change(before: Tensor, after: Tensor, least: float = 0.0) -> float:
    """The largest difference, relative to the largest value, or to `least` if that is larger.

    Infinite where NaN or inf came or went.
    """
    if before.shape != after.shape:
        return float("inf")
    if torch.equal(before, after):
        return 0.0
    a, b = before.double(), after.double()
    finite = a.isfinite() & b.isfinite()
    if (~finite & ~((a == b) | (a.isnan() & b.isnan()))).any():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(a[finite].abs().max()), float(b[finite].abs().max()), least, 1e-12)
    return float((a[finite] - b[finite]).abs().max()) / scale


def tolerance(like: Tensor) -> float:
    """What rounding may do, relatively: 1e-10 for float64, 1e-5 for float32."""
    if not like.is_floating_point():
        return 0.0
    return {torch.float64: 1e-10, torch.float16: 1e-2, torch.bfloat16: 5e-2}.get(like.dtype, 1e-5)


class LossSubject:
    """A loss function: gradients by autograd, buffers of the case's modules restored after each look."""

    def __init__(self, case: Case) -> None:
        self.loss = case.loss
        self.modules = [case.modules] if isinstance(case.modules, nn.Module) else list(case.modules)

    def look(self, view: View) -> tuple[Observation, dict[str, Tensor]]:
        """What it makes of the batch, and the batch's tensors afterwards."""
        native = view.native()
        with unchanged(self.modules), generators_kept():
            scalars, per_step = read_loss(self.loss(native))
            seen: Observation = {
                "loss" if name == "loss" else f"metric {name}": value.detach().clone()
                for name, value in scalars.items()
            }
            if per_step is not None:
                seen["per_step"] = per_step.detach().clone()
            seen |= self._gradients(scalars["loss"])
            for prefix, module in self._named_modules():
                for name, buffer in module.named_buffers():
                    seen[f"buffer {prefix}{name}"] = buffer.detach().clone()
        return seen, {name: tensor.detach() for name, tensor in view.unpack(native).items()}

    def _named_modules(self) -> list[tuple[str, nn.Module]]:
        """Each module, and what its names begin with, so that those of several do not collide."""
        alone = len(self.modules) == 1
        return [("" if alone else f"{i}.", module) for i, module in enumerate(self.modules)]

    def _gradients(self, loss: Tensor) -> Observation:
        if not loss.requires_grad:
            raise AuditError(
                "the loss has no gradient: it must depend on parameters that require one, not in no_grad"
            )
        trained = {
            f"{prefix}{name}": parameter
            for prefix, module in self._named_modules()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        if not trained:
            return {}
        gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        seen = {f"gradient of {n}": g for n, g in zip(trained, gradients, strict=True) if g is not None}
        if not seen:
            raise AuditError("the loss has no gradient by any parameter of the case's modules: are they its?")
        return seen


def read_loss(given: Any) -> tuple[dict[str, Tensor], Tensor | None]:
    """The named scalars of what a loss returned, and its `per_step` terms."""
    named = {"loss": given} if isinstance(given, Tensor) else given
    if not isinstance(named, Mapping) or "loss" not in named:
        raise AuditError(
            f"the loss returned {type(given).__name__}: want a scalar tensor, or named ones with 'loss'"
        )
    per_step = named.get("per_step")
    scalars = {
        name: value for name, value in named.items() if name != "per_step" and isinstance(value, Tensor)
    }
    for name, value in scalars.items():
        if value.numel() != 1:
            raise AuditError(
                f"'{name}' has shape {tuple(value.shape)}: want a scalar; reduce it, as training does"
            )
    return scalars, per_step


def in_a_line(error: Exception) -> str:
    """The error's kind and words, and the line of code that raised it."""
    words = " ".join(str(error).split())[:200]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {words}{where}"


@contextmanager
def unchanged(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Buffers and parameters are afterwards what they were."""
    saved = [{name: tensor.detach().clone() for name, tensor in _tensors(module)} for module in modules]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, contents in zip(modules, saved, strict=True):
                for name, tensor in _tensors(module):
                    tensor.copy_(contents[name])


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


@contextmanager
def generators_kept() -> Iterator[None]:
    """The global random generators are afterwards what they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if on_gpus is not None:
            torch.cuda.set_rng_state_all(on_gpus)


@contextmanager
def other_numbers() -> Iterator[None]:
    """The global random generators give other numbers inside."""
    with generators_kept():
        random.seed(random.random())
        np.random.seed(random.randrange(2**32))  # noqa: NPY002
        torch.manual_seed(random.randrange(2**62))
        yield
