"""Read a batch whose rows hold several episodes as a view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from endmark.audit.case import Case
from endmark.audit.rows import Form, Rows, RowsView, row_major
from endmark.audit.view import AuditError


def rows_view(case: Case, rows: Rows) -> RowsView:
    """The case's batch as rows, its lists of fields still empty.

    Raises AuditError if a flag is missing, or the shape of a field is another one.
    """
    batch = case.batch
    if not isinstance(batch, Mapping):
        raise AuditError(f"rows: given a {type(batch).__name__}, want tensors or arrays by name")
    if (rows.starts is None) == (rows.ends is None):
        raise AuditError(f"rows: given starts={rows.starts!r} and ends={rows.ends!r}, want one of the two")
    named = [*rows.flags, *(name for name in (*case.frame_fields, *case.step_fields) if name in batch)]
    for name in rows.flags:
        if name not in batch:
            raise AuditError(f"rows: no field '{name}' in the batch; it has {', '.join(batch)}")
    for name in named:
        if not isinstance(batch[name], (Tensor, np.ndarray)) or batch[name].ndim < 2:
            what = "(T, rows, ...)" if rows.time_major else "(rows, T, ...)"
            raise AuditError(f"field '{name}': given {_kind(batch[name])}, want a tensor or an array {what}")
    sizes = {name: _size(batch[name], rows) for name in named}
    n, columns = sizes[rows.flags[0]][0], max(size[1] for size in sizes.values())
    for name, size in sizes.items():
        if size[0] != n or columns - size[1] not in (0, 1):
            want = f"{n} rows of {columns} or {columns - 1} columns, like '{rows.flags[0]}'"
            raise AuditError(f"field '{name}': given {size[0]} rows of {size[1]} columns, want {want}")
    like = {
        name: value
        for name, value in batch.items()
        if isinstance(value, (Tensor, np.ndarray))
        and value.ndim >= 2
        and (size := _size(value, rows))[0] == n
        and columns - size[1] in (0, 1)
    }
    forms = {
        name: Form(isinstance(value, np.ndarray), value.dtype, _size(value, rows)[1], rows.time_major)
        for name, value in like.items()
    }
    tensors = {name: row_major(value, columns, time_major=rows.time_major) for name, value in like.items()}
    step_columns = max((sizes[name][1] for name in case.step_fields if name in sizes), default=columns)
    cells = _cells(rows, tensors, forms, step_columns)
    others = {name: value for name, value in batch.items() if name not in like}
    return RowsView(
        tensors=tensors,
        frame_fields=(),
        step_fields=(),
        flags=rows.flags,
        others=others,
        forms=forms,
        **cells,
    )


def _cells(
    rows: Rows, tensors: Mapping[str, Tensor], forms: Mapping[str, Form], step_columns: int
) -> dict[str, Any]:
    """The kinds of cells, (rows, columns) each, and each agent's `alive`."""
    first = _boundaries(rows.starts or rows.ends or "", tensors, after=rows.starts is None)
    first[:, 0] = False  # the row's own beginning ends nothing
    steps = torch.zeros_like(first)
    steps[:, :step_columns] = True
    last = ~steps  # the column of frames without a step, if there is one
    if forms[rows.flags[0]].columns < first.shape[1] and rows.starts is not None:
        first[:, -1] = False  # nothing says whether an episode begins there
        last = torch.zeros_like(last)
    begins_unplayed = first & ~steps
    optional = torch.zeros_like(first)
    if rows.cut is not None:
        cut = _boundaries(rows.cut, tensors, after=rows.starts is None) & first
        optional[:, :-1] = cut[:, 1:]
    alive = None
    if rows.alive is not None:
        flags = _flag(rows.alive, tensors)
        alive = flags.squeeze(3) if flags.ndim == 4 and flags.shape[3] == 1 else flags
        if alive.ndim != 3:
            raise AuditError(f"field '{rows.alive}': given {alive.ndim} axes, want (T, rows, agents)")
    return {
        "frames": ~begins_unplayed,
        "steps": steps,
        "terminal": torch.zeros_like(first),
        "cut": last & ~begins_unplayed,
        "filled": torch.ones_like(first),
        "segment": first.long().cumsum(1),
        "optional": optional & steps,
        "alive": alive,
    }


def _boundaries(name: str, tensors: Mapping[str, Tensor], *, after: bool) -> Tensor:
    """A flag (rows, columns) bool, set where a frame begins an episode. after: it is of the step before."""
    flags = _flag(name, tensors)
    flat = flags.flatten(2) if flags.ndim > 2 else flags[..., None]
    if (differing := (flat != flat[..., :1]).any(-1)).any():
        row, t = differing.nonzero()[0].tolist()
        where = f"field '{name.lstrip('~')}': row {row}, t {t}"
        raise AuditError(f"{where}: given different flags for its agents, want one")
    return functional.pad(flat[:, :-1, 0], (1, 0)) if after else flat[..., 0].clone()


def _flag(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    flags = tensors[name.lstrip("~")] != 0
    return ~flags if name.startswith("~") else flags


def _size(value: Any, rows: Rows) -> tuple[int, int]:
    """Rows and columns of a field."""
    columns, n = value.shape[:2] if rows.time_major else value.shape[1::-1]
    return int(n), int(columns)


def _kind(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, (Tensor, np.ndarray)) else type(value).__name__
