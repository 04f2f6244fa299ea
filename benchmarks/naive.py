"""The rule of a padded row in words and loops, for `benchmarks.fuzz`; it shares no code with endmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Bits = Sequence[int]


class Row(NamedTuple):
    """What a row holds: real steps, whether the last one terminated, and the first fault as (t, rule)."""

    kept: int
    ended: bool
    fault: tuple[int, str] | None


def step_mask(filled: Bits, terminated: Bits) -> list[int]:
    """Step by step: real while no end and no hole came before, and the successor is there or not needed."""
    mask = []
    is_open = True
    for t in range(len(filled) - 1):
        is_open = is_open and bool(filled[t])
        mask.append(int(is_open and bool(filled[t + 1] or terminated[t])))
        is_open = is_open and not terminated[t]
    return mask


def shift_mask(filled: Bits, terminated: Bits) -> list[float]:
    """The three lines, number by number."""
    return [
        float(filled[t]) if t == 0 else float(filled[t]) * (1.0 - float(terminated[t - 1]))
        for t in range(len(filled) - 1)
    ]


def differences(filled: Bits, terminated: Bits) -> list[tuple[int, str]]:
    """The steps on which the two masks disagree, and why."""
    found = []
    for t, (exact, shift) in enumerate(
        zip(step_mask(filled, terminated), shift_mask(filled, terminated), strict=True)
    ):
        if exact == shift:
            continue
        if any(terminated[:t]):
            found.append((t, "second" if any(terminated[t:]) else "stale"))
        else:
            found.append((t, "phantom" if all(filled[:t]) else "gap"))
    return found


def read_row(filled: Bits, terminated: Bits, truncated: Bits) -> Row:
    """One row, read from the left."""
    last = len(filled) - 1

    def is_step(t: int) -> bool:  # if frame t begins an episode
        return t < last and bool(filled[t]) and bool(filled[t + 1] or terminated[t])

    def goes_on(t: int) -> bool:  # the cut of step t has another step behind it
        return bool(filled[t] and truncated[t] and not terminated[t]) and t + 1 < last and is_step(t + 1)

    kept, ended = 0, False
    while not ended and is_step(kept) and not goes_on(kept):
        ended = bool(terminated[kept])
        kept += 1
    for t in range(last + 1):
        frame_astray = filled[t] and t > kept
        end_astray = terminated[t] and t != kept - 1
        cut_astray = truncated[t] and (t != kept - 1 or ended)
        if not (frame_astray or end_astray or cut_astray):
            continue
        if kept == 0 and not goes_on(0):
            break
        return Row(kept, ended, (t, _rule(filled, terminated, truncated, kept, ended, t, goes_on(t))))
    return Row(kept, ended, (0, "empty") if kept == 0 else None)


def _rule(
    filled: Bits, terminated: Bits, truncated: Bits, kept: int, ended: bool, t: int, goes_on: bool
) -> str:
    """What is wrong with entry t, the first that does not belong to the episode of `kept` steps."""
    if goes_on:
        return "second"
    if filled[t] and t > kept:
        if not ended:
            return "gap"
        other_ends = any(terminated[kept:]) or any(truncated[kept - 1 :])
        return "second" if other_ends else "stale"
    if not filled[t] or (terminated[t] and t != kept - 1):
        return "outside"
    if ended:
        return "both" if t == kept - 1 else "outside"
    return "unseen"
