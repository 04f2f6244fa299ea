"""The program, called in this process."""

from __future__ import annotations

from pathlib import Path

from endmark.cli import main


def status(*args: str | Path) -> int:
    """Its exit status."""
    try:
        main([str(arg) for arg in args])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else -1
    return 0
