"""The usual three mask lines, run one by one on one row of a padded batch, next to the exact mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from endmark.episodes.masks import REASONS, Difference, explain_mask
from endmark.episodes.padded import RULES, Fault, find_faults
from endmark.inspect.source import Source, read

THREE_LINES = (
    'terminated = batch["terminated"][:, :-1].float()',
    'mask = batch["filled"][:, :-1].float()',
    "mask[:, 1:] = mask[:, 1:] * (1 - terminated[:, :-1])",
)
AS_BITS = torch.uint8  # stands for flags given as text, whose dtype is unknown


@dataclass(frozen=True)
class Values:
    """One tensor of the computation, restricted to the explained row.

    name: its expression in the code. shape: the shape of the whole tensor. values: 0 or 1 for each column,
    from column `first_column` of the batch on.
    """

    name: str
    shape: tuple[int, int, int]
    values: list[int]
    first_column: int = 0


@dataclass(frozen=True)
class Line:
    """One of the three lines: its code, its effect in words, and the tensors involved."""

    code: str
    words: str
    tensors: list[Values]


@dataclass(frozen=True)
class Explanation:
    """The three lines and the exact mask, computed on one row of padded flags (B, T+1, 1).

    title: names the row. inputs: `filled` and `terminated`. shift, exact: both masks, (B, T, 1).
    differences: the steps on which the masks disagree. notes: further remarks, each a sentence or two.
    """

    title: str
    inputs: list[Values]
    lines: list[Line]
    shift: Values
    exact: Values
    differences: list[Difference]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values for JSON."""
        return {
            "title": self.title,
            "inputs": [vars(values) for values in self.inputs],
            "lines": [
                {"code": line.code, "words": line.words, "tensors": [vars(values) for values in line.tensors]}
                for line in self.lines
            ],
            "shift_mask": vars(self.shift),
            "exact_mask": vars(self.exact),
            "differences": [
                {"t": found.t, "reason": found.reason, "words": REASONS[found.reason]}
                for found in self.differences
            ],
            "notes": self.notes,
        }


def explain(filled: str | None, terminated: str | None, file: Path | None, episode: int) -> Explanation:
    """Explain flags given as text, or one row of a file. ValueError for both or neither."""
    if file is not None:
        if filled is not None or terminated is not None:
            raise ValueError("given --file and flags; want either")
        return explain_row(read(file), episode)
    if filled is None or terminated is None:
        raise ValueError("want --filled and --terminated, such as 1111100 and 0001000, or --file")
    return explain_bits(filled, terminated)


def explain_bits(filled: str, terminated: str) -> Explanation:
    """Explain one row given as strings like "1111100" and "0001000", one character a column.

    ValueError, with a message of one line, unless they are the flags of one row with at least one step.
    """
    flags = {"filled": filled, "terminated": terminated}
    for name, bits in flags.items():
        if not bits:
            raise ValueError(f"{name}: given nothing, want 0s and 1s, one a frame, such as 1111100")
        if wrong := [(t, bit) for t, bit in enumerate(bits) if bit not in "01"]:
            raise ValueError(f"{name}: given '{wrong[0][1]}' at t {wrong[0][0]}, want only 0 and 1")
    if len(filled) != len(terminated):
        raise ValueError(
            f"filled has {len(filled)} columns, terminated {len(terminated)}; want as many, one a frame"
        )
    if len(filled) == 1:
        raise ValueError("filled: given one frame and so no step, want at least two columns")
    columns = [torch.tensor([[[int(bit)] for bit in bits]], dtype=AS_BITS) for bits in flags.values()]
    return _explain(f"one row, B = 1, T+1 = {len(filled)}", 1, *columns, truncated=None)


def explain_row(source: Source, row: int) -> Explanation:
    """Explain one row of a batch; ValueError if it has no such row."""
    n_rows = len(source.tensors["filled"])
    if not 0 <= row < n_rows:
        raise ValueError(f"episode: given {row}, want 0 to {n_rows - 1}: {source.name} has {n_rows} rows")
    filled, terminated = source.tensors["filled"][row : row + 1], source.tensors["terminated"][row : row + 1]
    truncated = source.tensors.get("truncated")
    title = f"row {row} of {source.name}, B = {n_rows}, T+1 = {filled.shape[1]}"
    cut = None if truncated is None else truncated[row : row + 1]
    return _explain(title, n_rows, filled, terminated, truncated=cut)


