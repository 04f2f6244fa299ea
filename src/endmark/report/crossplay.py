"""What `endmark crossplay` shows in the terminal and leaves as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from endmark import __version__
from endmark.rollout import Interval
from endmark.training.matrix import HELD_OUT, TRAINING, Matrix
from endmark.training.sheets import Sheet, groups_of

WORDS = {
    "return": "return of the learner's agents",
    "return / best": "return of the learner's agents, divided by the best that any got with that partner",
    "team return": "return of all agents",
    "length": "length in steps",
}
"""What a sheet's name means; that of an outcome stands for itself."""
UNDEFINED = "-"
NAME = 14
"""Letters of a partner's name in one line of a table's head."""
MARGIN = 4
"""Columns of the console beside the learners' names."""


class Column(NamedTuple):
    """A partner, or with `partner` None the mean over its group."""

    name: str
    group: str
    partner: int | None

    def of(self, sheet: Sheet, learner: int) -> Interval | None:
        """The learner's cell in this column."""
        if self.partner is None:
            return sheet.rows[learner][self.group]
        return sheet.cells[learner][self.partner]


def columns_of(matrix: Matrix) -> list[Column]:
    """The partners seen in training, then those held out; behind each group of several its mean."""
    columns = []
    for group in (TRAINING, HELD_OUT):
        its = [Column(p.name, group, i) for i, p in enumerate(matrix.partners) if p.group == group]
        columns += its if len(its) < 2 else [*its, Column("mean", group, None)]
    return columns


def title_of(sheet: Sheet, matrix: Matrix) -> str:
    """What a sheet shows."""
    episodes = len(matrix.seeds)
    of = "one episode" if episodes == 1 else f"{episodes} episodes"
    return f"{WORDS.get(sheet.name, sheet.name)}: mean of {of} a cell, and its 95 % interval"


def number(value: float) -> str:
    """Three digits, or more before the point."""
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def mean_text(interval: Interval | None) -> str:
    """The mean, or that it is undefined."""
    return UNDEFINED if interval is None else number(interval.mean)


def bounds_text(interval: Interval | None) -> str:
    """The interval; nothing where the mean is undefined or of one episode."""
    if interval is None or interval.low == float("-inf"):
        return ""
    return f"{number(interval.low)} to {number(interval.high)}"


def notes_of(matrix: Matrix) -> list[str]:
    """What a reader of the numbers should know beside them."""
    return [f"{partner} is held out, but {learner} was trained with it" for learner, partner in matrix.seen]


def crossplay_json(matrix: Matrix, sheets: Sequence[Sheet], command: str) -> dict[str, Any]:
    """The matrix, every mean with its interval, and every episode."""
    head = {"command": command, "endmark": __version__}
    return head | {"sheets": [sheet.to_json() for sheet in sheets]} | matrix.to_json()


def crossplay_tables(matrix: Matrix, sheets: Sequence[Sheet], console: Console) -> Iterator[RenderableType]:
    """A table for each sheet, in parts where it is wider than the console; then the means over learners."""
    starred = bool(matrix.self_play.any())
    for sheet in sheets:
        for i, part in enumerate(_parts(columns_of(matrix), sheet, matrix, console.width)):
            title = title_of(sheet, matrix)
            yield Text(f"{title} (continued)" if i else title, "bold")
            yield _table(part, sheet, matrix)
    if starred:
        yield Text("* self-play: learner and partner are the same; the means leave it out")
    yield Text("means over learners, partners and episodes, all three resampled", "bold")
    yield _group_table(matrix, sheets)
    for note in notes_of(matrix):
        yield Text(f"note: {note}")


def _parts(columns: Sequence[Column], sheet: Sheet, matrix: Matrix, width: int) -> Iterator[list[Column]]:
    """The columns, as many at a time as fit beside the learners' names."""
    names = max(len("learner"), *(len(learner.name) for learner in matrix.learners))
    part: list[Column] = []
    used = names + MARGIN
    for column in columns:
        texts = [bounds_text(column.of(sheet, row)) for row in range(len(matrix.learners))]
        its = max(len(column.group), *map(len, [*_lines(column.name), *texts])) + 3
        if part and used + its > width:
            yield part
            part, used = [], names + MARGIN
        part.append(column)
        used += its
    yield part


def _table(columns: Sequence[Column], sheet: Sheet, matrix: Matrix) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    names = [_lines(column.name) for column in columns]
    height = max(map(len, names))
    table.add_column(Text("\n" * height + "learner"), overflow="fold")
    for column, name in zip(columns, names, strict=True):
        head = [column.group, *[""] * (height - len(name)), *name]
        table.add_column(Text("\n".join(head)), justify="right", no_wrap=True)
    same = matrix.self_play
    for row, learner in enumerate(matrix.learners):
        cells = []
        for column in columns:
            mark = "*" if column.partner is not None and same[row, column.partner] else ""
            cells.append(_cell(column.of(sheet, row), mark, "bold" if column.partner is None else ""))
        following = matrix.learners[row + 1 : row + 2]
        ends = bool(following) and following[0].group != learner.group
        table.add_row(Text(learner.name), *cells, end_section=ends)
    return table


def _group_table(matrix: Matrix, sheets: Sequence[Sheet]) -> Table:
    """Means over the learners of an algorithm and the partners of a group."""
    groups = groups_of(matrix)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    table.add_column("learners", overflow="fold")
    for group in groups:
        table.add_column(group, justify="right", no_wrap=True)
    for sheet in sheets:
        for i, (algorithm, means) in enumerate(sheet.groups.items()):
            n = sum(learner.group == algorithm for learner in matrix.learners)
            name = algorithm if n == 1 else f"{algorithm} ({n})"
            last = i == len(sheet.groups) - 1
            cells = [_cell(means[group]) for group in groups]
            table.add_row(Text("" if i else sheet.name), Text(name), *cells, end_section=last)
    return table


def _lines(name: str) -> list[str]:
    """A name in lines that a column is wide enough for."""
    if len(name) <= NAME:
        return [name]
    at = name.rfind("/", 0, NAME) + 1 or NAME
    return [name[:at], *_lines(name[at:])]


def _cell(interval: Interval | None, mark: str = "", style: str = "") -> Text:
    """A mean, and below it its interval."""
    bounds = bounds_text(interval)
    text = Text(f"{mean_text(interval)}{mark}", style)
    return text.append(f"\n{bounds}", "not bold dim") if bounds else text
