"""What `endmark inspect` prints."""

from __future__ import annotations

from rich.console import Console

from endmark.inspect.inspection import Inspection
from endmark.inspect.inspection_text import inspection_table
from endmark.inspect.source import Source


def shown(source: Source, found: Inspection, *, width: int = 80, ascii_only: bool = False) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(inspection_table(source, found, ascii_only=ascii_only))
    return capture.get()
