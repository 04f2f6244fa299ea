"""Evaluate a loss on a batch: its value, metrics, gradients and buffers, as named numbers."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from endmark.audit.case import Case
from endmark.audit.compare import Numbers
from endmark.audit.noise import PinnedNoise
from endmark.audit.restore import restored_generators, restored_modules
from endmark.audit.view import AuditError, View


class Measurement(NamedTuple):
    """One evaluation on a batch: the numbers, and the batch's tensors afterwards, by name."""

    numbers: Numbers
    tensors: dict[str, Tensor]


@runtime_checkable
class Subject(Protocol):
    """A loss or a learner under audit. Measuring it any number of times leaves it unchanged.

    noise: while it is set, torch's random numbers are pinned; see `noise`.
    """

    noise: PinnedNoise | None

    def measure(self, view: View) -> Measurement:
        """Evaluate it on a fresh copy of the view's batch."""
        ...


class LossSubject:
    """A loss function. Its gradients come from autograd; the buffers of its modules are restored."""

    def __init__(self, case: Case) -> None:
        self.noise: PinnedNoise | None = None
        self.loss = case.loss
        self.modules = [case.modules] if isinstance(case.modules, nn.Module) else list(case.modules)

    def measure(self, view: View) -> Measurement:
        """Evaluate the loss on a fresh copy of the view's batch."""
        batch = view.to_batch()
        with (
            exits_are_errors(),
            restored_modules(self.modules),
            restored_generators(),
            self.noise or nullcontext(),
        ):
            scalars, per_step = read_loss(self.loss(batch))
            numbers: Numbers = {
                "loss" if name == "loss" else f"metric {name}": value.detach().clone()
                for name, value in scalars.items()
            }
            if per_step is not None:
                numbers["per_step"] = per_step.detach().clone()
            numbers |= self._gradients(scalars["loss"])
            for prefix, module in self._named_modules():
                for name, buffer in module.named_buffers():
                    numbers[f"buffer {prefix}{name}"] = buffer.detach().clone()
        return Measurement(numbers, {n: tensor.detach() for n, tensor in view.tensors_of(batch).items()})

    def _named_modules(self) -> list[tuple[str, nn.Module]]:
        """Each module, and the prefix that keeps its names apart from those of the others."""
        alone = len(self.modules) == 1
        return [("" if alone else f"{i}.", module) for i, module in enumerate(self.modules)]

    def _gradients(self, loss: Tensor) -> Numbers:
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
        numbers = {f"gradient of {n}": g for n, g in zip(trained, gradients, strict=True) if g is not None}
        if not numbers:
            raise AuditError(
                "the loss has no gradient with respect to any parameter of the case's modules: "
                "does it use them?"
            )
        return numbers


def read_loss(given: Any) -> tuple[dict[str, Tensor], Tensor | None]:
    """The named scalars that a loss returned, and its `per_step` terms."""
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


class Exited(RuntimeError):
    """The code under audit called `sys.exit()`, which would end the audit with that status: 0 is a pass."""


@contextmanager
def exits_are_errors() -> Iterator[None]:
    """Inside, `sys.exit()` is an error like any other."""
    try:
        yield
    except SystemExit as error:
        raise Exited(f"sys.exit({error.code!r})").with_traceback(error.__traceback__) from error


def in_a_line(error: Exception) -> str:
    """The error's type and message, and the line of code that raised it."""
    message = " ".join(str(error).split())[:200]
    frames = list(traceback.extract_tb(error.__traceback__))
    if isinstance(error, Exited):  # `exit` and argparse are Python's own: the caller is asked for
        own = os.path.dirname(os.__file__), "<frozen"
        frames = [f for f in frames if "site-packages" in f.filename or not f.filename.startswith(own)]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {message}{where}"
