"""A report for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from endmark.audit.findings import SEVERITIES, Finding, Report, Severity

_STYLE: dict[Severity, str] = {
    "leak": "bold red",
    "metric": "magenta",
    "fragile": "yellow",
    "coupling": "cyan",
    "weighting": "cyan",
    "advice": "dim",
}


def report_text(report: Report) -> RenderableType:
    """The findings, the worst first, and then the limits of the audit."""
    parts: list[RenderableType] = [part for finding in report.findings for part in _finding(finding)]
    if report.leaks:
        verdict = Text(f"{len(report.leaks)} leak{'s' * (len(report.leaks) > 1)} found.", style="bold red")
    else:
        verdict = Text("No leak found on this batch. That is a test, not a proof.", style="bold green")
    probed = [name for name in report.probes if name not in report.skipped]
    parts.append(verdict)
    parts.append(Text(f"probes: {', '.join(probed)}", style="dim"))
    parts += [Text(f"not run: {name}: {why}", style="dim") for name, why in report.skipped.items()]
    if report.left_alone:
        parts.append(
            Text(f"not disturbed, since the case does not name them: {', '.join(report.left_alone)}")
        )
    if report.missing_cases:
        parts.append(Text("not tried, since the batch does not contain it:", style="yellow"))
        parts += [Text(f"  - {case}") for case in report.missing_cases]
    return Group(*parts)


def _finding(finding: Finding) -> list[RenderableType]:
    head = Text.assemble(
        (f"{finding.severity} ", _STYLE[finding.severity]),
        (f"[{finding.probe}] ", "bold"),
        finding.what,
    )
    body = Text()
    body.append(f"{SEVERITIES[finding.severity]}\n", style="dim")
    if finding.cells:
        shown = ", ".join(f"({e}, {t})" for e, t in finding.cells[:6])
        more = f" and {len(finding.cells) - 6} more" if len(finding.cells) > 6 else ""
        body.append(f"where (episode, t): {shown}{more}\n")
    if finding.moved:
        body.append(f"what moved: {'; '.join(map(str, finding.moved))}\n")
    for i, cause in enumerate(finding.causes):
        body.append(f"{'likely: ' if i == 0 else '    or: '}{cause}\n")
    if finding.repair:
        body.append("repair: ")
        body.append(f"{finding.repair}\n", style="green")
    if finding.reproducer:
        body.append(f"smallest: {finding.reproducer}\n")
    return [head, Padding(body, (0, 0, 0, 2))]
