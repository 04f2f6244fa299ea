"""A checkout of another project, whose learner is to be audited: its folder comes from the environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from endmark.audit.view import AuditError


def checkout(variable: str, inside: str = ".") -> Path:
    """The folder that holds the project's modules; it is put first in `sys.path`.

    variable: the environment variable that names the checkout. inside: where in the checkout the modules lie,
    such as `src`. Two projects whose modules have the same names need a process each.
    Raises AuditError if the variable is not set, or there is no such folder.
    """
    given = os.environ.get(variable, "")
    if not given:
        raise AuditError(f"{variable}: not set, want the folder of a checkout, such as {variable}=../project")
    folder = (Path(given) / inside).resolve()
    if not folder.is_dir():
        raise AuditError(f"{variable}: given '{given}', where there is no folder '{inside}'")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return folder
