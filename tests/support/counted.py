"""An environment that counts how many of its kind are open; by its id, `support.counted:Counted`."""

from __future__ import annotations

import os
from pathlib import Path

from support.scripted import Scripted


class Counted(Scripted):
    """directory: where each environment leaves a file when it is made, and another when it is closed."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        self._name = f"{os.getpid()}-{id(self)}-{len(list(Path(directory).iterdir()))}"
        self._directory = Path(directory)
        (self._directory / f"{self._name}.made").touch()

    def close(self) -> None:
        (self._directory / f"{self._name}.closed").touch()


def made_and_closed(directory: Path) -> tuple[int, int]:
    """How many were made, and how many were closed."""
    made, closed = ({f.stem for f in directory.glob(f"*.{kind}")} for kind in ("made", "closed"))
    assert closed <= made
    return len(made), len(closed)
