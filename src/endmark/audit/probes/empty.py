"""Probe: a batch without a real step gives a finite loss without gradient, or is refused.

Made for 0 / 0.
"""

from __future__ import annotations

from collections.abc import Iterator

from endmark.audit.compare import Change
from endmark.audit.context import Audit, Skip
from endmark.audit.findings import Finding
from endmark.audit.kinds import finding
from endmark.audit.measure import in_a_line
from endmark.audit.probes.padding import NO_PADDING
from endmark.audit.rows import RowsView
from endmark.audit.view import PaddedView


def probe(audit: Audit) -> Iterator[Finding]:
    """Set every flag to 0."""
    view, reference = audit.view, audit.reference
    if not isinstance(view, PaddedView) or isinstance(view, RowsView):
        raise Skip("a batch without padding holds at least one step")
    if view.filled.all():
        raise Skip(NO_PADDING)
    try:
        numbers = audit.subject.measure(view.emptied()).numbers
    except ValueError:  # an AuditError among them: the loss has no gradient, so it counts nothing
        return
    except Exception as error:
        yield finding("empty: error", f"a batch without a real step ends in {in_a_line(error)}")
        return
    bad = [
        Change(name, float("inf"))
        for name, value in numbers.items()
        if not name.startswith("metric ")  # a division in a line that logs
        and not value.isfinite().all()
        and name in reference
        and reference[name].isfinite().all()
    ]
    bad += [
        Change(name, float(value.abs().max()))
        for name, value in numbers.items()
        if name.startswith("gradient") and value.isfinite().all() and value.any()
    ]
    if bad:
        what = "a batch without a real step gives numbers that are not finite, or a gradient"
        yield finding("empty", what, bad)
