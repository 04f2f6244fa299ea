"""`endmark audit`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional

from endmark.audit import audit_target, hints_text, report_html, report_text, scan
from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.report import ProbeDisplay


@dataclass(frozen=True)
class AuditCommand:
    """Disturb what must not matter to a loss, and report what moved; exit status 1 if something leaks."""

    target: Positional[str] = ""
    """module:function or file.py:function; the function returns a Case, or the Report of audit_learner."""
    static: Path | None = None
    """Instead, read the source of a file or folder, and list lines to look at: hints, with status 0."""
    quick: FlagCreatePairsOff[bool] = False
    """Look at fewer steps one by one."""
    seed: int = 0
    """What the disturbances are drawn from."""
    html: Path | None = None
    """Write the report as a page, too."""
    json: FlagCreatePairsOff[bool] = False
    """Print the report as JSON."""

    def __call__(self, console: Console) -> int:
        """Run the command; its exit status."""
        if self.static is not None:
            return self._static(self.static, console)
        if not self.target:
            raise ValueError("nothing to audit: want module:function, file.py:function, or --static PATH")
        with ProbeDisplay(Terminal(stderr=True)) as display:
            report = audit_target(self.target, seed=self.seed, quick=self.quick, on_progress=display)
        if self.html is not None:
            self.html.write_text(report_html(report, self.target), encoding="utf-8")
        if self.json:
            print(json.dumps(report.to_json()))
        else:
            console.print(report_text(report))
        return 1 if report.leaks else 0

    def _static(self, path: Path, console: Console) -> int:
        if self.target or self.html is not None:
            other = f"'{self.target}'" if self.target else "--html"
            raise ValueError(f"--static: given with {other}, want it alone or with --json")
        found = scan(path)
        if self.json:
            print(json.dumps(found.to_json()))
        else:
            console.print(hints_text(found))
        return 0


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    status: int = parse(AuditCommand, "audit", args)(Terminal())
    return status
