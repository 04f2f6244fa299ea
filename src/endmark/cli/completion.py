"""`endmark completion`.

The script holds all words. They are read here, once, from the tables and dataclasses that the parsers are
made of; so nothing of endmark runs when Tab is pressed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tyro.conf import FlagCreatePairsOff, Positional

from endmark.algorithms import ALGORITHMS
from endmark.cli import COMMANDS
from endmark.cli.parse import parse
from endmark.cli.shells import SCRIPTS, Place, Tables, Values
from endmark.envs import installed

DIRECTORIES, FILES = Values(paths="directories"), Values(paths="files")
ENVS = Values(tuple(dict.fromkeys(example for family in installed() for example in family.examples)))
BY_NAME: Mapping[str, Values] = {
    "run_dir": DIRECTORIES,
    "run_dirs": DIRECTORIES,
    "like": DIRECTORIES,
    "env": ENVS,
    "partners": FILES,
    "learners": FILES,
    "held_out": FILES,
    "target": FILES,
    "grid": Values(tuple(ALGORITHMS), "files"),
}
"""Values of fields that are texts or paths, where the type does not say which."""


@dataclass(frozen=True)
class CompletionCommand:
    """Print a script with which the Tab key completes commands, options, algorithms and paths."""

    shell: Positional[Literal["bash", "zsh", "fish"]]
    """For which shell; docs/completion.md says where its script goes."""


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    command = parse(CompletionCommand, "completion", args)
    print(SCRIPTS[command.shell](tables()))
    return 0


def tables() -> Tables:
    """What can be typed where."""
    places = {name: _place(_command(name)) for name in COMMANDS}
    train = places.pop("train")
    for name, kind in ALGORITHMS.items():
        of_algorithm = _place(kind)
        places[f"train {name}"] = Place({**train.options, **of_algorithm.options}, train.argument)
    return Tables(
        commands={name: command.line for name, command in COMMANDS.items()},
        algorithms={name: (kind.__doc__ or "").splitlines()[0] for name, kind in ALGORITHMS.items()},
        places=places,
    )


def _command(name: str) -> Any:
    return getattr(importlib.import_module(COMMANDS[name].module), f"{name.title().replace('-', '')}Command")


def _place(kind: Any) -> Place:
    """The options of a dataclass, as tyro makes them, and the values of its positional argument."""
    options: dict[str, Values | None] = {"--help": None}
    argument = Values()
    for name, hint in _fields(kind):
        parts = set(_parts(hint))
        option = f"--{name.replace('_', '-')}"
        if Positional in parts:
            argument = _values(name, parts)
        elif bool in parts and NoneType not in parts:
            options[option] = None
            if FlagCreatePairsOff not in parts:
                options[f"--no{option[1:]}"] = None
        else:
            options[option] = _values(name, parts)
    return Place(options, argument)


def _fields(kind: Any) -> Iterator[tuple[str, Any]]:
    """Names and types of a dataclass's fields, and of those of a dataclass in it, which have no prefix."""
    hints = get_type_hints(get_origin(kind) or kind, include_extras=True)
    for field in fields(get_origin(kind) or kind):
        hint = hints[field.name]
        inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if is_dataclass(get_origin(inner) or inner):
            yield from _fields(inner)
        elif field.init and not isinstance(inner, TypeVar):
            yield field.name, hint


def _parts(hint: Any) -> Iterator[Any]:
    """What a type is made of: classes, the values of Literals, and marks."""
    if get_origin(hint) in (Annotated, Union, UnionType, Literal, tuple):
        for part in get_args(hint):
            yield from _parts(part)
    elif hint.__hash__ is not None:
        yield hint


def _values(name: str, parts: set[Any]) -> Values:
    words = tuple(sorted(part for part in parts if isinstance(part, str)))
    if bool in parts:
        return Values(("True", "False", "None"))
    if words:
        return Values(words)
    if {str, Path} & parts and name in BY_NAME:
        return BY_NAME[name]
    return FILES if Path in parts else Values()
