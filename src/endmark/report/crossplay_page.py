"""A cross-play matrix as a self-contained HTML page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from endmark.report.crossplay import (
    Column,
    bounds_text,
    columns_of,
    mean_text,
    notes_of,
    title_of,
)
from endmark.report.pages import asset, made_page
from endmark.rollout import Interval
from endmark.training.matrix import Matrix, Player
from endmark.training.sheets import Sheet, groups_of

LEVELS = 20
"""Of heat: classes h0 to h20 of the page's style."""
_e = html.escape


def crossplay_page(matrix: Matrix, sheets: Sequence[Sheet], command: str) -> str:
    """The page as text: a table for each sheet, the means over learners, and who they are. ASCII.

    Each mean carries its numbers in full as `data-mean`, `data-low` and `data-high`.
    command: the one that made it. Names are untrusted, and reach the page as text only.
    """
    game = " ".join([matrix.env, *matrix.env_arg])
    limit = "" if matrix.episode_limit is None else f", cut after {matrix.episode_limit} steps"
    facts = (
        f"{len(matrix.learners)} learners, {len(matrix.partners)} partners, {len(matrix.seeds)} episodes "
        f"of each pair from the same seeds, played greedily{limit}."
    )
    notes = "".join(f"<p>{_e(note)}.</p>" for note in notes_of(matrix))
    parts = {
        "heading": _e(game),
        "facts": _e(facts),
        "notes": notes,
        "sheets": "".join(_section(matrix, sheet) for sheet in sheets),
        "groups": _groups(matrix, sheets),
        "players": _players("learner", matrix.learners) + _players("partner", matrix.partners),
        "command": _e(command),
    }
    mixed = "color-mix(in srgb, var(--accent) calc(var(--most) * {}), var(--paper))"
    levels = "\n".join(f".h{i} {{ background: {mixed.format(i / LEVELS)}; }}" for i in range(LEVELS + 1))
    return made_page(
        asset("crossplay.html"),
        title=f"cross-play on {game} - endmark",
        style=f"{asset('crossplay.css')}\n{levels}\n",
        script=asset("theme.js"),
        parts=parts,
    )


def _section(matrix: Matrix, sheet: Sheet) -> str:
    columns = columns_of(matrix)
    groups = list(dict.fromkeys(column.group for column in columns))
    spans = {group: sum(column.group == group for column in columns) for group in groups}
    head = "".join(
        f'<th class="first" colspan="{spans[group]}" scope="colgroup">{group}</th>' for group in groups
    )
    names = "".join(
        f'<th scope="col" class="{_place(columns, i)}">{_e(column.name)}</th>'
        for i, column in enumerate(columns)
    )
    means = [cell.mean for row in sheet.cells for cell in row if cell is not None]
    low, high = (min(means), max(means)) if means else (0.0, 0.0)
    rows = []
    for row, learner in enumerate(matrix.learners):
        cells = [
            _cell(matrix, sheet, row, column, _place(columns, i), (low, high))
            for i, column in enumerate(columns)
        ]
        new = row > 0 and learner.group != matrix.learners[row - 1].group
        start = f'<tr class="{"new" if new else "same"}"><th scope="row">{_e(learner.name)}</th>'
        rows.append(f"{start}{''.join(cells)}</tr>")
    return (
        f'<section data-sheet="{_e(sheet.name)}"><h2>{_e(sheet.name)}</h2>'
        f'<p class="hint">{_e(title_of(sheet, matrix))}.</p><div class="wide"><table><thead>'
        f'<tr><td></td>{head}</tr><tr><th scope="col">learner</th>{names}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _place(columns: Sequence[Column], i: int) -> str:
    first = i == 0 or columns[i - 1].group != columns[i].group
    return " ".join(["first"] * first + ["mean"] * (columns[i].partner is None))


def _cell(
    matrix: Matrix, sheet: Sheet, row: int, column: Column, place: str, scale: tuple[float, float]
) -> str:
    interval = column.of(sheet, row)
    same = column.partner is not None and bool(matrix.self_play[row, column.partner])
    classes = f"{place} {_heat(interval, scale)}{' self' if same else ''}".strip()
    who = f"{matrix.learners[row].name} with {column.name}, {column.group}{', self-play' if same else ''}"
    said = _e(_said(who, sheet, interval, matrix))
    return f'<td class="{classes}" title="{said}"{_data(interval)}>{_text(interval)}</td>'


def _said(who: str, sheet: Sheet, interval: Interval | None, matrix: Matrix) -> str:
    if interval is None:
        return f"{who}: {sheet.name} undefined"
    known = math.isfinite(interval.low)
    bounds = f", 95 % interval {interval.low:.4g} to {interval.high:.4g}" if known else ""
    return f"{who}: {sheet.name} {interval.mean:.4g}{bounds}, {len(matrix.seeds)} episodes"


def _heat(interval: Interval | None, scale: tuple[float, float]) -> str:
    """The class of its colour: from the lowest cell of the sheet to the highest."""
    if interval is None:
        return "undefined"
    low, high = scale
    share = 0.0 if high == low else (interval.mean - low) / (high - low)
    return f"h{round(LEVELS * min(max(share, 0.0), 1.0))}"


def _data(interval: Interval | None) -> str:
    """The numbers in full."""
    if interval is None:
        return ""
    known = {name: value for name, value in interval._asdict().items() if math.isfinite(value)}
    return "".join(f' data-{name}="{value!r}"' for name, value in known.items())


def _text(interval: Interval | None) -> str:
    return f"<b>{mean_text(interval)}</b><span>{bounds_text(interval)}</span>"


def _groups(matrix: Matrix, sheets: Sequence[Sheet]) -> str:
    groups = groups_of(matrix)
    head = "".join(f'<th scope="col">{group}</th>' for group in groups)
    rows = []
    for sheet in sheets:
        for i, (learners, means) in enumerate(sheet.groups.items()):
            n = sum(learner.group == learners for learner in matrix.learners)
            cells = "".join(f"<td{_data(means[group])}>{_text(means[group])}</td>" for group in groups)
            name = "" if i else _e(sheet.name)
            new = "new" if i == 0 else "same"
            rows.append(f'<tr class="{new}"><th scope="row">{name}</th><td class="name">{_e(learners)}</td>')
            rows.append(f'<td class="count">{n}</td>{cells}</tr>')
    return (
        '<div class="wide"><table id="groups"><thead><tr><td></td><th scope="col">algorithm</th>'
        f'<th scope="col">learners</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _players(role: str, players: Sequence[Player]) -> str:
    rows = []
    for player in players:
        seats = "" if player.seats is None else _seats(player)
        rows.append(
            f"<tr><td>{role}</td><td>{_e(player.name)}</td><td>{_e(player.group)}{seats}</td>"
            f"<td><code>{_e(player.source)}</code></td></tr>"
        )
    return "".join(rows)


def _seats(player: Player) -> str:
    agents = "any" if player.agents is None else " ".join(map(str, player.agents))
    return f", {player.seats} of its agents ({agents})"
