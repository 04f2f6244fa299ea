"""Probe: two episodes in one row do not meet.

Made for hidden states, recursions and bootstrap values that reach from one episode of a row into the next.

With f the loss or a gradient, and A and B two episodes, f(A and B changed) - f(A changed) - f(B changed) + f
is zero for a sum over episodes, whatever the change is. Episodes of different rows are compared first: where
they do not sum up either, the batch shares statistics, and nothing follows for a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from endmark.audit.cells import evenly, positions
from endmark.audit.compare import Change, Numbers, floors, is_additive, relative_change
from endmark.audit.context import Audit, Skip
from endmark.audit.findings import Evidence, Finding
from endmark.audit.kinds import finding
from endmark.audit.rows import RowsView

MEETS = 1e-4
"""Two episodes sum up if the relative gap is at most this: ten times what rounding does to one number."""

Episode = tuple[int, int]
"""A row, and the number of an episode in it."""


def probe(audit: Audit) -> Iterator[Finding]:
    """Change neighbours in a row, alone and together: their frames first, and then everything."""
    view = audit.view
    if not isinstance(view, RowsView):
        raise Skip("a row holds one episode")
    seams = _seams(view)
    if not seams:
        raise Skip("no row holds the steps of several episodes")
    if view.n_episodes < 2:
        raise Skip("the batch has only one row")
    numbers = {name: value for name, value in audit.reference.items() if is_additive(name)}
    everything = (*view.frame_fields, *view.step_fields)
    for fields, tried in [(view.frame_fields, "nothing"), (everything, "only the frame fields")]:
        meeting, by = [], 0.0
        for row, k in seams if fields else ():
            pair = (row, k), (row, k + 1)
            across = (row, k), ((row + 1) % view.n_episodes, 0)
            if _gap(audit, view, numbers, fields, across) > MEETS:
                raise Skip(
                    f"the rows share statistics, which hide what passes a seam: {tried} could be tried"
                )
            if (gap := _gap(audit, view, numbers, fields, pair)) > MEETS:
                meeting.append(pair[1])
                by = max(by, gap)
        if meeting:
            first = torch.zeros_like(view.steps)
            for episode in meeting:
                first |= _cells(view, episode) & (view.segment.diff(dim=1, prepend=view.segment[:, :1]) > 0)
            what = "an episode's share of the loss depends on the one before it, or after it, in its row"
            yield finding(
                "reset", what, [Change("loss or gradient", by)], Evidence((), positions(view, first))
            )
            return


def _seams(view: RowsView, n: int = 3) -> list[Episode]:
    """At most `n` episodes that another one follows in the row, each with a step: (row, number)."""
    last = torch.where(view.steps, view.segment, 0).amax(1)
    seams = [(row, k) for row, most in enumerate(last.tolist()) for k in range(most)]
    return [(row, k) for row, k in evenly(seams, n)]


def _cells(view: RowsView, episode: Episode) -> Tensor:
    row, k = episode
    cells = torch.zeros_like(view.steps)
    cells[row] = view.steps[row] & (view.segment[row] == k)
    return cells


def _gap(
    audit: Audit, view: RowsView, numbers: Numbers, fields: Sequence[str], pair: tuple[Episode, Episode]
) -> float:
    """How far the changes of two episodes are from adding up, relatively."""
    one, other = (_cells(view, episode) for episode in pair)
    parts = [
        audit.evaluate(_exchanged(view, fields, cells, audit.seed)) for cells in (one, other, one | other)
    ]
    floor, gap = floors(numbers), 0.0
    for name, value in numbers.items():
        a, b, both = (part.get(name, torch.zeros_like(value)).double() for part in parts)
        scale = max(float(x.abs().max()) for x in (a, b, both, value)) if value.numel() else 0.0
        gap = max(gap, relative_change(both + value.double(), a + b, max(floor(name), scale)))
    return gap


def _exchanged(view: RowsView, fields: Sequence[str], cells: Tensor, seed: int) -> RowsView:
    """The view with the content of other real steps in the cells, all fields from the same step."""
    generator = torch.Generator().manual_seed(seed)
    real = view.steps.flatten().nonzero()[:, 0]
    # One draw for all cells of the view: a cell gets the same content, whichever others are changed.
    source = real[torch.randint(len(real), (view.steps.numel(),), generator=generator)]
    tensors = {}
    for field in fields:
        tensor = view.tensors[field].clone()
        tensor[cells] = view.tensors[field].flatten(0, 1)[source].view_as(tensor)[cells]
        tensors[field] = tensor
    changed = view.with_tensors(tensors)
    assert isinstance(changed, RowsView)
    return changed
