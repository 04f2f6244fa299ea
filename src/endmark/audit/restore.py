"""Put back what an evaluation changes: a learner, the modules of a loss, the random generators."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from endmark.audit.reachable import has_attributes, reachable

_CONTAINERS = (list, dict, set, deque)


@contextmanager
def restored_learner(learner: Any) -> Iterator[None]:
    """Afterwards everything that the learner holds is what it was before, bit for bit.

    That is: tensors and their gradients, arrays, lists, dictionaries, sets, deques, random generators and
    attributes. Other objects, such as a logger's open file, are not restored.
    """
    things = reachable(learner)
    attributes = [(thing, dict(vars(thing))) for _, thing in things if has_attributes(thing)]
    containers = [(thing, copy.copy(thing)) for _, thing in things if isinstance(thing, _CONTAINERS)]
    tensors = [(thing, thing.detach().clone()) for _, thing in things if isinstance(thing, Tensor)]
    gradients = [
        (tensor, tensor.grad, None if tensor.grad is None else tensor.grad.clone())
        for tensor, _ in tensors
        if tensor.is_leaf
    ]
    arrays = [(thing, thing.copy()) for _, thing in things if isinstance(thing, np.ndarray)]
    generators = [restore for _, thing in things if (restore := _saved_generator(thing)) is not None]
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
        for array, numbers in arrays:
            array[...] = numbers
        for restore in generators:
            restore()


def _saved_generator(thing: Any) -> Callable[[], Any] | None:
    """A function that puts a random generator back to its present state; None for other objects."""
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


@contextmanager
def restored_modules(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Afterwards the modules' parameters and buffers are what they were before."""
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
def restored_generators() -> Iterator[None]:
    """Afterwards the global random generators are in the state that they were in before."""
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
def reseeded_generators() -> Iterator[None]:
    """Inside, the global random generators give other numbers; afterwards they are in their old state."""
    with restored_generators():
        random.seed(random.random())
        np.random.seed(random.randrange(2**32))  # noqa: NPY002
        torch.manual_seed(random.randrange(2**62))
        yield
