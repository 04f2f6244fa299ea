"""The results as tables, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchmarks.line import fit, points
from benchmarks.measure import Spread
from benchmarks.results import Results, Row
from benchmarks.run import SECTIONS


@dataclass(frozen=True)
class Sheet:
    """One table as text: words in the first column, numbers in the others. note: defines the ratio."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def terminal(results: Results) -> Group:
    """All tables, for printing with rich."""
    parts: list[Table | Text] = [Text(line) for line in machine_lines(results)]
    for sheet in sheets(results):
        title = Text(sheet.title, "bold").append(f"  {sheet.note}" if sheet.note else "", "not bold dim")
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
        for i, name in enumerate(sheet.header):
            table.add_column(name, justify="right" if i else "left", no_wrap=i > 0, min_width=0 if i else 20)
        for row in sheet.rows:
            table.add_row(*[Text(cell, _style(cell)) for cell in row])
        parts.append(table)
    return Group(*parts)


def markdown(results: Results) -> str:
    """All tables as Markdown."""
    blocks = ["\n".join(f"- {line}" for line in machine_lines(results))]
    for sheet in sheets(results):
        ruler = ["---"] + ["---:"] * (len(sheet.header) - 1)
        lines = ["| " + " | ".join(cells) + " |" for cells in (sheet.header, ruler, *sheet.rows)]
        note = f" ({sheet.note})" if sheet.note else ""
        blocks.append(f"**{sheet.title}**{note}\n\n" + "\n".join(lines))
    return "\n\n".join(blocks)


def machine_lines(results: Results) -> list[str]:
    """The machine and the versions, in two lines."""
    at = results.environment
    threads = f"{at['threads']} thread{'s' if at['threads'] != 1 else ''}"
    return [
        f"{at['cpu']}, {at['cores']} cores; torch {at['torch']} with {threads}, Python {at['python']}; "
        f"kernels: {at['kernels']}",
        f"GPU: {at['gpu']}; TorchRL: {at['torchrl']}",
    ]


def sheets(results: Results) -> Iterator[Sheet]:
    """A table for each section, and one on the machine's own speed."""
    for name, section in SECTIONS.items():
        if rows := results.of(name):
            torchrl, goals = any(row.torchrl for row in rows), any(row.goal for row in rows)
            header = ["", "endmark", "baseline", *(["TorchRL"] if torchrl else []), "ratio", "quartiles"]
            header += ["must reach"] if goals else []
            cells = [_cells(row, torchrl, goals) for row in rows]
            note = f"ratio: {section.ratio}"
            if name == "steps":
                line = fit(points(rows, "endmark"))
                note += f"; endmark on one line: {line}, R² = {line.r2:.3f}"
            yield Sheet(section.title, note, tuple(header), cells)
    if results.floors:
        title = "Against torch's own products and copies, measured in the same run"
        yield Sheet(title, "", ("", "a second", "share of torch's"), list(_floor(results)))


def amount(spread: Spread | None, unit: str) -> str:
    """The median with its unit, to three digits."""
    if spread is None:
        return "-"
    value = spread.median
    if unit == "steps/s":
        return f"{value:,.0f} steps/s"
    if unit == "bytes":
        return f"{value / 1e3:,.0f} kB" if value >= 1e4 else f"{value:,.0f} B"
    scale, name = next(
        (pair for pair in ((1.0, "s"), (1e3, "ms")) if value * pair[0] >= 1),
        (1e6, "µs"),
    )
    digits = max(0, 3 - len(str(int(value * scale))))
    return f"{value * scale:.{digits}f} {name}"


def _cells(row: Row, torchrl: bool, goals: bool) -> tuple[str, ...]:
    what = row.what + ("" if row.device == "cpu" else f", {row.device}")
    cells = [what, amount(row.endmark, row.unit), amount(row.baseline, row.unit)]
    if torchrl:
        cells.append(amount(row.torchrl, row.unit))
    ratio = row.ratio
    cells.append("-" if ratio is None else f"{ratio.median:.2f}")
    cells.append("-" if ratio is None or ratio.n == 1 else f"{ratio.low:.2f}..{ratio.high:.2f}")
    if goals:
        cells.append("" if row.goal is None else f"{row.goal} {'yes' if row.reached else 'no'}")
    return tuple(cells)


def _floor(results: Results) -> Iterator[tuple[str, ...]]:
    for device, floor in results.floors.items():
        where = "" if device == "cpu" else f", {device}"
        gemm = floor.gemm.median
        yield f"torch.mm, large{where}", _flops(gemm), _percent(1.0)
        own = floor.gemm_own.median
        yield f"torch.mm, an update's shapes{where}", _flops(own), _percent(own / gemm)
        for row in (*results.of("update"), *results.of("mappo")):
            for who in ("endmark", "baseline") if row.device == device else ():
                speed = float(row.details[f"{who}_flops_per_second"])
                what = row.what if row.section == "update" else f"{row.section}, {row.what}"
                yield f"{who}, {what}{where}", _flops(speed), _percent(speed / gemm)
        yield f"copy_, large{where}", _bytes(floor.copy.median), _percent(1.0)
        for row in results.of("replay"):
            if device == "cpu" and "bytes_per_second" in row.details:
                speed = float(row.details["bytes_per_second"])
                yield f"endmark, {row.what}", _bytes(speed), _percent(speed / floor.copy.median)


def _flops(value: float) -> str:
    return f"{value / 1e9:,.1f} GFLOP"


def _bytes(value: float) -> str:
    return f"{value / 1e9:,.1f} GB"


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"


def _style(cell: str) -> str:
    return "green" if cell.endswith(" yes") else "red" if cell.endswith(" no") else ""
