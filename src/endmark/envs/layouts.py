"""What the numbers of an observation mean, for environments of which that is known."""

from __future__ import annotations

from typing import Any, NamedTuple


class Layout(NamedTuple):
    """Where an agent's observation holds places on a grid of so many rows and columns.

    own, others: the features (row, column) of the agent itself, and of each other one in ascending order.
    foods: the features (row, column, level) of each food; one of level 0 is none.
    """

    rows: int
    cols: int
    own: tuple[int, int]
    others: tuple[tuple[int, int], ...]
    foods: tuple[tuple[int, int, int], ...]


def foraging(env: Any) -> Layout | None:
    """Level-Based Foraging's: foods, the agent itself, the others.

    None where agents see a part of the grid, or an image: their rows and columns are then not the grid's.
    """
    rows, cols = map(int, env.field_size)
    if env._grid_observation or env.sight < max(rows, cols) - 1:
        return None
    of_players = 3 * env.max_num_food
    size = 3 if env._observe_agent_levels else 2
    starts = range(of_players, of_players + size * len(env.players), size)
    own, *others = [(i, i + 1) for i in starts]
    foods = tuple((i, i + 1, i + 2) for i in range(0, of_players, 3))
    return Layout(rows, cols, own, tuple(others), foods)
