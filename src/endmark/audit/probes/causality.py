"""Probe: a step's own term does not depend on frames beyond its horizon.

For losses that return `per_step`, with `Case(horizon=...)`. Made for attention without a causal mask and for
windows that reach too far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from endmark.audit.cells import Cell, cells_of, evenly, position, positions
from endmark.audit.compare import SMALL, Change, relative_change, tolerance
from endmark.audit.context import Audit, Skip
from endmark.audit.disturb import overwritten
from endmark.audit.findings import Evidence, Finding, Reproducer
from endmark.audit.kinds import finding
from endmark.audit.probes.culprits import quoted
from endmark.audit.view import View


def probe(audit: Audit) -> Iterator[Finding]:
    """For single steps, overwrite the frames of the episode beyond the horizon."""
    view, horizon = audit.view, audit.case.horizon
    if "per_step" not in audit.reference:
        raise Skip("the loss returns no 'per_step' terms")
    if horizon is None:
        raise Skip("Case(horizon=...) does not say how far ahead a step's term may look")
    terms, fields = _terms(view, audit.reference["per_step"]), (*view.frame_fields, *view.step_fields)
    floor = max(SMALL, 0.1 * float(terms[terms.isfinite()].abs().max()))

    def change(cell: Cell, later: Tensor, fields: Sequence[str]) -> float:
        disturbed = overwritten(view, fields, later, "random", audit.seed)
        after = _terms(view, audit.evaluate(disturbed)["per_step"])
        return relative_change(terms[cell], after[cell], floor)

    for cell in evenly(_with_a_future(view, terms, horizon), audit.budget):
        episode, t = position(view, cell)
        later = (view.episode == episode) & (view.time > t + horizon) & view.frames
        by = change(cell, later, fields)
        if by > tolerance(terms):
            guilty = tuple(field for field in fields if change(cell, later, [field]) > tolerance(terms))
            guilty = guilty or fields
            what = f"the term of step {t} depends on {quoted(guilty)} after t = {t + horizon}"
            cells = positions(view, later)
            evidence = Evidence(guilty, cells, Reproducer(audit.seed, (episode,), cells, guilty))
            yield finding("causality", what, [Change(f"per_step[{t}]", by)], evidence)
            return


def _terms(view: View, per_step: Tensor) -> Tensor:
    """The terms by cell: (B, C), or (B, C-1) without the last column; for an `EpisodeBatch` (F,).

    An `EpisodeBatch` may have one term a step, [S]; its frames without a step are then NaN.
    """
    cells = view.frames
    terms = per_step.flatten(cells.ndim).squeeze(-1) if per_step.ndim > cells.ndim else per_step
    if cells.ndim == 1 and terms.shape == (int(view.steps.sum()),):
        full = terms.new_full(cells.shape, torch.nan)
        full[view.steps.to(terms.device)] = terms
        return full
    if (
        terms.ndim == cells.ndim
        and terms.shape[0] == len(cells)
        and terms.shape[-1] - cells.shape[-1] in (0, -1)
    ):
        return terms
    want = f"{tuple(cells.shape)}, a term a cell, or one column less" if cells.ndim > 1 else "[S] or [F]"
    raise Skip(f"'per_step' has shape {tuple(per_step.shape)}: want {want}")


def _with_a_future(view: View, terms: Tensor, horizon: int) -> list[Cell]:
    """The real steps with a term whose episode goes on beyond their horizon."""
    last = torch.zeros(view.n_episodes, dtype=torch.int64)
    last = last.scatter_reduce(0, view.episode[view.frames], view.time[view.frames], "amax")
    there = view.steps & (last[view.episode] > view.time + horizon)
    if terms.shape != there.shape:
        there = there & functional.pad(torch.ones(terms.shape, dtype=torch.bool), (0, 1))
    return cells_of(there)
