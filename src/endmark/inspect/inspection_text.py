"""The output of `endmark inspect`."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from endmark.episodes.masks import REASONS, Reason
from endmark.episodes.padded import RULES, Rule
from endmark.inspect.actions import WrongActions
from endmark.inspect.explain import ranges
from endmark.inspect.inspection import Inspection, NonFinite
from endmark.inspect.source import Source

SHOWN = 4  # places shown for each finding
BINS, BAR = 8, 32
EIGHTHS = " ▏▎▍▌▋▊▉█"


def inspection_table(source: Source, inspection: Inspection, *, ascii_only: bool = False) -> Table:
    """The inspection as a table without borders, one topic a row.

    ascii_only: draw the histogram with `#`, for terminals that have no block characters.
    """
    i = inspection
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("source", _plain(f"{source.name} ({source.kind})"))
    table.add_row("flags", _plain(f"({i.n_rows}, {i.n_columns}, 1): B = {i.n_rows}, T = {i.n_columns - 1}"))
    empty = f"; {_count(i.empty, 'row')} without one" if i.empty else ""
    table.add_row("episodes", _plain(f"{i.n_rows - i.empty}{empty}"))
    low, median, high = i.length_min_median_max
    table.add_row("steps", _plain(f"{i.steps}; an episode: min {low}, median {median:g}, max {high}"))
    if high:
        table.add_row("", histogram(i.lengths, ascii_only=ascii_only))
    table.add_row("ended", _plain(f"{i.terminated} terminated, {i.truncated} truncated"))
    if i.outcomes:
        means = ", ".join(f"{name} {mean:.3f}" for name, mean in i.outcomes.items())
        table.add_row("outcomes", _plain(f"{means}: means over the episodes"))
    table.add_row("padding", _plain(_padding(source, i)))
    table.add_row("masks", _masks(i))
    table.add_row("faults", _faults(i))
    table.add_row("not finite", _nonfinite(i.nonfinite))
    if i.actions is not None:
        table.add_row("actions", _actions(i.actions))
    table.add_row("verdict", _verdict(i))
    return table


def histogram(lengths: Iterable[int], *, ascii_only: bool = False) -> Text:
    """A histogram of episode lengths: a bar for each range. Rows without a step are left out."""
    found = sorted(length for length in lengths if length > 0)
    low, high = found[0], found[-1]
    width = -(-(high - low + 1) // BINS)  # steps in a bin, so that at most `BINS` bins cover all
    starts = range(low, high + 1, width)
    counts = [sum(start <= length < start + width for length in found) for start in starts]
    names = [_bin_name(start, min(start + width - 1, high)) for start in starts]
    text = Text()
    for name, count in zip(names, counts, strict=True):
        text.append(f"{name:>{max(map(len, names))}} ", style="dim")
        text.append(_bar(count / max(counts), ascii_only=ascii_only), style="cyan")
        text.append(f" {count}\n")
    text.rstrip()
    return text


def _bin_name(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _bar(share: float, *, ascii_only: bool) -> str:
    """A bar of up to `BAR` characters; at least the smallest mark for a share above zero."""
    if ascii_only:
        return "#" * max(round(share * BAR), share > 0)
    eighths = max(round(share * BAR * 8), int(share > 0))
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def _padding(source: Source, i: Inspection) -> str:
    words = f"{i.padding_share:.1%} of cells, {_bytes(i.padding_bytes)} of {_bytes(i.total_bytes)}"
    if source.kind == "padded batch":
        return words
    return f"none is stored; padded to the longest episode it would be {words}"


def _masks(i: Inspection) -> Text:
    if not i.differences:
        return Text("the shift mask and the exact one agree on every step", style="green")
    n_rows = len({difference.row for difference in i.differences})
    steps, rows = _count(len(i.differences), "step"), _count(n_rows, "row")
    text = Text(f"the shift mask counts {steps} too many, in {rows}")
    times: dict[Reason, dict[int, list[int]]] = {}
    for difference in i.differences:
        times.setdefault(difference.reason, {}).setdefault(difference.row, []).append(difference.t)
    for reason, at in times.items():
        text.append(f"\n{reason} {i.reason_counts[reason]}", style="bold red")
        text.append(f": {REASONS[reason]}")
        text.append("\n" + _first([f"row {row} step {ranges(t)}" for row, t in at.items()]), style="dim")
    return text


def _faults(i: Inspection) -> Text:
    if not i.faults:
        return Text("none: every row is one episode", style="green")
    text = Text(f"{_count(len(i.faults), 'row')} that EpisodeBatch.from_padded refuses")
    rules: dict[Rule, list[str]] = {}
    for fault in i.faults:
        rules.setdefault(fault.rule, []).append(f"row {fault.row} t {fault.t}")
    for rule, places in rules.items():
        text.append(f"\n{rule} {len(places)}", style="bold red")
        text.append(f": {RULES[rule]}")
        text.append("\n" + _first(places), style="dim")
    return text


def _nonfinite(found: list[NonFinite]) -> Text:
    if not found:
        return Text("none: no NaN, no infinity in any field", style="green")
    lines = Text()
    for field in found:
        row, t = field.first
        lines.append(f"{field.field}: ", style="bold")
        lines.append(f"{field.real} on real frames", style="bold red" if field.real else "green")
        lines.append(f", {field.elsewhere} elsewhere; first at row {row}, t {t}\n")
    lines.append("counted in cells (row, t); reward and actions are real on steps only", style="dim")
    return lines


def _actions(found: WrongActions) -> Text:
    below = "" if found.n_actions is None else f" < {found.n_actions}"
    lines = Text()
    for first, words in [
        (found.first_outside, f"{found.outside} on real steps are none: want 0 <= action{below}"),
        (found.first_illegal, f"{found.illegal} on real steps were not legal by avail_actions"),
    ]:
        if first is not None:
            row, t, agent, given = first
            lines.append(f"{words}\n", style="bold red" if first == found.first_outside else "yellow")
            lines.append(f"first at row {row}, t {t}, agent {agent}: {given}\n", style="dim")
    lines.rstrip()
    return lines


def _verdict(i: Inspection) -> Text:
    reasons = []
    if i.faults:
        reasons.append("rows that are not one episode")
    if any(field.real for field in i.nonfinite):
        reasons.append("NaN or infinity on real steps")
    if i.actions is not None and i.actions.outside:
        reasons.append("actions that do not exist")
    if reasons:
        return Text(f"broken: {' and '.join(reasons)}", style="bold red")
    if i.actions is not None:
        return Text("sound, but for actions that were not legal", style="bold yellow")
    if i.differences:
        return Text("sound, but the three lines are wrong on this batch; use step_mask", style="bold yellow")
    return Text("sound", style="bold green")


def _first(places: list[str]) -> str:
    more = f"; and {_count(len(places) - SHOWN, 'row')} more" if len(places) > SHOWN else ""
    return "; ".join(places[:SHOWN]) + more


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _plain(words: str) -> Text:
    """Text without markup: a file's name may contain rich's markup characters."""
    return Text(words)
