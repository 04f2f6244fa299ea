"""Settings of a grid: which cells have them, and whether a value is one value or an axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from endmark.algorithms.named import config_class
from endmark.training import TrainConfig
from endmark.wording import quoted, shown

NONE = "none"
"""The value None of a setting that may be None: TOML has no null."""
ELSEWHERE = {"algorithm": "algorithms", "env": "tasks", "seed": "seeds"}
"""Settings of a run that are axes of every grid, and what they are called there."""

Types = Mapping[str, Any]


def run_settings() -> Types:
    """The settings that every run has, and their types."""
    return {name: kind for name, kind in _types_of(TrainConfig).items() if name not in ELSEWHERE}


def algorithm_settings(algorithm: str) -> Types:
    """The settings of this algorithm, and their types."""
    return _types_of(config_class(algorithm))


def section(where: str, raw: object, known: Iterable[Types]) -> dict[str, Any]:
    """The settings in a table of a grid, each as one value or, for an axis, as a list of values.

    known: who may have a setting; one that nobody has is refused.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"{where}: given {shown(raw)}, want a table of settings")
    types: dict[str, Any] = {}
    for owner in known:
        types = {**owner, **types}
    made = {}
    for name, value in raw.items():
        if name in ELSEWHERE:
            raise ValueError(f"{where}.{name}: no setting, want it under {ELSEWHERE[name]}")
        if name not in types:
            unknown(f"{where}.{name}", "setting", name, types)
        made[name] = _values(f"{where}.{name}", value, types[name])
    return made


def unknown(where: str, what: str, name: str, known: Iterable[str]) -> NoReturn:
    """ValueError for a name that is not known, with the near one, or with all."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"want one of {', '.join(known)}"
    raise ValueError(f"{where}: no such {what}: {hint}")


def table(where: str, raw: object, names: Iterable[str], what: str) -> dict[str, Any]:
    """A table whose keys are among these names."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"{where}: given {shown(raw)}, want a table")
    names = list(names)
    for name in raw:
        if name not in names:
            unknown(f"{where}.{quoted(name)}", what, name, names)
    return dict(raw)


def _types_of(kind: type[Any]) -> Types:
    types = get_type_hints(kind)
    return {field.name: types[field.name] for field in dataclasses.fields(kind) if field.init}


def _values(where: str, value: Any, kind: Any) -> Any:
    """One value, or a list of at least one. An axis of a setting that is a list itself is a list of lists."""
    takes_list, takes_none = _takes_list(kind), _takes_none(kind)

    def one(value: Any) -> Any:
        if takes_none and value == NONE:
            return None
        return [value] if takes_list and isinstance(value, str | int) else value

    is_axis = isinstance(value, list)
    if takes_list and is_axis:
        is_axis = any(isinstance(item, list) or item == NONE for item in value)
    if not is_axis:
        return one(value)
    if not value:
        raise ValueError(f"{where}: given an empty list, want at least one value")
    return [one(item) for item in value]


def is_axis(value: Any, kind: Any) -> bool:
    """Whether a value that `section` returned is a list of values."""
    if not isinstance(value, list):
        return False
    return not _takes_list(kind) or any(item is None or isinstance(item, list) for item in value)


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _takes_none(kind: Any) -> bool:
    return NoneType in _choices(kind)


def _takes_list(kind: Any) -> bool:
    return any(get_origin(choice) is tuple for choice in _choices(kind))
