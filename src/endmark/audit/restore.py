"""What a learner owns: to put it back after a look, and to see what a look changed.

A learner's own things are the objects that can be reached from it through attributes, lists, tuples and
dictionaries, but for modules of code, functions and objects of the standard library.
"""

from __future__ import annotations

import copy
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from endmark.audit.measure import Observation

_CONTAINERS = (list, dict, set, deque)


@contextmanager
def restored(learner: Any) -> Iterator[None]:
    """What the learner owns is afterwards what it was, bit for bit, and so are its gradients.

    Tensors, arrays, lists, dictionaries, sets, deques, random generators and attributes. What else there
    is, such as a logger's open file, is shared.
    """
    things = _reachable(learner)
    attributes = [(thing, dict(vars(thing))) for _, thing in things if _is_owner(thing)]
    containers = [(thing, copy.copy(thing)) for _, thing in things if isinstance(thing, _CONTAINERS)]
    tensors = [(thing, thing.detach().clone()) for _, thing in things if isinstance(thing, Tensor)]
    gradients = [
        (tensor, tensor.grad, None if tensor.grad is None else tensor.grad.clone())
        for tensor, _ in tensors
        if tensor.is_leaf
    ]
    arrays = [(thing, thing.copy()) for _, thing in things if isinstance(thing, np.ndarray)]
    put_back = [put for _, thing in things if (put := _generator(thing)) is not None]
    try:
        yield
    finally:
        for thing, before in attributes:
            vars(thing).clear()
            vars(thing).update(before)
        for container, items in containers:
            container.clear()
            container.extend(items) if isinstance(container, (list, deque)) else container.update(items)
        with torch.no_grad():
            for tensor, content in tensors:
                tensor.copy_(content)
            for tensor, gradient, values in gradients:
                tensor.grad = gradient
                if gradient is not None and values is not None:
                    gradient.copy_(values)
        for array, numbers_before in arrays:
            array[...] = numbers_before
        for put in put_back:
            put()


@contextmanager
def clipping_off(*things: Any) -> Iterator[None]:
    """Gradients are not clipped inside: clipping makes every episode's share depend on all others.

    That is so for torch's functions under `torch.nn.utils`, and where the modules of code of these things
    have imported them by name.
    """

    def norm_only(parameters: Any, *_: Any, **__: Any) -> Tensor:
        parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        norms = [p.grad.norm() for p in parameters if p.grad is not None]
        return torch.stack(norms).norm() if norms else torch.zeros(())

    usual: dict[Any, Callable[..., Any]] = {
        nn.utils.clip_grad_norm_: norm_only,
        nn.utils.clip_grad_value_: lambda *_, **__: None,
    }
    patched: list[tuple[dict[str, Any], str, Any]] = []
    spaces = [vars(nn.utils), vars(nn.utils.clip_grad)]
    for thing in things:
        for _, owner in _reachable(thing):
            names = {cls.__module__ for cls in type(owner).__mro__} if _is_owner(owner) else set()
            spaces += [vars(sys.modules[name]) for name in names - {"builtins"} if name in sys.modules]
        if isinstance(thing, types.FunctionType):
            spaces.append(thing.__globals__)
    for space in {id(space): space for space in spaces}.values():
        for name, value in list(space.items()):
            if isinstance(value, types.FunctionType) and value in usual:
                patched.append((space, name, value))
    try:
        for space, name, value in patched:
            space[name] = usual[value]
        yield
    finally:
        for space, name, value in patched:
            space[name] = value


def modules_of(learner: Any) -> list[tuple[str, nn.Module]]:
    """The networks that the learner holds, with the way to them; none that is a part of another."""
    found = [(path, thing) for path, thing in _reachable(learner) if isinstance(thing, nn.Module)]
    inner = {id(part) for _, module in found for part in module.modules() if part is not module}
    return [(path, module) for path, module in found if id(module) not in inner]


def parameter_names(learner: Any) -> dict[int, str]:
    """The shortest way to each parameter, by its `id`."""
    names: dict[int, str] = {}
    for path, thing in _reachable(learner):
        if isinstance(thing, nn.Module):
            for name, parameter in thing.named_parameters():
                names.setdefault(id(parameter), f"{path}.{name}".lstrip("."))
    return names


def attributes_of(learner: Any) -> dict[str, Any]:
    """Tensors, arrays and floats that the learner, or what it holds outside of modules, keeps.

    Those that are part of a graph are not kept for later, so they are not among them.
    """
    found: dict[str, Any] = {}
    for path, thing in _reachable(learner):
        if _is_owner(thing) and not isinstance(thing, (nn.Module, torch.optim.Optimizer)):
            for name, value in vars(thing).items():
                if isinstance(value, (float, np.ndarray)) or (
                    isinstance(value, Tensor) and not value.requires_grad
                ):
                    found[f"{path}.{name}".lstrip(".")] = value
    return found


def numbers(kind: str, value: Any) -> Observation:
    """What of a returned or kept value can be compared."""
    if isinstance(value, Mapping):
        return {k: v for name, inner in value.items() for k, v in numbers(f"{kind} {name}", inner).items()}
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return {kind: torch.from_numpy(value.copy())}
    if isinstance(value, Tensor) and value.is_floating_point():
        return {kind: value.detach().clone()}
    if isinstance(value, (float, np.floating)):
        return {kind: torch.tensor(float(value), dtype=torch.float64)}
    return {}


def _reachable(root: Any) -> list[tuple[str, Any]]:
    """Everything the root holds, to any depth, itself included, each once, with the way to it."""
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
            waiting += [(f"{path}[{key!r}]" if _short(key) else path, x) for key, x in thing.items()]
        elif isinstance(thing, (list, tuple, deque)):
            waiting += [(f"{path}[{i}]", x) for i, x in enumerate(thing)]
        if _is_owner(thing):
            waiting += [(f"{path}.{name}".lstrip("."), x) for name, x in vars(thing).items()]
    return found


def _short(key: Any) -> bool:
    return isinstance(key, (str, int))


def _is_owner(thing: Any) -> bool:
    """Whether it has attributes that training may change."""
    if isinstance(thing, (Tensor, type, types.ModuleType, types.FunctionType, types.MethodType)):
        return False
    if not isinstance(getattr(thing, "__dict__", None), dict):
        return False
    package = type(thing).__module__.partition(".")[0]
    return package in ("types", "argparse", "__main__") or package not in sys.stdlib_module_names


def _generator(thing: Any) -> Callable[[], Any] | None:
    """What puts a random generator back."""
    if isinstance(thing, torch.Generator):
        state = thing.get_state()
        return lambda: thing.set_state(state)
    if isinstance(thing, np.random.Generator):
        numpy_state = thing.bit_generator.state
        return lambda: setattr(thing.bit_generator, "state", numpy_state)
    if isinstance(thing, np.random.RandomState):
        old_state = thing.get_state()
        return lambda: thing.set_state(old_state)
    if isinstance(thing, random.Random):
        python_state = thing.getstate()
        return lambda: thing.setstate(python_state)
    return None
