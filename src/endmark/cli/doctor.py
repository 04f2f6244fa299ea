"""`endmark doctor`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text
from tyro.conf import FlagCreatePairsOff

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.doctor import Finding, examine, private

STYLES = {"ok": "green", "note": "yellow", "missing": "dim", "broken": "bold red"}


@dataclass(frozen=True)
class DoctorCommand:
    """Say whether training works here, by training for a moment; exit status 1 if it does not.

    The lines are meant to be pasted into a bug report. They hold no user name and no home directory.
    """

    json: FlagCreatePairsOff[bool] = False
    """Print the findings as JSON."""

    def __call__(self, console: Console) -> int:
        """Run the command; its exit status."""
        findings = []
        for found in examine(Path.cwd()):
            shown = dataclasses.replace(found, value=private(found.value), advice=private(found.advice))
            findings.append(shown)
            if not self.json:
                console.print(_line(shown), soft_wrap=True)
        works = not any(found.status == "broken" for found in findings)
        if self.json:
            of_all = [dataclasses.asdict(found) for found in findings]
            print(json.dumps({"works": works, "findings": of_all}, indent=1))
        else:
            said = f"Training {'works' if works else 'does not work'} here."
            console.print(Text(f"\n{said}"), soft_wrap=True)
        return 0 if works else 1


def _line(found: Finding) -> Text:
    line = Text.assemble((f"{found.status:7}", STYLES[found.status]), f"  {found.name}: {found.value}")
    return line.append(f"\n         {found.advice}") if found.advice else line


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    status: int = parse(DoctorCommand, "doctor", args)(Terminal())
    return status
