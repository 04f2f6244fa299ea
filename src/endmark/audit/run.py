"""`audit`: run the probes on a case, and report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import torch

from endmark.audit.broken import not_finite, where_not_finite
from endmark.audit.case import Case
from endmark.audit.compare import is_additive
from endmark.audit.context import Audit, Skip, Unstable
from endmark.audit.findings import Finding, Report, Severity
from endmark.audit.hard import CASES
from endmark.audit.layout import view_of
from endmark.audit.measure import LossSubject, Subject, in_a_line
from endmark.audit.probes import PROBES
from endmark.audit.repair import legal_in_padding, swamped
from endmark.audit.rows import RowsView
from endmark.audit.view import AuditError, View, left_alone

Progress = Callable[[str, int, int], None]
"""A callback: the name of the next probe ("" at the end), the probes done, and the probes in all."""


def audit(
    case: Case,
    *,
    probes: Sequence[str] | None = None,
    seed: int = 0,
    quick: bool = False,
    on_progress: Progress | None = None,
) -> Report:
    """Disturb what must not matter to the case's loss, and report the numbers that changed.

    probes: names from `PROBES`; all of them by default. seed: for the values that are drawn.
    quick: try fewer steps one by one. on_progress: called before each probe.
    Raises AuditError if the loss or the batch cannot be audited; the message says what to do.
    """
    subject, view = LossSubject(case), view_of(case)
    return run_probes(subject, view, case, probes=probes, seed=seed, quick=quick, on_progress=on_progress)


def assert_no_leaks(
    subject: Case | Report, *, probes: Sequence[str] | None = None, seed: int = 0, quick: bool = False
) -> None:
    """In a test: raise AssertionError if the audit of a case, or a report, has a leak. It lists the leaks."""
    report = subject if isinstance(subject, Report) else audit(subject, probes=probes, seed=seed, quick=quick)
    if report.leaks:
        raise AssertionError("\n".join(f"{f.probe}: {f.what}; repair: {f.repair}" for f in report.leaks))


def run_probes(
    subject: Subject,
    view: View,
    case: Case,
    *,
    probes: Sequence[str] | None,
    seed: int,
    quick: bool,
    on_progress: Progress | None,
) -> Report:
    """Run the probes on a subject; see `audit`. `purity` always comes first."""
    fit = [name for name in PROBES if name != "reset" or isinstance(view, RowsView)]
    names = fit if probes is None else list(dict.fromkeys(["purity", *probes]))
    if unknown := [name for name in names if name not in PROBES]:
        raise AuditError(f"probe '{unknown[0]}': unknown; there are {', '.join(PROBES)}")
    if not view.steps.any():
        raise AuditError("the batch has no real step: want at least one")
    try:
        reference = subject.measure(view).numbers
    except AuditError:
        raise
    except Exception as error:
        raise AuditError(f"the loss fails on the batch as it is: {in_a_line(error)}") from error
    if broken := [n for n, value in reference.items() if is_additive(n) and not value.isfinite().all()]:
        why = f"{broken[0]} is not finite on the batch as it is"
        if (finding := not_finite(subject, view, seed)) is None:
            raise AuditError(f"{why}: {where_not_finite(view) or 'want numbers that can be compared'}")
        others = {name: why for name in names if name != "poison"}
        return Report((finding,), tuple(names), others, missing_cases(view), left_alone(view))
    running = Audit(subject, view, reference, case, seed, quick)
    _mend(running)
    findings, skipped = _run(running, names, on_progress)
    if "weight" in names and case.reward is not None and case.reward not in view.step_fields:
        note = f"no step field '{case.reward}' to disturb: name it in Case(reward=...)"
        skipped.setdefault("weight of single steps", note)
    order = list(get_args(Severity))
    findings.sort(key=lambda finding: order.index(finding.severity))
    return Report(tuple(findings), tuple(names), skipped, missing_cases(view), left_alone(view))


def _mend(running: Audit) -> None:
    """Set masks of actions in padding to 1 if they swamp the loss."""
    mended, names = legal_in_padding(running.view)
    if names:
        try:
            numbers = running.subject.measure(mended).numbers
        except Exception:
            return
        if swamped(running.reference, numbers):
            running.view, running.reference, running.swamping = mended, numbers, names


def _run(
    running: Audit, names: Sequence[str], on_progress: Progress | None
) -> tuple[list[Finding], dict[str, str]]:
    """The findings of the probes, and the probes that were skipped, each with the reason."""
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    unstable = ""
    for done, name in enumerate(names):
        if on_progress:
            on_progress(name, done, len(names))
        if unstable:
            skipped[name] = unstable
            continue
        try:
            for finding in PROBES[name](running):
                findings.append(finding)  # noqa: PERF402 - a probe may find something, and then raise Skip
        except Skip as why:
            skipped[name] = str(why)
        except Unstable as why:
            unstable = str(why)
    if on_progress:
        on_progress("", len(names), len(names))
    return findings, skipped


def missing_cases(view: View) -> tuple[str, ...]:
    """The cases of `CASES` that the batch does not contain. Sequences, which have no ends, miss none."""
    if isinstance(view, RowsView):
        return _missing_in_rows(view)
    if not bool(view.terminal.any() | view.cut.any()):
        return ()
    lengths = torch.zeros(view.n_episodes, dtype=torch.int64).index_add(
        0, view.episode[view.steps], torch.ones(int(view.steps.sum()), dtype=torch.int64)
    )
    longest = int(lengths.max())
    terminated = torch.zeros(view.n_episodes, dtype=torch.bool)
    terminated[view.episode[view.terminal]] = True
    full = lengths == longest
    alive = view.alive
    present = {
        "one step": bool((lengths == 1).any()),
        "full, truncated": bool((full & ~terminated).any()),
        "full, terminated": bool((full & terminated).any()),
        "early, terminated": bool((~full & terminated).any()),
        "early, truncated": bool((~full & ~terminated & (lengths > 0)).any()),
        "an agent left": alive is None or bool((~alive & view.frames[..., None]).any()),
        "lengths differ": len(set(lengths[~full].tolist())) == int((~full).sum()),
    }
    return tuple(CASES[name] for name, there in present.items() if not there)


def _missing_in_rows(view: RowsView) -> tuple[str, ...]:
    """The cases of rows with several episodes that the batch does not contain."""
    left = view.alive is not None and bool((~view.alive & view.steps[..., None]).any())
    several = bool((view.segment[view.steps] > 0).any())
    present = {
        "a row with the steps of several episodes": several,
        "an episode that was truncated within its row": bool(view.optional.any()),
        "a row whose last column begins an episode": bool((~view.frames).any()),
        "a row that is cut off within an episode, at its last column": bool(view.cut.any()),
        "an agent that left while others went on": left,
    }
    return tuple(case for case, there in present.items() if not there)
