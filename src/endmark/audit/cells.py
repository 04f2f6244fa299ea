"""Cells of a view: pick some of them, and translate them to (episode, t)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from endmark.audit.view import View

Cell = tuple[int, ...]
"""An index into the cells of a view; or into its `alive`, with the agent as the last entry."""

Position = tuple[int, int]
"""(episode, t), as reports print it."""


def cells_of(mask: Tensor) -> list[Cell]:
    """The cells where the mask is set."""
    return [tuple(index) for index in mask.nonzero().tolist()]


def evenly(cells: Sequence[Cell], n: int) -> list[Cell]:
    """At most `n` of the cells, evenly spaced."""
    if n >= len(cells):
        return list(cells)
    return [cells[(2 * i + 1) * len(cells) // (2 * n)] for i in range(n)]


def some_steps(view: View, n: int) -> list[Cell]:
    """At most `n` steps that must carry weight. Half, if there are so many, are the last of their episode."""
    steps = view.counted.nonzero()
    episodes = view.episode[view.counted]
    is_last = torch.ones(len(steps), dtype=torch.bool)
    is_last[:-1] = episodes[1:] != episodes[:-1]
    last, rest = ([tuple(index) for index in some.tolist()] for some in (steps[is_last], steps[~is_last]))
    others = evenly(rest, n - min(len(last), -(-n // 2)))
    return evenly(last, n - len(others)) + others


def position(view: View, cell: Cell) -> Position:
    """The (episode, t) of a cell; an agent in it is ignored."""
    cell = cell[: view.frames.ndim]
    return int(view.episode[cell]), int(view.time[cell])


def positions(view: View, mask: Tensor) -> tuple[Position, ...]:
    """The (episode, t) of every cell where the mask is set, for at least one agent if it has agents."""
    cells = mask.flatten(view.frames.ndim).any(-1) if mask.ndim > view.frames.ndim else mask
    return tuple(zip(view.episode[cells].tolist(), view.time[cells].tolist(), strict=True))
