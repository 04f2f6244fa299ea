"""`endmark inspect`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text
from tyro.conf import FlagCreatePairsOff, Positional

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.envs import EnvError
from endmark.inspect.html import html_page
from endmark.inspect.inspection import inspect, page_data
from endmark.inspect.inspection_text import inspection_table
from endmark.inspect.run_episodes import NoEpisodesError
from endmark.inspect.run_facts import facts_table, run_facts
from endmark.inspect.source import read


@dataclass(frozen=True)
class InspectCommand:
    """Say what a padded batch, a stored replay or a run holds; exit status 1 if its real steps are broken."""

    path: Positional[Path]
    """A .npz, .safetensors, .pt or .pth file, or a run directory, also of a killed run."""
    html: Path | None = None
    """Write a page that shows the batch, too."""
    json: FlagCreatePairsOff[bool] = False
    """Print the findings as JSON."""

    def __call__(self, console: Console) -> int:
        """Run the command; its exit status."""
        facts = run_facts(self.path) if self.path.is_dir() else None
        of_run = {} if facts is None else {"run": facts.to_json()}
        try:
            source = read(self.path)
        except (NoEpisodesError, EnvError) as error:
            if facts is None or self.html is not None:
                raise
            if self.json:
                print(json.dumps(of_run | {"note": str(error)}))
            else:
                console.print(facts_table(facts), Text(str(error)), soft_wrap=True)
            return 0
        inspection = inspect(source)
        if self.html is not None:
            self.html.write_text(html_page(page_data(source, inspection)), encoding="utf-8")
        if self.json:
            print(json.dumps(of_run | inspection.to_json()))
        else:
            if facts is not None:
                console.print(facts_table(facts))
            console.print(inspection_table(source, inspection, ascii_only=console.options.ascii_only))
        return int(inspection.broken)


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    status: int = parse(InspectCommand, "inspect", args)(Terminal())
    return status
