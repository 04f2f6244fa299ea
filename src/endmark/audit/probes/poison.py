"""Probe: padding, frames after the end, and step fields of frames without a step hold other values.

Made for losses that mask too late, too little, or not at all: `.mean()` over padded tensors, statistics over
padding, a phantom step.
"""

from __future__ import annotations

from collections.abc import Iterator

from endmark.audit import regions
from endmark.audit.cells import positions
from endmark.audit.compare import is_additive
from endmark.audit.context import Audit
from endmark.audit.disturb import Overwrite
from endmark.audit.draw import Style
from endmark.audit.findings import Evidence, Finding
from endmark.audit.kinds import finding
from endmark.audit.measure import Subject
from endmark.audit.probes.culprits import DRAWN, NOT_FINITE, culprits, matter, quoted
from endmark.audit.regions import Region
from endmark.audit.view import View


def probe(audit: Audit) -> Iterator[Finding]:
    """Overwrite the fields with finite values, zeros among them (no legal action), and then with NaN and inf.

    NaN passes a mask by multiplication, and a network that is fed padding. A field that matters is not tried
    again, so a finding about NaN means that finite values change nothing.
    """
    for kind, where, region, fields in _places(audit.view):
        innocent = list(fields) if region(audit.view).any() else []
        for style in _styles(audit.quick):
            for culprit in culprits(audit, innocent, region, style):
                innocent = [field for field in innocent if field not in culprit.fields]
                evidence = audit.evidence(culprit.overwrite)
                if style in NOT_FINITE:
                    what = f"{style} in {quoted(culprit.fields)} {where} gets through; finite values do not"
                    yield finding("poison: nan", what, culprit.changes, evidence)
                else:
                    yield finding(kind, matter(culprit.fields, where), culprit.changes, evidence)


def not_finite(subject: Subject, view: View, seed: int) -> Finding | None:
    """The cause of a loss that is not finite on the batch as it is: a field where it must not matter.

    None if no single field is the cause.
    """
    for _, where, region, fields in _places(view):
        for field in fields if region(view).any() else ():
            mended = subject.measure(Overwrite((field,), region, "random", seed)(view)).numbers
            if all(value.isfinite().all() for name, value in mended.items() if is_additive(name)):
                what = f"the loss is not finite, because of '{field}' {where}"
                evidence = Evidence((field,), positions(view, region(view)))
                return finding("poison: not finite", what, (), evidence)
    return None


def _places(view: View) -> list[tuple[str, str, Region, tuple[str, ...]]]:
    """Each region where fields must not matter: the kind of finding, its words, the region, the fields."""
    everything = (*view.frame_fields, *view.step_fields)
    return [
        ("poison: padding", "in padding", regions.padding, everything),
        ("poison: after the end", "after the end", regions.stale, everything),
        ("poison: final frame", "on frames without a step", regions.without_step, view.step_fields),
    ]


def _styles(quick: bool) -> tuple[Style, ...]:
    return ("random", "zero", "nan") if quick else (*DRAWN, "zero", *NOT_FINITE)
