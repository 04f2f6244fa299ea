"""Read the batch of a case as a view: which cells are real, and which fields a probe may disturb."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from endmark.audit.case import Case
from endmark.audit.row_layout import rows_view
from endmark.audit.view import AuditError, PaddedView, RaggedView, View
from endmark.episodes import EpisodeBatch, step_mask


def view_of(case: Case) -> View:
    """The case's batch as cells. Raises AuditError if no field says which cells are real."""
    batch = case.batch
    if isinstance(batch, EpisodeBatch):
        return RaggedView(batch)
    if case.rows is not None:
        view = rows_view(case, case.rows)
        named = _named_fields(case, view.tensors, view.flags, tuple(view.frames.shape))
        return dataclasses.replace(view, frame_fields=named[0], step_fields=named[1])
    tensors = {name: tensor.detach().clone() for name, tensor in batch.items() if isinstance(tensor, Tensor)}
    others = {name: value for name, value in batch.items() if name not in tensors}
    for name in others:
        if hasattr(others[name], "__array__"):
            raise AuditError(f"field '{name}' is a {type(others[name]).__name__}: want a torch tensor")
    if case.mask or case.lengths:
        filled = _sequence_mask(case, tensors)
        steps = filled & _flags(case.step_mask, tensors, filled) if case.step_mask else filled
        nothing = torch.zeros_like(filled)
        flags = tuple(name for name in (case.mask, case.lengths, case.step_mask) if name)
        cells = {"frames": filled, "steps": steps, "terminal": nothing, "cut": nothing, "filled": filled}
    else:
        cells = _episode_cells(tensors)
        flags = tuple(name for name in ("filled", "terminated", "truncated", "mask") if name in tensors)
    frame_fields, step_fields = _named_fields(case, tensors, flags, tuple(cells["frames"].shape))
    alive = tensors["alive"].cpu() != 0 if "alive" in frame_fields else None
    return PaddedView(
        tensors=tensors,
        frame_fields=frame_fields,
        step_fields=step_fields,
        alive=alive,
        flags=flags,
        others=others,
        **cells,
    )


def _named_fields(
    case: Case, tensors: Mapping[str, Tensor], flags: tuple[str, ...], shape: tuple[int, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The frame fields and step fields that the batch has.

    A name that the caller gave must be in the batch; a default name may be missing.
    """
    default = {f.name: f.default for f in dataclasses.fields(Case)}
    lists = []
    for kind in ("frame_fields", "step_fields"):
        names = tuple(getattr(case, kind))
        for name in names:
            if name not in tensors and names != default[kind]:
                raise AuditError(f"{kind}: no field '{name}' in the batch; it has {', '.join(tensors)}")
            if name in tensors and tuple(tensors[name].shape[:2]) != shape:
                given = tuple(tensors[name].shape)
                raise AuditError(
                    f"{kind}: field '{name}' has shape {given}, want {shape} + (...) like the flags: pad "
                    f"it by a column and let the loss cut that off; or leave the name out"
                )
        lists.append(tuple(name for name in names if name in tensors and name not in flags))
    if not any(lists):
        raise AuditError(
            f"none of the case's frame_fields and step_fields is in the batch: it has {', '.join(tensors)}"
        )
    if case.reward not in (*lists[1], None, default["reward"]):
        raise AuditError(f"reward: '{case.reward}' is not one of the step fields: {', '.join(lists[1])}")
    return lists[0], lists[1]


def _sequence_mask(case: Case, tensors: Mapping[str, Tensor]) -> Tensor:
    """The cells that hold data, (B, C) bool, by the case's `mask` or `lengths`."""
    if case.mask:
        return _flags(case.mask, tensors, None)
    fields = [tensors[f] for f in (*case.frame_fields, *case.step_fields) if f in tensors]
    if not fields:
        raise AuditError("no frame field and no step field is in the batch: name them in the case")
    lengths = tensors.get(case.lengths or "")
    if lengths is None or lengths.ndim != 1:
        given = "missing" if lengths is None else f"given shape {tuple(lengths.shape)}"
        raise AuditError(f"field '{case.lengths}': {given}, want (B,), the length of each sequence")
    return torch.arange(fields[0].shape[1]) < lengths.cpu()[:, None]


def _flags(name: str, tensors: Mapping[str, Tensor], like: Tensor | None) -> Tensor:
    """The batch's field of this name as a mask (B, C) bool; its shape must be that of `like`, if given."""
    if name not in tensors:
        raise AuditError(f"field '{name}': missing; the batch has {', '.join(tensors)}")
    mask = tensors[name].cpu() != 0
    flat = mask.squeeze(2) if mask.ndim == 3 and mask.shape[2] == 1 else mask
    if flat.ndim != 2 or (like is not None and flat.shape != like.shape):
        want = "(B, T)" if like is None else f"{tuple(like.shape)}"
        raise AuditError(f"field '{name}': given shape {tuple(mask.shape)}, want {want}")
    return flat


def _one_episode_a_row(filled: Tensor, terminated: Tensor) -> None:
    """Raises AuditError if a row goes on after an end, and ends again."""
    ends = ((filled != 0).long().cumprod(1) * (terminated != 0))[..., 0]
    rows = (ends.sum(1) > 1).nonzero()
    if len(rows):
        row = int(rows[0])
        first, second = ends[row].nonzero()[:2, 0].tolist()
        raise AuditError(
            f"row {row}: terminated at t {first} and again at t {second}, all filled: several episodes in a "
            f"row? Then say where each begins: Case(rows=Rows(ends='terminated', time_major=False)). If they "
            f"are leftovers, set filled or terminated to 0 there"
        )


def _episode_cells(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The kinds of cells, (B, C) bool each, by the flags `filled` and `terminated`."""
    for name in ("filled", "terminated"):
        if name not in tensors:
            raise AuditError(
                f"the batch has no '{name}': it has {', '.join(tensors)}. Give filled and terminated, or "
                f"say where episodes begin in Case(rows=...) if a row holds several, or name the field that "
                f"says what is real in Case(mask=...) or Case(lengths=...)"
            )
    filled, terminated = tensors["filled"].cpu(), tensors["terminated"].cpu()
    exact = step_mask(filled, terminated)[..., 0]
    _one_episode_a_row(filled, terminated)
    steps = functional.pad(exact, (0, 1))
    length = exact.sum(1, keepdim=True)
    column = torch.arange(filled.shape[1])
    final = (column == length) & (length > 0)
    ended = ((terminated[..., 0] != 0) & (column == length - 1)).any(1, keepdim=True)
    has_frame = filled[..., 0] != 0
    return {
        "frames": steps | (final & has_frame),
        "steps": steps,
        "terminal": final & has_frame & ended,
        "cut": final & has_frame & ~ended,
        "filled": has_frame,
    }
