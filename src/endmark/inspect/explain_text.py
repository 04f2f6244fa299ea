"""The output of `endmark explain`."""

from __future__ import annotations

import textwrap

from rich.text import Text

from endmark.episodes.masks import REASONS, Difference, Reason
from endmark.inspect.explain import Explanation, Values, ranges

LABEL = 26  # width of the labels left of the values, in characters
NARROWEST, WIDEST = 60, 100


def explanation_text(explanation: Explanation, width: int = 80) -> Text:
    """The explanation as text. `width` characters wide, clamped to 60..100.

    Colour only repeats what the characters say: `^` marks the steps on which the masks differ.
    """
    width = max(NARROWEST, min(width, WIDEST))
    text = Text()
    text.append(f"{explanation.title}\n\n", style="bold")
    _blocks(text, explanation.inputs, set(), width)
    for number, line in enumerate(explanation.lines, 1):
        text.append(f"\n{number}  {line.code}\n", style="bold cyan")
        _prose(text, line.words, width, indent="   ")
        _blocks(text, line.tensors, set(), width)
    text.append("\n=  both masks, (B, T, 1)\n", style="bold cyan")
    marked = {difference.t for difference in explanation.differences}
    _blocks(text, [explanation.shift, explanation.exact], marked, width)
    text.append("\n")
    if not explanation.differences:
        text.append("The two masks agree on this row.\n", style="green")
    for reason, times in _by_reason(explanation.differences).items():
        steps = "step" if len(times) == 1 else "steps"
        _prose(text, f"{steps} {ranges(times)}, {reason}: {REASONS[reason]}", width, style="red")
    for note in explanation.notes:
        _prose(text, f"note: {note}", width, style="yellow")
    text.rstrip()
    return text


def _by_reason(differences: list[Difference]) -> dict[Reason, list[int]]:
    times: dict[Reason, list[int]] = {}
    for difference in differences:
        times.setdefault(difference.reason, []).append(difference.t)
    return times


def _prose(text: Text, words: str, width: int, *, indent: str = "", style: str = "") -> None:
    lines = textwrap.wrap(
        words,
        width,
        initial_indent=indent,
        subsequent_indent=indent or "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    text.append("\n".join(lines) + "\n", style=style)


def _blocks(text: Text, rows: list[Values], marked: set[int], width: int) -> None:
    """Append the values under their column numbers, with `^` under marked columns.

    Columns are split into blocks that fit into the width.
    """
    n_columns = max(values.first_column + len(values.values) for values in rows)
    shape_width = max(len(str(values.shape)) for values in rows) + 2
    per_block = max(10, (width - LABEL - shape_width) // 10 * 10)
    for start in range(0, n_columns, per_block):
        columns = range(start, min(start + per_block, n_columns))
        text.append("t".rjust(LABEL - 2) + f"  {_ruler(columns)}\n", style="dim")
        for values in rows:
            text.append(f"   {values.name}".ljust(LABEL))
            for t in columns:
                _cell(text, values, t, marked=t in marked)
            text.append("\n" if start else f"  {values.shape}\n", style="dim")
        if marked & set(columns):
            marks = "".join("^" if t in marked else " " for t in columns)
            text.append(" " * LABEL + marks.rstrip() + "\n", style="bold red")


def _cell(text: Text, values: Values, t: int, *, marked: bool) -> None:
    i = t - values.first_column
    if not 0 <= i < len(values.values):
        text.append(" ")
        return
    style = "bold red" if marked else "bold" if values.values[i] else "dim"
    text.append(str(values.values[i]), style=style)


def _ruler(columns: range) -> str:
    """The number of every column if there are at most ten, else of every tenth column."""
    if columns.stop <= 10:
        return "".join(map(str, columns))
    return "".join(str(t).ljust(10) for t in columns if t % 10 == 0).rstrip()
