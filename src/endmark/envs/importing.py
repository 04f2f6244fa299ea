"""Modules by name, and the error for a name that names none."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from importlib.util import find_spec
from types import ModuleType

from endmark.envs.errors import EnvError
from endmark.envs.known import FAMILIES, how_to_install
from endmark.wording import one_line

MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_module(name: str) -> bool:
    """Whether there is a module of this name, other than a mere directory. Does not import it.

    name: without dots.
    """
    if name in sys.modules:
        return True
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def import_for(env_id: str, module: str) -> ModuleType:
    """Import the module that the id names. EnvError tells a missing package from a wrong name."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if not f"{module}.".startswith(f"{missing}."):  # something that the module imports
            raise _missing(env_id, missing.partition(".")[0]) from error
        parent, _, _ = missing.rpartition(".")
        if parent:  # the package is there, without this module
            alike = near(missing, _modules_in(parent))
            raise unknown(env_id, [env_id.replace(missing, other, 1) for other in alike]) from error
        packages = [family.package for family in FAMILIES]
        if missing not in packages and (alike := near(missing, [*packages, *_modules_here()])):
            raise unknown(env_id, [env_id.replace(missing, other, 1) for other in alike]) from error
        raise _missing(env_id, missing) from error
    except (Exception, SystemExit) as error:  # raised by the module's own code
        raise EnvError(f"'{env_id}': the module '{module}' cannot be imported: {one_line(error)}") from error


def unknown(env_id: str, alike: list[str]) -> EnvError:
    """The error for an id that names nothing, with ids that may have been meant."""
    hint = f"did you mean {' or '.join(alike)}?" if alike else "`endmark envs` shows what is installed"
    return EnvError(f"unknown environment '{env_id}': {hint}")


def near(name: str, names: Iterable[str]) -> list[str]:
    """The names that are spelt almost like this one, at most three."""
    return get_close_matches(name, list(names), n=3, cutoff=0.7)


def environments_in(module: ModuleType) -> list[str]:
    """The names of the module's classes that look like environments and come from the same package."""
    package = module.__name__.partition(".")[0]
    return [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__.partition(".")[0] == package
        and all(callable(getattr(value, method, None)) for method in ("reset", "step"))
    ]


def _missing(env_id: str, package: str) -> EnvError:
    return EnvError(
        f"'{env_id}' needs the package '{package}', which is not installed: {how_to_install(package)}"
    )


def _modules_in(package: str) -> list[str]:
    """The modules of a package; none if it is a plain module."""
    path = getattr(importlib.import_module(package), "__path__", [])
    return [module.name for module in pkgutil.iter_modules(path, f"{package}.")]


def _modules_here() -> list[str]:
    """The modules in the current directory; none if it was removed."""
    with suppress(FileNotFoundError):
        return [module.name for module in pkgutil.iter_modules([os.getcwd()])]
    return []
