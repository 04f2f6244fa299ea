"""Switch gradient clipping off."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from endmark.audit.reachable import has_attributes, reachable


@contextmanager
def without_clipping(*things: Any) -> Iterator[None]:
    """Inside, `clip_grad_norm_` and `clip_grad_value_` clip nothing.

    Clipping makes each episode's share of the gradient depend on all the others. The functions are replaced
    in `torch.nn.utils`, and in the Python modules that define these things (a learner, a function) where
    those import them by name.
    """
    unclipped: dict[Any, Callable[..., Any]] = {
        nn.utils.clip_grad_norm_: _norm,
        nn.utils.clip_grad_value_: lambda *_, **__: None,
    }
    patched: list[tuple[dict[str, Any], str, Any]] = []
    for namespace in _namespaces(things):
        for name, value in list(namespace.items()):
            if isinstance(value, types.FunctionType) and value in unclipped:
                patched.append((namespace, name, value))
    try:
        for namespace, name, value in patched:
            namespace[name] = unclipped[value]
        yield
    finally:
        for namespace, name, value in patched:
            namespace[name] = value


def _norm(parameters: Any, *_: Any, **__: Any) -> Tensor:
    """The norm that `clip_grad_norm_` returns, without the clipping."""
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    norms = [p.grad.norm() for p in parameters if p.grad is not None]
    return torch.stack(norms).norm() if norms else torch.zeros(())


def _namespaces(things: tuple[Any, ...]) -> list[dict[str, Any]]:
    """The global names of torch's utilities, and of the Python modules that the things are defined in."""
    namespaces = [vars(nn.utils), vars(nn.utils.clip_grad)]
    for thing in things:
        for _, owner in reachable(thing):
            names = {cls.__module__ for cls in type(owner).__mro__} if has_attributes(owner) else set()
            namespaces += [vars(sys.modules[name]) for name in names - {"builtins"} if name in sys.modules]
        if isinstance(thing, types.FunctionType):
            namespaces.append(thing.__globals__)
    return list({id(namespace): namespace for namespace in namespaces}.values())
