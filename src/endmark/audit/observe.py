"""What a loss gives for a batch: loss, metrics, gradients, buffers, as named numbers that can be compared."""

from __future__ import annotations

import random
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from endmark.audit.case import Case
from endmark.audit.view import AuditError, View

Observation = dict[str, Tensor]
"""`loss`, `metric NAME`, `gradient of NAME`, `buffer NAME`, `per_step`."""


class Subject(Protocol):
    """Something that can be asked again and again what it makes of a batch, and is not changed by it."""

    def observe(self, view: View) -> Observation:
        """What it makes of the batch."""
        ...

    def touched(self, view: View) -> dict[str, Tensor]:
        """The batch's tensors after the loss was run on them."""
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

    The tolerance is 1e-5 of the largest value for float32, 1e-10 for float64. A gradient that cancels out but
    for rounding is measured against the largest of all gradients.
    """
    gradients = [value for name, value in before.items() if name.startswith("gradient of")]
    floor = 0.1 * max((float(value.abs().max()) for value in gradients if value.numel()), default=0.0)
    changes = []
    for name in before:
        if name not in after or name == "per_step":
            continue
        least = floor if name.startswith("gradient of") else 0.0
        change = relative_change(before[name], after[name], least)
        if change > tolerance(before[name]):
            changes.append(Moved(name, change))
    return sorted(changes, key=lambda change: (change.what != "loss", -change.by))


def relative_change(before: Tensor, after: Tensor, least: float = 0.0) -> float:
    """The largest difference, relative to the largest value, or to `least` if that is larger.

    Infinite where NaN or inf came or went.
    """
    if before.shape != after.shape:
        return float("inf")
    a, b = before.double(), after.double()
    finite = a.isfinite() & b.isfinite()
    if (~finite & ~((a == b) | (a.isnan() & b.isnan()))).any():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(a[finite].abs().max()), float(b[finite].abs().max()), least, 1e-12)
    return float((a[finite] - b[finite]).abs().max()) / scale


def tolerance(like: Tensor) -> float:
    """What rounding may do."""
    return 1e-10 if like.dtype == torch.float64 else 1e-5


class LossSubject:
    """A loss function: gradients by autograd, buffers of the case's modules restored after each look."""

    def __init__(self, case: Case) -> None:
        self.loss = case.loss
        self.modules = [case.modules] if isinstance(case.modules, nn.Module) else list(case.modules)

    def observe(self, view: View) -> Observation:
        """What it makes of the batch."""
        return self._run(view)[0]

    def touched(self, view: View) -> dict[str, Tensor]:
        """The batch's tensors after the loss was run on them."""
        return self._run(view)[1]

    def _run(self, view: View) -> tuple[Observation, dict[str, Tensor]]:
        native = view.native()
        with unchanged(self.modules):
            scalars, per_step = read_loss(self.loss(native))
            seen: Observation = {
                "loss" if name == "loss" else f"metric {name}": value.detach().clone()
                for name, value in scalars.items()
            }
            if per_step is not None:
                seen["per_step"] = per_step.detach().clone()
            named = [item for module in self.modules for item in module.named_parameters()]
            trained = {name: parameter for name, parameter in named if parameter.requires_grad}
            if not scalars["loss"].requires_grad:
                raise AuditError(
                    "the loss has no gradient: it must depend on parameters that require one, not in no_grad"
                )
            gradients = torch.autograd.grad(scalars["loss"], list(trained.values()), allow_unused=True)
            for name, gradient in zip(trained, gradients, strict=True):
                if gradient is not None:
                    seen[f"gradient of {name}"] = gradient
            for module in self.modules:
                for name, buffer in module.named_buffers():
                    seen[f"buffer {name}"] = buffer.detach().clone()
        return seen, {name: tensor.detach() for name, tensor in view.unpack(native).items()}


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
    """Buffers, parameters and every random generator are afterwards what they were."""
    saved = [{k: v.clone() for k, v in module.state_dict().items()} for module in modules]
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        for module, state in zip(modules, saved, strict=True):
            module.load_state_dict(state)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
