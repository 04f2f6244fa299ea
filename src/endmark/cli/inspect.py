"""`endmark inspect`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional

from endmark.cli.parse import parse
from endmark.inspect.html import html_page
from endmark.inspect.inspection import inspect, page_data
from endmark.inspect.inspection_text import inspection_table
from endmark.inspect.source import read


@dataclass(frozen=True)
class InspectCommand:
    """Say what a padded batch, a stored replay or a run holds; exit status 1 if its real steps are broken."""

    path: Positional[Path]
    """A .npz, .safetensors, .pt or .pth file, or what `endmark train` left behind."""
    html: Path | None = None
    """Write a page that shows the batch, too."""
    json: FlagCreatePairsOff[bool] = False
    """Print the findings as JSON."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        source = read(self.path)
        inspection = inspect(source)
        if self.html is not None:
            self.html.write_text(html_page(page_data(source, inspection)), encoding="utf-8")
        if self.json:
            print(json.dumps(inspection.to_json()))
        else:
            console.print(inspection_table(source, inspection, ascii_only=console.options.ascii_only))
        if inspection.broken:
            raise SystemExit(1)


def run(args: Sequence[str]) -> None:
    """Run the command."""
    parse(InspectCommand, "inspect", args)(Console())
