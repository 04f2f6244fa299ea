"""Import and audit the target of `endmark audit module:function`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from endmark.audit.case import Case
from endmark.audit.findings import Report
from endmark.audit.measure import exits_are_errors, in_a_line
from endmark.audit.run import Progress, audit
from endmark.audit.view import AuditError


def audit_target(
    target: str, *, seed: int = 0, quick: bool = False, on_progress: Progress | None = None
) -> Report:
    """Import `module:function` or `path/to/file.py:function`, call it, and audit the `Case` that it returns.

    The function may also return a `Report`, or an audit that is ready to run, such as
    `functools.partial(audit_learner, learner, batch, call)`. That is called with `seed`, `quick` and
    `on_progress`. Raises AuditError if the target is wrong; the message says how.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise AuditError(f"'{target}': want module:function or file.py:function, which returns the case")
    folder = str(Path(place).resolve().parent) if place.endswith(".py") else None
    with _importable(folder, first=True):
        return _audit(target, folder, seed=seed, quick=quick, on_progress=on_progress)


def _audit(target: str, folder: str | None, **options: Any) -> Report:
    """See `audit_target`."""
    place, _, name = target.rpartition(":")
    function = getattr(_module(place, folder), name, None)
    if not callable(function):
        raise AuditError(f"'{target}': {place} has no function '{name}'")
    try:
        with exits_are_errors(), _importable(folder):
            given: Any = function()
    except AuditError:
        raise
    except Exception as error:
        raise AuditError(f"'{target}' fails: {in_a_line(error)}") from error
    if isinstance(given, Report):
        return given
    if not isinstance(given, Case) and not callable(given):
        raise AuditError(
            f"'{target}' returned {type(given).__name__}: want a Case, or partial(audit_learner, ...)"
        )
    run = partial(audit, given) if isinstance(given, Case) else given
    try:
        with exits_are_errors(), _importable(folder):
            report = run(**options)
    except AuditError:
        raise
    except Exception as error:  # perhaps a bug of the audit: its exit status must not be that of a leak
        raise AuditError(f"the audit of '{target}' fails: {in_a_line(error)}") from error
    if not isinstance(report, Report):
        raise AuditError(f"'{target}' returned a function that gives {type(report).__name__}: want a Report")
    return report


@contextmanager
def _importable(folder: str | None, *, first: bool = False) -> Iterator[None]:
    """Inside, the folder's files are found: `first`, as `python folder/file.py` finds them, or last.

    What the target puts into `sys.path` stays, in its order. If the target takes the folder out, it is back
    for the target's next part, since a loss may import later: last, since the target wants others first.
    """
    if folder is None or folder in sys.path:
        yield
        return
    sys.path.insert(0 if first else len(sys.path), folder)
    try:
        yield
    finally:
        sys.path[:] = [entry for entry in sys.path if entry is not folder]  # not `==`: that is the target's


def _module(place: str, folder: str | None) -> Any:
    if not place.endswith(".py"):
        try:
            with exits_are_errors():
                return importlib.import_module(place)
        except Exception as error:
            raise AuditError(f"'{place}' cannot be imported: {in_a_line(error)}") from error
    path = Path(place)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise AuditError(f"'{place}': no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickles look there
    try:
        with exits_are_errors(), _importable(folder):
            spec.loader.exec_module(module)
    except Exception as error:
        raise AuditError(f"'{place}' cannot be run: {in_a_line(error)}") from error
    return module
