"""Pictures of known grid worlds, whose own ones need a screen. By Pillow, which the extra `plot` installs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from endmark.envs.protocol import Picture

AGENTS = ("#2a6f97", "#c98a2b", "#7d5a96", "#4f8a7c", "#5f6b78", "#9a6a4f")
FOOD, LEAF = "#b8433c", "#6c9a45"
SHELF, WANTED = "#c9c2d8", "#3f8f86"
GROUND, LINES, INK, PAPER = "#f6f3ea", "#ddd7c8", "#33312c", "#ffffff"
FINER = 3
"""Everything is drawn this much larger, and made smaller in the end, for smooth edges."""
Cell = tuple[int, int]
Place = tuple[float, float]
CENTRE: Place = (0.5, 0.5)


def foraging(env: Any) -> Picture:
    """Level-Based Foraging: players with their numbers, food, and the level of each in a badge."""
    board = _Board(*env.field.shape)
    for row, col in np.argwhere(env.field).tolist():
        board.disc((row, col), FOOD, 0.30, at=(0.5, 0.54))
        board.disc((row, col), LEAF, 0.08, at=(0.58, 0.2))
        board.badge((row, col), str(env.field[row, col]))
    for number, player in enumerate(env.players):
        row, col = map(int, player.position)
        board.agent((row, col), number)
        board.badge((row, col), str(player.level))
    return board.picture()


def warehouse(env: Any) -> Picture:
    """The robotic warehouse: goals; shelves, green where one is asked for; robots, and where they head.

    A robot with a dark rim carries a shelf.
    """
    board = _Board(*env.grid_size)
    for x, y in env.goals:
        board.square((int(y), int(x)), INK, 0.0)
        board.text((int(y), int(x)), "goal", 0.28, PAPER)
    wanted = {id(shelf) for shelf in env.request_queue}
    for shelf in env.shelfs:
        board.square((int(shelf.y), int(shelf.x)), WANTED if id(shelf) in wanted else SHELF, 0.08)
    for number, robot in enumerate(env.agents):
        cell = int(robot.y), int(robot.x)
        right, down = {"UP": (0, -1), "DOWN": (0, 1), "LEFT": (-1, 0), "RIGHT": (1, 0)}[robot.dir.name]
        board.disc(cell, INK, 0.10, at=(0.5 + 0.36 * right, 0.5 + 0.36 * down))
        if robot.carrying_shelf:
            board.disc(cell, INK, 0.40)
        board.agent(cell, number)
    return board.picture()


@lru_cache(maxsize=64)  # to make one takes longer than to write with it
def font(size: float) -> Any:
    """Pillow's own font in this size."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


class _Board:
    """A grid of square cells (row, column). Sizes and places in a cell are parts of its width.

    at: a place, from the cell's left and top.
    """

    def __init__(self, rows: int, cols: int) -> None:
        from PIL import Image, ImageDraw

        self._width = FINER * min(64, max(24, 480 // max(rows, cols)))  # of a cell
        size = cols * self._width + FINER, rows * self._width + FINER
        self._image = Image.new("RGB", size, GROUND)
        self._draw = ImageDraw.Draw(self._image)
        for k in range(max(rows, cols) + 1):
            here = k * self._width + FINER // 2
            self._draw.line([(here, 0), (here, size[1])], LINES, FINER)
            self._draw.line([(0, here), (size[0], here)], LINES, FINER)

    def square(self, cell: Cell, colour: str, margin: float) -> None:
        x, y = self._place(cell, (margin, margin))
        side = (1 - 2 * margin) * self._width - FINER
        self._draw.rectangle((x + FINER, y + FINER, x + FINER + side, y + FINER + side), colour)

    def disc(self, cell: Cell, colour: str, radius: float, at: Place = CENTRE) -> None:
        (x, y), r = self._place(cell, at), radius * self._width
        self._draw.ellipse((x - r, y - r, x + r, y + r), colour)

    def text(self, cell: Cell, text: str, size: float, colour: str, at: Place = CENTRE) -> None:
        self._draw.text(self._place(cell, at), text, colour, font(size * self._width), anchor="mm")

    def agent(self, cell: Cell, number: int) -> None:
        self.disc(cell, AGENTS[number % len(AGENTS)], 0.32)
        self.text(cell, str(number), 0.36, PAPER)

    def badge(self, cell: Cell, text: str) -> None:
        self.disc(cell, INK, 0.175, at=(0.78, 0.78))
        self.disc(cell, PAPER, 0.155, at=(0.78, 0.78))
        self.text(cell, text, 0.24, INK, at=(0.78, 0.78))

    def _place(self, cell: Cell, at: Place) -> Place:
        return (cell[1] + at[0]) * self._width, (cell[0] + at[1]) * self._width

    def picture(self) -> Picture:
        return np.asarray(self._image.reduce(FINER))
