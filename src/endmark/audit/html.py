"""A report as one self-contained page."""

from __future__ import annotations

from html import escape

from endmark.audit.findings import SEVERITIES, Finding, Report

_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1c2530, #e6e9ec); --soft: light-dark(#5c6672, #9aa4ae);
  --line: light-dark(#d9dde1, #3a424b); --paper: light-dark(#fcfcfa, #16191d);
  --leak: light-dark(#b3261e, #ff8a80); --fragile: light-dark(#8a5a00, #ffc46b);
  --coupling: light-dark(#00677a, #6fd3e3); --good: light-dark(#1b6e3c, #7edb9c) }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 46rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.05rem; margin: 0 }
article { border-top: 1px solid var(--line); padding: 1rem 0 }
dl { display: grid; grid-template-columns: 7rem 1fr; gap: .25rem 1rem; margin: .6rem 0 0 }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
code { font: .88em ui-monospace, monospace; white-space: pre-wrap }
.soft { color: var(--soft); margin: .3rem 0 }
.leak { color: var(--leak) } .fragile { color: var(--fragile) } .good { color: var(--good) }
.coupling, .weighting { color: var(--coupling) }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr } dt { margin-top: .4rem } }
"""


def report_html(report: Report, title: str) -> str:
    """The findings, the worst first, and then the limits of the audit."""
    if report.leaks:
        n = len(report.leaks)
        verdict = f'<p class="leak"><strong>{n} leak{"s" * (n > 1)} found.</strong></p>'
    else:
        verdict = (
            '<p class="good"><strong>No leak found on this batch.</strong> That is a test, not a proof.</p>'
        )
    probed = ", ".join(name for name in report.probes if name not in report.skipped)
    notes = [f"<p class='soft'>Probes: {escape(probed)}.</p>"]
    notes += [
        f"<p class='soft'>Not run: {escape(name)}: {escape(why)}.</p>" for name, why in report.skipped.items()
    ]
    if report.left_alone:
        names = escape(", ".join(report.left_alone))
        notes.append(f"<p class='soft'>Not disturbed, since the case does not name them: {names}.</p>")
    if report.missing_cases:
        cases = "".join(f"<li>{escape(case)}</li>" for case in report.missing_cases)
        notes.append(f"<p>Not tried, since the batch does not contain it:</p><ul>{cases}</ul>")
    findings = "\n".join(_article(finding) for finding in report.findings)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)} - endmark audit</title><style>{_STYLE}</style></head>
<body><p class="soft">endmark audit</p><h1>{escape(title)}</h1>{verdict}
{findings}
{"".join(notes)}
</body></html>
"""


def _article(finding: Finding) -> str:
    rows = [("means", SEVERITIES[finding.severity])]
    if finding.cells:
        shown = ", ".join(f"({e},\N{NO-BREAK SPACE}{t})" for e, t in finding.cells[:12])
        more = f" and {len(finding.cells) - 12} more" if len(finding.cells) > 12 else ""
        rows.append(("episode, t", shown + more))
    if finding.moved:
        rows.append(("moved", "; ".join(map(str, finding.moved))))
    rows += [("likely" if i == 0 else "or", cause) for i, cause in enumerate(finding.causes)]
    if finding.reproducer:
        rows.append(("smallest", str(finding.reproducer)))
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    repair = f"<dt>repair</dt><dd><code>{escape(finding.repair)}</code></dd>" if finding.repair else ""
    kind = f'<span class="{finding.severity}">{finding.severity}</span>'
    head = f"{kind} · {finding.probe} · {escape(finding.what)}"
    return f"<article><h2>{head}</h2><dl>{listed}{repair}</dl></article>"
