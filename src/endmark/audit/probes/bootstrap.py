"""Probe: the final frame matters after a truncated end, and does not after a termination.

Made for `terminated` and `truncated` merged into one `done`, in either direction.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from endmark.audit import regions
from endmark.audit.cells import Cell, cells_of, evenly, position
from endmark.audit.context import Audit, Skip
from endmark.audit.disturb import overwritten
from endmark.audit.draw import Style
from endmark.audit.findings import Evidence, Finding, Reproducer
from endmark.audit.kinds import finding
from endmark.audit.probes.culprits import DRAWN, culprits, matter


def probe(audit: Audit) -> Iterator[Finding]:
    """Overwrite the frame fields of final frames."""
    view = audit.view
    if not bool(view.terminal.any() | view.cut.any()):
        raise Skip("no episode's final frame is in the batch")
    fields = [name for name in view.frame_fields if name != "alive"]
    yield from _after_terminal(audit, fields)
    if audit.case.bootstraps and fields:
        yield from _after_truncation(audit, fields)


def _after_terminal(audit: Audit, fields: list[str]) -> Iterator[Finding]:
    """Fields that matter after a terminal step."""
    innocent = list(fields)
    styles: tuple[Style, ...] = ("random", "zero")  # zero: no legal action, so a maximum over nothing
    for style in styles:
        for culprit in culprits(audit, innocent, regions.after_terminal, style):
            innocent = [field for field in innocent if field not in culprit.fields]
            what = matter(culprit.fields, "after a terminal step")
            yield finding("bootstrap: terminal", what, culprit.changes, audit.evidence(culprit.overwrite))


def _after_truncation(audit: Audit, fields: list[str]) -> Iterator[Finding]:
    """Truncated ends after which no field matters."""
    view = audit.view
    ignored = [
        position(view, cell)
        for cell in evenly(cells_of(view.cut), audit.budget)
        # Two draws, since two frames may happen to have the same value.
        if not any(
            audit.matters(overwritten(view, fields, _only(view.cut, cell), style, audit.seed))
            for style in DRAWN
        )
    ]
    if ignored:
        what = "the frame after a truncated end does not matter: its value is not bootstrapped from"
        reproducer = Reproducer(audit.seed, (ignored[0][0],), (ignored[0],), tuple(fields))
        yield finding("bootstrap: cut", what, (), Evidence((), tuple(ignored), reproducer))


def _only(cells: Tensor, cell: Cell) -> Tensor:
    only = torch.zeros_like(cells)
    only[cell] = True
    return only
