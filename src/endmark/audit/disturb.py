"""Which cells of a batch a probe disturbs, and how: regions, overwritten fields, nudged rewards."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from endmark.audit.draw import Style, draw
from endmark.audit.view import View

Cell = tuple[int, ...]
"""An index into the cells of a view; with an agent behind it, an index into its `alive`."""
Region = Callable[[View], Tensor]
Disturbance = Callable[[View, Tensor | None], View]
"""Disturb a view; the tensor, if it is given, says in which cells only."""


def padding(view: View) -> Tensor:
    """Cells that hold nothing, and do not claim to."""
    return ~view.frames & ~view.filled


def stale(view: View) -> Tensor:
    """Cells after the end that are still marked as filled."""
    return ~view.frames & view.filled


def uncounted(view: View) -> Tensor:
    """Frames without a step: the final ones, and a prompt's."""
    return view.frames & ~view.steps


def after_terminal(view: View) -> Tensor:
    """Frames after a step that terminated."""
    return view.terminal


def dead(view: View) -> Tensor:
    """Cells x N: agents that have left."""
    assert view.alive is not None
    return ~view.alive & view.frames[..., None]


def dead_steps(view: View) -> Tensor:
    """Cells x N: agents that have left, where there is a step."""
    assert view.alive is not None
    return ~view.alive & view.steps[..., None]


def overwrite(fields: Sequence[str], region: Region, style: Style, seed: int) -> Disturbance:
    """A disturbance of the fields in the region, or in some cells of it."""
    return partial(_overwrite, fields, region, style, seed)


def _overwrite(
    fields: Sequence[str], region: Region, style: Style, seed: int, view: View, keep: Tensor | None
) -> View:
    cells = region(view) if keep is None else region(view) & keep
    return overwritten(view, fields, cells, style, seed)


def overwritten(view: View, fields: Sequence[str], cells: Tensor, style: Style, seed: int) -> View:
    """The view with other values in the cells; each field has its own, whatever others are overwritten."""
    tensors = {}
    for field in fields:
        tensor = view.tensors[field].clone()
        device = tensor.device
        real = view.steps if field in view.step_fields else view.frames
        generator = torch.Generator().manual_seed(seed + zlib.crc32(field.encode()))
        values = draw(tensor, tensor[real.to(device)], style, generator)
        tensor[cells.to(device)] = values[cells.to(device)]
        tensors[field] = tensor
    return view.with_tensors(tensors)


def nudged(view: View, reward: str, cell: Cell, sign: int) -> View:
    """The view with another reward in one cell."""
    tensor = view.tensors[reward].clone()
    tensor[cell] += (sign * (1 + tensor[cell].abs())).to(tensor.dtype)
    return view.with_tensors({reward: tensor})


def spread(view: View, budget: int) -> list[Cell]:
    """Some real steps: last ones of episodes, half at least if there are so many, and others."""
    steps = view.steps.nonzero()
    episodes = view.episode[view.steps]
    is_last = torch.ones(len(steps), dtype=torch.bool)
    is_last[:-1] = episodes[1:] != episodes[:-1]
    last, rest = as_cells(steps[is_last]), as_cells(steps[~is_last])
    others = evenly(rest, budget - min(len(last), -(-budget // 2)))
    return evenly(last, budget - len(others)) + others


def evenly(cells: Sequence[Cell], n: int) -> list[Cell]:
    """At most n of them, evenly spaced."""
    if n >= len(cells):
        return list(cells)
    return [cells[(2 * i + 1) * len(cells) // (2 * n)] for i in range(n)]


def as_cells(indices: Tensor) -> list[Cell]:
    """The rows of `nonzero`."""
    return [tuple(index) for index in indices.tolist()]


def named(view: View, cell: Cell) -> tuple[int, int]:
    """(episode, t) of a cell."""
    cell = cell[: view.frames.ndim]
    return int(view.episode[cell]), int(view.time[cell])


def where(view: View, mask: Tensor) -> tuple[tuple[int, int], ...]:
    """(episode, t) of the cells, each once."""
    cells = mask.flatten(view.frames.ndim).any(-1) if mask.ndim > view.frames.ndim else mask
    return tuple(zip(view.episode[cells].tolist(), view.time[cells].tolist(), strict=True))
