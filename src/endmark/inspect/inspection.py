"""Inspection of a padded batch: lengths, ends, padding, masks, faulty flags, NaN and infinity."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from endmark.episodes.masks import REASONS, Difference, MaskExplanation, explain_mask
from endmark.episodes.padded import RULES, Fault, find_faults
from endmark.inspect.actions import WrongActions, find_wrong_actions
from endmark.inspect.source import Source

VALUES_UP_TO = 100_000
"""A page with more rewards and actions would be too large: it holds those of the first rows, and says so."""


@dataclass(frozen=True)
class NonFinite:
    """The cells (row, column) of one field that hold NaN or infinity; a cell counts once.

    real: how many are on real frames, or on real steps for a step field. elsewhere: how many are not.
    first: (row, t) of the first one on a real frame or step, else of the first one elsewhere.
    """

    field: str
    real: int
    elsewhere: int
    first: tuple[int, int]


@dataclass(frozen=True)
class Inspection:
    """The findings on a padded batch of B rows and T+1 columns.

    lengths: [B] the number of real steps of each row, which `EpisodeBatch.from_padded` keeps; 0 if the row
        holds no episode. Usually the steps of the exact mask. But if the row goes on after a step marked
        `truncated`, they end before that step: the next frame may belong to another episode.
    ends: [B] how each row's episode ended, "terminated", "truncated" or "empty".
    padding_share: the share of the B x (T+1) cells that hold no frame of the row's episode.
    padding_bytes, total_bytes: bytes of these cells and of all cells, over all fields and flags.
    explanation: both masks of `filled` and `terminated`.
    actions: what is wrong with the actions of real steps; None if nothing is, or none are stored.
    outcomes: the mean of each outcome, such as `win`, over the rows that hold an episode.
    """

    n_rows: int
    n_columns: int
    lengths: list[int]
    ends: list[str]
    padding_share: float
    padding_bytes: int
    total_bytes: int
    explanation: MaskExplanation
    faults: list[Fault]
    nonfinite: list[NonFinite]
    actions: WrongActions | None
    outcomes: Mapping[str, float]

    @property
    def terminated(self) -> int:
        """Rows whose episode terminated."""
        return self.ends.count("terminated")

    @property
    def truncated(self) -> int:
        """Rows whose episode was cut off."""
        return self.ends.count("truncated")

    @property
    def empty(self) -> int:
        """Rows that hold no episode."""
        return self.ends.count("empty")

    @property
    def steps(self) -> int:
        """Real steps of all rows."""
        return sum(self.lengths)

    @property
    def length_min_median_max(self) -> tuple[int, float, int]:
        """Minimum, median and maximum over the rows that hold an episode; zeros if there is none."""
        lengths = [length for length in self.lengths if length > 0] or [0]
        return min(lengths), float(statistics.median(lengths)), max(lengths)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The steps on which shift mask and exact mask disagree."""
        return self.explanation.differences

    @property
    def reason_counts(self) -> dict[str, int]:
        """The number of differences for each reason."""
        return dict(Counter(difference.reason for difference in self.differences))

    @property
    def broken(self) -> bool:
        """Whether a real frame or step is not finite, or `EpisodeBatch.from_padded` refuses flags or actions.

        A row on which only the shift mask is wrong, such as an early truncation, is not broken. Nor is a row
        with actions that were not legal, which some environments take.
        """
        outside = self.actions is not None and self.actions.outside > 0
        return bool(self.faults) or outside or any(found.real for found in self.nonfinite)

    def summary(self) -> dict[str, Any]:
        """The counts as plain values for JSON."""
        low, median, high = self.length_min_median_max
        return {
            "rows": self.n_rows,
            "columns": self.n_columns,
            "steps": self.steps,
            "terminated": self.terminated,
            "truncated": self.truncated,
            "empty": self.empty,
            "length_min": low,
            "length_median": median,
            "length_max": high,
            "padding_share": self.padding_share,
            "padding_bytes": self.padding_bytes,
            "total_bytes": self.total_bytes,
            "differences": self.reason_counts,
            "nonfinite": [vars(found) | {"first": list(found.first)} for found in self.nonfinite],
            "actions": None if self.actions is None else vars(self.actions),
            "faults": len(self.faults),
            "outcomes": dict(self.outcomes),
        }

    def to_json(self) -> dict[str, Any]:
        """The summary with every length, difference and fault, as plain values for JSON."""
        return self.summary() | {
            "broken": self.broken,
            "lengths": self.lengths,
            "ends": self.ends,
            "differences_at": [vars(difference) for difference in self.differences],
            "faults_at": [vars(fault) for fault in self.faults],
            "reasons": dict(REASONS),
            "rules": dict(RULES),
        }


def inspect(source: Source) -> Inspection:
    """Inspect a batch."""
    tensors = source.tensors
    filled, terminated, truncated = tensors["filled"], tensors["terminated"], tensors.get("truncated")
    explanation = explain_mask(filled, terminated)
    faults = find_faults(filled, terminated, truncated)
    lengths = explanation.exact.sum(1)
    for fault in faults:
        lengths[fault.row] = fault.kept
    frames, steps = _real_cells(explanation.filled, lengths)
    n_rows, n_columns = frames.shape
    padding = int((~frames).sum())
    cell_bytes = sum(tensor[0, 0].numel() * tensor.element_size() for tensor in tensors.values())
    nonfinite = [
        found
        for name, tensor in tensors.items()
        if (found := _find_nonfinite(name, tensor, steps if name in source.step_fields else frames))
    ]
    return Inspection(
        n_rows=n_rows,
        n_columns=n_columns,
        lengths=lengths.tolist(),
        ends=_ends(explanation.terminated, lengths),
        padding_share=padding / (n_rows * n_columns),
        padding_bytes=padding * cell_bytes,
        total_bytes=n_rows * n_columns * cell_bytes,
        explanation=explanation,
        faults=faults,
        nonfinite=nonfinite,
        actions=find_wrong_actions(source, steps),
        outcomes=_outcomes(source, lengths),
    )


