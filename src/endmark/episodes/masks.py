"""Which steps of a padded batch are real: the exact mask, the usual three lines, and why they differ.

`filled[b, t]` says that frame t holds data, `terminated[b, t]` that step t ended the MDP; both are
(B, T+1, 1). A mask over steps is (B, T, 1) bool. Inputs are never written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

Flags = Shaped[Tensor, "B T_plus_1 1"] | Shaped[np.ndarray, "B T_plus_1 1"]
Reason = Literal["stale", "second", "phantom", "gap"]


def step_mask(filled: Flags, terminated: Flags) -> Bool[Tensor, "B T 1"]:
    """The exact mask: True where a step is real.

    Step t is real if and only if no step s < t terminated, every frame s <= t is filled, and frame t+1
    is filled or step t terminated.

    Takes any integer, bool or float flags, tensors on any device or arrays; raises ValueError for values
    other than 0 and 1 and for shapes other than (B, T+1, 1). Apply it by selection (`torch.where`,
    indexing), never by multiplication: NaN times 0 is NaN. Select before computing: a `torch.where` after,
    say, a network that was fed NaN keeps the loss clean but not the gradient, for the backward pass
    multiplies too.
    """
    has_frame, ends = as_flags("filled", filled), as_flags("terminated", terminated)
    _same_shape(has_frame, ends)
    ended_before = ends.cumsum(1) - ends.long()  # ends among the steps s < t
    filled_so_far = has_frame.long().cumprod(1).bool()
    has_successor = has_frame[:, 1:] | ends[:, :-1]
    return (ended_before[:, :-1] == 0) & filled_so_far[:, :-1] & has_successor


def shift_mask(filled: Flags, terminated: Flags) -> Float[Tensor, "B T 1"]:
    """The three lines that PyMARL and its descendants run, to the letter but not in place.

        terminated = terminated[:, :-1].float()
        mask = filled[:, :-1].float()
        mask[:, 1:] = mask[:, 1:] * (1 - terminated[:, :-1])

    For comparison, and to reproduce old results; use `step_mask` otherwise. Takes and refuses the same flags.
    Float 0/1, like the original.
    """
    has_frame, ends = as_flags("filled", filled), as_flags("terminated", terminated)
    _same_shape(has_frame, ends)
    ended = ends[:, :-1].float()
    mask = has_frame[:, :-1].float()  # of a new tensor: the usual line overwrites a float32 `filled`
    mask[:, 1:] = mask[:, 1:] * (1 - ended[:, :-1])
    return mask


@dataclass(frozen=True)
class Difference:
    """One step on which the two masks disagree."""

    row: int
    t: int
    reason: Reason

    def __str__(self) -> str:
        return f"row {self.row}, step {self.t}: {REASONS[self.reason]}"


REASONS: dict[Reason, str] = {
    "stale": "the episode ended earlier, but the frame is marked filled; the shift hides only one step",
    "second": "a second episode in the same row; the shift hides only the step after the first one's end",
    "phantom": "the last frame that is filled: nobody acted on it, or what came of it was not stored",
    "gap": "filled, but an earlier frame of the row is not: it belongs to no episode that began in this row",
}


@dataclass(frozen=True)
class MaskExplanation:
    """Both masks of a padded batch and the reason for each difference; `str()` prints them for people."""

    filled: Bool[Tensor, "B T_plus_1"]
    terminated: Bool[Tensor, "B T_plus_1"]
    shift: Bool[Tensor, "B T"]
    exact: Bool[Tensor, "B T"]
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        lines = []
        for row in range(self.filled.shape[0]):
            lines += [
                f"row {row}",
                f"  filled      {_bits(self.filled[row])}",
                f"  terminated  {_bits(self.terminated[row])}",
                f"  shift_mask  {_bits(self.shift[row])}",
                f"  exact mask  {_bits(self.exact[row])}",
            ]
            lines += [f"  step {d.t}: {REASONS[d.reason]}" for d in self.differences if d.row == row]
        return "\n".join(lines)


def explain_mask(filled: Flags, terminated: Flags) -> MaskExplanation:
    """Both masks, step by step, and for every step where they differ the reason (`REASONS`).

    The shift mask never counts too few steps: a real step has a filled frame and no end before it, so the
    shift does not clear it.
    """
    exact = step_mask(filled, terminated)[..., 0].cpu()
    shift = shift_mask(filled, terminated)[..., 0].bool().cpu()
    has_frame = as_flags("filled", filled)[..., 0].cpu()
    ends = as_flags("terminated", terminated)[..., 0].cpu()
    ended_before = (ends.cumsum(1) - ends.long() > 0)[:, :-1]
    ends_later = (ends.flip(1).cumsum(1).flip(1) > 0)[:, :-1]  # at t or after it
    gap_before = has_frame[:, :-1].logical_not().cumsum(1) > 0
    differences = []
    at = torch.nonzero(exact != shift)
    facts = torch.stack([flags[at[:, 0], at[:, 1]] for flags in (ended_before, ends_later, gap_before)], 1)
    for (row, t), (ended, ends_again, gap) in zip(at.tolist(), facts.tolist(), strict=True):
        reason: Reason = ("second" if ends_again else "stale") if ended else ("gap" if gap else "phantom")
        differences.append(Difference(row, t, reason))
    return MaskExplanation(has_frame, ends, shift, exact, tuple(differences))


def as_flags(name: str, flags: object) -> Bool[Tensor, "B T_plus_1 1"]:
    """`flags` as a new bool tensor; ValueError for a wrong shape or a value other than 0 and 1."""
    tensor = as_tensor(name, flags)
    if tensor.ndim != 3 or tensor.shape[2] != 1 or tensor.shape[1] < 1:
        raise ValueError(f"{name}: given shape {tuple(tensor.shape)}, want (B, T+1, 1)")
    flagged = tensor != 0
    wrong = flagged & (tensor != 1)
    if wrong.any():
        row, t, _ = wrong.nonzero()[0].tolist()
        raise ValueError(f"{name}: row {row}, t {t}: given {tensor[row, t, 0].item()}, want 0 or 1")
    return flagged


def as_tensor(name: str, value: object) -> Tensor:
    """A tensor as it is; an array as a tensor, copied if torch cannot share it."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufc" or value.dtype.char in "gG":  # gG: no tensor has so many digits
            raise TypeError(f"{name}: given an array of {value.dtype}, want numbers")
        native = value.astype(value.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(np.require(native, requirements=["C_CONTIGUOUS", "WRITEABLE"]))
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: given {type(value).__name__}, want a tensor or an array")
    return value


def _same_shape(filled: Tensor, terminated: Tensor) -> None:
    if filled.shape != terminated.shape:
        raise ValueError(
            f"filled has shape {tuple(filled.shape)}, terminated {tuple(terminated.shape)}; "
            "want the same (B, T+1, 1)"
        )


def _bits(row: Tensor) -> str:
    return "".join("1" if bit else "0" for bit in row.tolist())
