"""`audit`: run the probes on a case, and report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import torch

from endmark.audit.case import Case
from endmark.audit.context import Audit, Skip, Unstable, adds
from endmark.audit.findings import Finding, Report, Severity
from endmark.audit.hard import CASES
from endmark.audit.measure import LossSubject, Subject, in_a_line
from endmark.audit.probes import PROBES, not_finite
from endmark.audit.view import AuditError, View, left_alone, view_of

Observe = Callable[[str, int, int], None]
"""Called before each probe with its name, how many are done, and how many there are."""


def audit(
    case: Case,
    *,
    probes: Sequence[str] | None = None,
    seed: int = 0,
    quick: bool = False,
    observe: Observe | None = None,
) -> Report:
    """Disturb what must not matter to the case's loss, and report what moved.

    probes: names from `PROBES`, by default all. quick: look at fewer steps one by one.
    Raises AuditError if the loss or the batch cannot be audited; the message says what to do.
    """
    return run_probes(
        LossSubject(case), view_of(case), case, probes=probes, seed=seed, quick=quick, observe=observe
    )


def assert_no_leaks(
    subject: Case | Report, *, probes: Sequence[str] | None = None, seed: int = 0, quick: bool = False
) -> None:
    """For a test of yours: AssertionError with the leaks that the audit of a case, or its report, has."""
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
    observe: Observe | None,
) -> Report:
    """Run the probes on a subject; see `audit`."""
    names = list(PROBES) if probes is None else list(dict.fromkeys(["purity", *probes]))
    if unknown := [name for name in names if name not in PROBES]:
        raise AuditError(f"probe '{unknown[0]}': unknown; there are {', '.join(PROBES)}")
    if not view.steps.any():
        raise AuditError("nothing in the batch is real: want at least one step")
    try:
        base, _ = subject.look(view)
    except AuditError:
        raise
    except Exception as error:
        raise AuditError(f"the loss fails on the batch as it is: {in_a_line(error)}") from error
    if broken := [name for name, value in base.items() if adds(name) and not value.isfinite().all()]:
        why = f"{broken[0]} is not finite on the batch as it is"
        if (finding := not_finite(subject, view, seed)) is None:
            raise AuditError(f"{why}: want numbers that can be compared")
        others = {name: why for name in names if name != "poison"}
        return Report((finding,), tuple(names), others, missing_cases(view), left_alone(view))
    context = Audit(subject, view, base, seed, case.reward, case.bootstraps, case.horizon, quick)
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    unstable = ""
    for done, name in enumerate(names):
        if observe:
            observe(name, done, len(names))
        if unstable:
            skipped[name] = unstable
            continue
        try:
            for finding in PROBES[name](context):
                findings.append(finding)  # noqa: PERF402 - those before a Skip are kept
        except Skip as why:
            skipped[name] = str(why)
        except Unstable as why:
            unstable = str(why)
    if "weight" in names and case.reward is not None and case.reward not in view.step_fields:
        note = f"no step field '{case.reward}' to disturb: name it in Case(reward=...)"
        skipped.setdefault("weight of single steps", note)
    if observe:
        observe("", len(names), len(names))
    order = list(get_args(Severity))
    findings.sort(key=lambda finding: order.index(finding.severity))
    return Report(tuple(findings), tuple(names), skipped, missing_cases(view), left_alone(view))


def missing_cases(view: View) -> tuple[str, ...]:
    """The cases of `CASES` that the batch does not contain, so that nothing was tried on them."""
    if not bool(view.terminal.any() | view.cut.any()):
        return ()  # sequences without ends
    lengths = torch.zeros(view.n_episodes, dtype=torch.int64).index_add(
        0, view.episode[view.steps], torch.ones(int(view.steps.sum()), dtype=torch.int64)
    )
    longest = int(lengths.max())
    of_terminal = torch.zeros(view.n_episodes, dtype=torch.bool)
    of_terminal[view.episode[view.terminal]] = True
    full = lengths == longest
    alive = view.alive
    present = {
        "one step": bool((lengths == 1).any()),
        "full, truncated": bool((full & ~of_terminal).any()),
        "full, terminated": bool((full & of_terminal).any()),
        "early, terminated": bool((~full & of_terminal).any()),
        "early, truncated": bool((~full & ~of_terminal & (lengths > 0)).any()),
        "an agent left": alive is None or bool((~alive & view.frames[..., None]).any()),
        "lengths differ": len(set(lengths[~full].tolist())) == int((~full).sum()),
    }
    return tuple(CASES[name] for name, there in present.items() if not there)