def page_data(source: Source, inspection: Inspection) -> dict[str, Any]:
    """The content of the HTML page, as plain values for JSON.

    `rows` holds each row's flags as strings of 0 and 1, one character a column. `values` holds rewards and
    actions of real steps and None elsewhere, for the first rows, as many as `VALUES_UP_TO` allows.
    """
    faults = {fault.row: {"t": fault.t, "rule": fault.rule} for fault in inspection.faults}
    truncated = source.tensors.get("truncated")
    cuts = [None] * inspection.n_rows if truncated is None else _bits(truncated[..., 0] != 0)
    explanation = inspection.explanation
    rows = [
        {
            "filled": filled,
            "terminated": terminated,
            "truncated": cut,
            "length": inspection.lengths[row],
            "end": inspection.ends[row],
            "fault": faults.get(row),
        }
        for row, (filled, terminated, cut) in enumerate(
            zip(_bits(explanation.filled), _bits(explanation.terminated), cuts, strict=True)
        )
    ]
    return {
        "source": source.name,
        "kind": source.kind,
        "columns": inspection.n_columns,
        "truncated": inspection.truncated,
        "rows": rows,
        "reasons": dict(REASONS),
        "rules": dict(RULES),
        "summary": inspection.summary(),
        "values": _values(source, inspection.lengths),
    }


def _real_cells(
    filled: Bool[Tensor, "B T_plus_1"], lengths: Tensor
) -> tuple[Bool[Tensor, "B T_plus_1"], Bool[Tensor, "B T_plus_1"]]:
    """Which cells hold a frame of the row's episode, and which a step of it."""
    column, length = torch.arange(filled.shape[1]), lengths[:, None]
    return filled & (column <= length) & (length > 0), column < length


def _outcomes(source: Source, lengths: Tensor) -> dict[str, float]:
    """The mean of each outcome over the rows that hold an episode."""
    rows = lengths.nonzero()[:, 0]
    last = rows, lengths[rows] - 1
    return {name: float(source.tensors[name][last].double().mean()) for name in source.outcomes}


def _ends(terminated: Bool[Tensor, "B T_plus_1"], lengths: Tensor) -> list[str]:
    ended = terminated.gather(1, (lengths - 1).clamp(min=0)[:, None])[:, 0]
    return [
        "empty" if length == 0 else "terminated" if end else "truncated"
        for length, end in zip(lengths.tolist(), ended.tolist(), strict=True)
    ]


def _find_nonfinite(name: str, tensor: Tensor, real: Bool[Tensor, "B T_plus_1"]) -> NonFinite | None:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    if tensor.is_floating_point() and tensor.element_size() == 1:
        tensor = tensor.float()  # torch has no isfinite for 8-bit floats
    wrong = ~tensor.isfinite().flatten(2).all(2) if tensor.ndim > 2 else ~tensor.isfinite()
    if not wrong.any():
        return None
    on_real, elsewhere = wrong & real, wrong & ~real
    row, t = (on_real if on_real.any() else elsewhere).nonzero()[0].tolist()
    return NonFinite(name, int(on_real.sum()), int(elsewhere.sum()), (row, t))


def _values(source: Source, lengths: list[int]) -> dict[str, list[list[Any]]]:
    """Reward and actions of the first rows, at each column; None where there is no step or nothing is stored.

    As many rows as `VALUES_UP_TO` numbers allow, and at least one.
    """
    stored = {name: source.tensors.get(name) for name in ("reward", "actions")}
    n_columns = source.tensors["filled"].shape[1]
    a_row = n_columns + sum(tensor[0].numel() for tensor in stored.values() if tensor is not None)
    n_rows = min(len(lengths), max(1, VALUES_UP_TO // a_row))
    values: dict[str, list[list[Any]]] = {}
    for name, tensor in stored.items():
        if tensor is None:
            values[name] = [[None] * n_columns] * n_rows
            continue
        table = tensor[:n_rows].reshape(n_rows, n_columns, -1).tolist()
        values[name] = [
            [_value(name, cell) if t < length else None for t, cell in enumerate(row)]
            for row, length in zip(table, lengths[:n_rows], strict=True)
        ]
    return values


def _value(name: str, numbers: list[Any]) -> int | float | str:
    """A finite shared reward as a number; any other cell as text, its numbers separated by spaces."""
    if name == "reward" and len(numbers) == 1 and isinstance(numbers[0], int | float):
        rounded = float(f"{numbers[0]:.4g}")
        if math.isfinite(rounded):
            return int(rounded) if rounded.is_integer() else rounded
    return " ".join(str(int(x)) if isinstance(x, int) else f"{x:.4g}" for x in numbers)


def _bits(flags: Bool[Tensor, "B T_plus_1"]) -> list[str]:
    """Each row as a string of 0 and 1."""
    return ["".join("1" if bit else "0" for bit in row) for row in flags.tolist()]