def _explain(
    title: str, n_rows: int, filled: Tensor, terminated: Tensor, *, truncated: Tensor | None
) -> Explanation:
    """Run the three lines on one row (1, T+1, 1), keeping every intermediate tensor."""
    masks = explain_mask(filled, terminated)
    frames, ends = masks.filled[0], masks.terminated[0]
    n_steps = len(frames) - 1

    def values(name: str, tensor: Tensor, first_column: int = 0) -> Values:
        return Values(name, (n_rows, len(tensor), 1), tensor.int().tolist(), first_column)

    ended, mask = ends[:-1].float(), frames[:-1].float()
    before, keep = mask[1:], 1 - ended[:-1]
    after = before * keep
    cleared = [t for t in range(1, n_steps) if before[t - 1] != after[t - 1]]
    cut = f"(B, T+1, 1) -> (B, T, 1): ({n_rows}, {n_steps + 1}, 1) -> ({n_rows}, {n_steps}, 1)."
    shift = f"(B, T, 1) -> (B, T-1, 1): ({n_rows}, {n_steps}, 1) -> ({n_rows}, {n_steps - 1}, 1)."
    lines = [
        Line(
            THREE_LINES[0],
            f"{cut} The last column goes: no step begins at the last frame.",
            [values("terminated", ended)],
        ),
        Line(
            THREE_LINES[1],
            f"{cut} One entry a step, 1 if the frame that it begins at holds data.",
            [values("mask", mask)],
        ),
        Line(
            THREE_LINES[2],
            f"{shift} The shift: step t is cleared if step t-1 terminated, and no later one. "
            f"{_cleared(cleared)}",
            [
                values("mask[:, 1:]", before, 1),
                values("1 - terminated[:, :-1]", keep, 1),
                values("their product", after, 1),
                values("mask", masks.shift[0]),
            ],
        ),
    ]
    return Explanation(
        title=title,
        inputs=[values("filled", frames), values("terminated", ends)],
        lines=lines,
        shift=values("shift mask", masks.shift[0]),
        exact=values("exact mask", masks.exact[0]),
        differences=list(masks.differences),
        notes=[
            *_final_frame(frames, ends, masks.exact[0]),
            *_overwritten(filled.dtype, cleared),
            *[_refused(fault) for fault in find_faults(filled, terminated, truncated)],
        ],
    )


def _final_frame(
    filled: Bool[Tensor, " T_plus_1"], terminated: Bool[Tensor, " T_plus_1"], exact: Bool[Tensor, " T"]
) -> list[str]:
    length = int(exact.sum())
    if not length or filled[length] or not terminated[length - 1]:
        return []
    return [
        f"no final frame stored: step {length - 1} terminated, and the frame after it is not filled. "
        "The step counts all the same, for nothing reads the value of that frame."
    ]


def _overwritten(dtype: torch.dtype, cleared: list[int]) -> list[str]:
    """A note if line 3 overwrites the batch itself: `.float()` of a float32 tensor is no copy."""
    if not cleared or dtype not in (torch.float32, AS_BITS):
        return []
    when = "If" if dtype == AS_BITS else "As"
    return [
        f'line 3 writes in place. {when} batch["filled"] is float32 already, line 2 copies nothing '
        f"and line 3 overwrites the batch: filled at t {ranges(cleared)} becomes 0."
    ]


def _refused(fault: Fault) -> str:
    words = f"EpisodeBatch.from_padded refuses this row: t {fault.t}: {RULES[fault.rule]} ({fault.rule})."
    if not fault.kept:
        return words
    steps = "step" if fault.kept == 1 else f"{fault.kept} steps"
    return f"{words} With on_error='repair' it keeps the first {steps}."


def _cleared(times: list[int]) -> str:
    if not times:
        return "Here it clears nothing."
    return f"Here it clears step{'s' if len(times) > 1 else ''} {ranges(times)}."


def ranges(times: list[int]) -> str:
    """[2, 3, 4, 7] as "2 to 4, 7"."""
    found: list[list[int]] = []
    for t in times:
        if found and t == found[-1][1] + 1:
            found[-1][1] = t
        else:
            found.append([t, t])
    return ", ".join(
        str(first) if first == last else f"{first}{',' if last == first + 1 else ' to'} {last}"
        for first, last in found
    )
