"""The results of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.measure import Spread

Detail = float | int | str
Unit = Literal["s", "steps/s", "bytes"]


@dataclass(frozen=True)
class Goal:
    """A bound that a ratio must meet: `at_least` or `at_most`."""

    at_least: float | None = None
    at_most: float | None = None

    def met(self, ratio: float) -> bool:
        """Whether this ratio meets the bound."""
        return (self.at_least is None or ratio >= self.at_least) and (
            self.at_most is None or ratio <= self.at_most
        )

    def __str__(self) -> str:
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    endmark, baseline, torchrl: the measurements, in `unit`.
    ratio: defined by the section (`Section.ratio`).
    details: further numbers, such as the number of steps in the batch.
    """

    section: str
    what: str
    unit: Unit
    endmark: Spread
    baseline: Spread | None = None
    ratio: Spread | None = None
    goal: Goal | None = None
    torchrl: Spread | None = None
    device: str = "cpu"
    details: Mapping[str, Detail] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        return None if self.goal is None or self.ratio is None else self.goal.met(self.ratio.median)


@dataclass(frozen=True)
class Floor:
    """The machine's own speed, measured in the same run.

    gemm: floating-point operations a second of torch's product of large square float32 matrices.
    gemm_own: the same of torch's products with the shapes of an update.
    copy: bytes read and written a second by a large copy.
    """

    gemm: Spread
    gemm_own: Spread
    copy: Spread


@dataclass(frozen=True)
class Results:
    """All results. `to_json` is the content of the `--json` file."""

    environment: Mapping[str, str | int]
    floors: Mapping[str, Floor]
    rows: list[Row]

    def of(self, section: str) -> list[Row]:
        """The rows of one section."""
        return [row for row in self.rows if row.section == section]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and lists; times in seconds."""
        rows = [asdict(row) | {"reached": row.reached} for row in self.rows]
        for row in rows:
            goal = row.pop("goal")
            row["goal"] = None if goal is None else {k: v for k, v in goal.items() if v is not None}
        floors = {device: asdict(floor) for device, floor in self.floors.items()}
        return {"environment": dict(self.environment), "floors": floors, "rows": rows}
