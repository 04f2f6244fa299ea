"""From an algorithm's name to its config class, and back."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from endmark.algorithms import ALGORITHMS
from endmark.algorithms.learner import AlgorithmConfig
from endmark.wording import joined, one_line


class AlgorithmError(ValueError):
    """There is no such algorithm, or it is none. One line that says what to do about it."""


def config_class(name: str) -> type[Any]:
    """The config class of this name: a key of `ALGORITHMS`, or `package.module:Class` for one of your own.

    AlgorithmError where there is none, or where it does not keep to `AlgorithmConfig`.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    module_name, colon, class_name = name.partition(":")
    if not colon:
        near = get_close_matches(name, ALGORITHMS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"want one of {', '.join(ALGORITHMS)}"
        raise AlgorithmError(f"unknown algorithm '{name}': {hint} (one of your own: module:Config)")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a foreign module may raise anything
        said = one_line(error) if isinstance(error, SystemExit) else joined(error) or type(error).__name__
        raise AlgorithmError(f"algorithm '{name}': cannot import '{module_name}': {said}") from error
    if (given := getattr(module, class_name, None)) is None:
        raise AlgorithmError(f"algorithm '{name}': the module '{module_name}' has no '{class_name}'")
    if problem := _problem(given):
        raise AlgorithmError(f"algorithm '{name}': {problem}")
    kind: type[Any] = given
    return kind


def name_of(config: AlgorithmConfig) -> str:
    """The name that `config_class` finds this config's class by."""
    kind = type(config)
    for name, known in ALGORITHMS.items():
        if kind is known:
            return name
    return f"{kind.__module__}:{kind.__qualname__}"


def _problem(given: Any) -> str | None:
    """Why this is no config class; None if it is one."""
    if not isinstance(given, type) or not dataclasses.is_dataclass(given):
        return "given something that is no dataclass, want a config: a frozen dataclass (endmark.algorithms)"
    for method in ("learner", "store"):
        if not callable(getattr(given, method, None)):
            return f"{given.__name__} has no method '{method}', want an AlgorithmConfig (endmark.algorithms)"
    if not isinstance(getattr(given, "METRICS", None), Mapping):
        return f"{given.__name__} has no METRICS, want a mapping from each logged key to its meaning"
    for field in dataclasses.fields(given):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            return f"{given.__name__}.{field.name} has no default; every setting needs one"
    return None
