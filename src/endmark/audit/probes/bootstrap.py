"""Probe: the final frame matters after a truncated end, and does not after a termination.

Made for `terminated` and `truncated` merged into one `done`, in either direction.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from endmark.audit import regions
from endmark.audit.cells import Cell, cells_of, evenly, position
from endmark.audit.compare import is_gradient
from endmark.audit.context import Audit, Skip
from endmark.audit.disturb import overwritten
from endmark.audit.draw import Style
from endmark.audit.findings import Evidence, Finding, Reproducer
from endmark.audit.kinds import finding
from endmark.audit.probes.culprits import DRAWN, culprits, matter

ADDS_UP = 1e-3
"""Two effects add up if what is left is at most this share of the first."""


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
    view, early = audit.view, regions.phantom(audit.view)
    ignored = [
        position(view, cell)
        for cell in evenly(cells_of(view.cut), audit.budget)
        # Two draws, since two frames may happen to have the same value.
        if (audit.phantom and early[cell] and _seen_by_a_phantom_step_alone(audit, fields, cell))
        or not any(
            audit.matters(overwritten(view, fields, _only(view.cut, cell), style, audit.seed))
            for style in DRAWN
        )
    ]
    if ignored:
        what = "the frame after a truncated end does not matter: its value is not bootstrapped from"
        reproducer = Reproducer(audit.seed, (ignored[0][0],), (ignored[0],), tuple(fields))
        yield finding("bootstrap: cut", what, (), Evidence((), tuple(ignored), reproducer))


def _seen_by_a_phantom_step_alone(audit: Audit, fields: list[str], cell: Cell) -> bool:
    """Whether the last step's gradient does not use the final frame, though a phantom step's does.

    The gradient of a step that bootstraps holds the product of its own features and the next frame's value.
    So the effect of the final frame depends on the frame before. Effects that add up share no step. A network
    with memory mixes the two frames, and is never told so.
    """
    view, episode, t = audit.view, cell[0], cell[-1]
    frame, before = _only(view.cut, cell), _only(view.cut, (episode, t - 1))
    reference = audit.reference
    with_frame, with_before, with_both = (
        audit.evaluate(overwritten(view, fields, cells, "random", audit.seed))
        for cells in (frame, before, frame | before)
    )
    effect = mixed = 0.0
    for name in filter(is_gradient, reference.keys() & with_frame.keys()):
        if name in with_before and name in with_both:
            alone = with_frame[name].double() - reference[name]
            among = with_both[name].double() - with_before[name]
            effect = max(effect, float(alone.abs().max()))
            mixed = max(mixed, float((among - alone).abs().max()))
    return mixed < ADDS_UP * effect


def _only(cells: Tensor, cell: Cell) -> Tensor:
    only = torch.zeros_like(cells)
    only[cell] = True
    return only
