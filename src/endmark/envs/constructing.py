"""Environments made by constructors: a refused argument is one line, and what cannot be used is closed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from endmark.envs.errors import EnvError
from endmark.envs.protocol import Environment
from endmark.wording import one_line


def constructed(
    env_id: str, constructor: Callable[..., Any], kwargs: dict[str, Any], signatures: Iterable[Any]
) -> Any:
    """What the constructor makes of these arguments.

    signatures: the callables that take the arguments in the end, to say which of them is wrong.

    EnvError names an argument that none of them takes or that one of them needs, or else tells the error.
    """
    try:
        return constructor(**kwargs)
    except (Exception, SystemExit) as error:  # whatever a constructor raises about its arguments
        raise EnvError(refused(env_id, error, signatures, kwargs)) from error


def adapted(env_id: str, made: Any, adapter: Callable[[Any], Environment]) -> Environment:
    """What a constructor made, as an `Environment` by this adapter. It is closed if it cannot be one."""
    try:
        return adapter(made)
    except BaseException as error:
        with suppress(Exception, SystemExit):  # the first error is the one to tell
            made.close()
        if isinstance(error, EnvError):
            raise EnvError(f"'{env_id}': {error}") from error
        if isinstance(error, Exception | SystemExit):
            raise EnvError(f"'{env_id}' cannot be used: {one_line(error)}") from error
        raise


def refused(
    env_id: str, error: Exception | SystemExit, signatures: Iterable[Any], kwargs: dict[str, Any]
) -> str:
    """Why a constructor failed: an argument that it does not take or lacks, or else its error."""
    if isinstance(error, EnvError):
        return f"'{env_id}': {error}"
    for constructor in signatures if isinstance(error, TypeError) else ():
        try:
            parameters = inspect.signature(constructor).parameters.values()
        except (TypeError, ValueError):  # not callable, or written in C
            continue
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            continue
        named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        takes = f"it takes {', '.join(named)}" if named else "it takes none"
        for name in kwargs:
            if name not in named:
                return f"'{env_id}' takes no argument '{name}': {takes}"
        for name, parameter in named.items():
            if parameter.default is parameter.empty and name not in kwargs:
                return f"'{env_id}' needs the argument '{name}': {takes}"
    return f"'{env_id}' cannot be made: {one_line(error)}"
