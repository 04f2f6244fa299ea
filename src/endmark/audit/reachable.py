"""The objects that a learner holds: its networks, tensors, numbers and containers.

An object belongs to the learner if attributes, lists, tuples, deques or dictionaries lead from the learner to
it. Python modules, functions, methods, classes and objects of the standard library are not searched.
"""

from __future__ import annotations

import sys
import types
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from endmark.audit.compare import Numbers


def reachable(root: Any) -> list[tuple[str, Any]]:
    """The root and every object that it holds, at any depth, each once: (path, object)."""
    found: list[tuple[str, Any]] = []
    seen: set[int] = set()
    waiting = deque([("", root)])
    while waiting:
        path, thing = waiting.popleft()
        if id(thing) in seen or isinstance(thing, (str, bytes, int, float, complex, type, type(None))):
            continue
        seen.add(id(thing))
        found.append((path, thing))
        if isinstance(thing, Mapping):
            waiting += [
                (f"{path}[{k!r}]" if isinstance(k, (str, int)) else path, x) for k, x in thing.items()
            ]
        elif isinstance(thing, (list, tuple, deque)):
            waiting += [(f"{path}[{i}]", x) for i, x in enumerate(thing)]
        if has_attributes(thing):
            waiting += [(f"{path}.{name}".lstrip("."), x) for name, x in vars(thing).items()]
    return found


def has_attributes(thing: Any) -> bool:
    """Whether the object has attributes that training may change."""
    if isinstance(thing, (Tensor, type, types.ModuleType, types.FunctionType, types.MethodType)):
        return False
    if not isinstance(getattr(thing, "__dict__", None), dict):
        return False
    package = type(thing).__module__.partition(".")[0]
    return package in ("types", "argparse", "__main__") or package not in sys.stdlib_module_names


def modules_of(learner: Any) -> list[tuple[str, nn.Module]]:
    """The networks of the learner, (path, module); a part of another network is left out."""
    found = [(path, thing) for path, thing in reachable(learner) if isinstance(thing, nn.Module)]
    inner = {id(part) for _, module in found for part in module.modules() if part is not module}
    return [(path, module) for path, module in found if id(module) not in inner]


def parameter_names(learner: Any) -> dict[int, str]:
    """The shortest path to each parameter, by the parameter's `id`."""
    names: dict[int, str] = {}
    for path, thing in reachable(learner):
        if isinstance(thing, nn.Module):
            for name, parameter in thing.named_parameters():
                names.setdefault(id(parameter), f"{path}.{name}".lstrip("."))
    return names


def attributes_of(learner: Any) -> dict[str, Any]:
    """Attributes that are tensors, arrays or floats, outside of networks and optimisers, by path.

    A tensor that requires a gradient is left out: it belongs to a graph, and no learner keeps it as state.
    """
    found: dict[str, Any] = {}
    for path, thing in reachable(learner):
        if has_attributes(thing) and not isinstance(thing, (nn.Module, torch.optim.Optimizer)):
            for name, value in vars(thing).items():
                if isinstance(value, (float, np.ndarray)) or (
                    isinstance(value, Tensor) and not value.requires_grad
                ):
                    found[f"{path}.{name}".lstrip(".")] = value
    return found


def numbers_in(name: str, value: Any) -> Numbers:
    """The floating-point numbers in a value, as tensors; a mapping's keys are appended to the name."""
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in numbers_in(f"{name} {key}", inner).items()}
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return {name: torch.from_numpy(value.copy())}
    if isinstance(value, Tensor) and value.is_floating_point():
        return {name: value.detach().clone()}
    if isinstance(value, (float, np.floating)):
        return {name: torch.tensor(float(value), dtype=torch.float64)}
    return {}
