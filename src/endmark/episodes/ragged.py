"""Index arithmetic of the ragged layout: frames of all episodes end to end on one axis.

An episode with L steps has L+1 frames. `lengths` [E] int64 counts the steps of each episode. It is on the
CPU, since shapes depend on it, and reading a shape must not wait for a GPU.
"""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def ramp(counts: Int[Tensor, " E"]) -> Int[Tensor, " _"]:
    """0, 1, .. count-1 for each count, end to end."""
    starts = counts.cumsum(0) - counts
    return torch.arange(int(counts.sum())) - starts.repeat_interleave(counts)


def frame_starts(lengths: Int[Tensor, " E"]) -> Int[Tensor, " E"]:
    """The first frame of each episode."""
    frames = lengths + 1
    return frames.cumsum(0) - frames


def final_frames(lengths: Int[Tensor, " E"]) -> Int[Tensor, " E"]:
    """The final frame of each episode."""
    return (lengths + 1).cumsum(0) - 1


def step_frames(lengths: Int[Tensor, " E"]) -> Int[Tensor, " S"]:
    """The frames that carry a step: all but the final frame of each episode."""
    steps = torch.arange(int(lengths.sum()))
    episodes_before = torch.arange(len(lengths)).repeat_interleave(lengths)
    return steps + episodes_before  # each earlier episode has one frame without a step


def steps_left(lengths: Int[Tensor, " E"]) -> Int[Tensor, " S"]:
    """How many steps follow within the episode: L-1 at its first step, 0 at its last."""
    return lengths.repeat_interleave(lengths) - 1 - ramp(lengths)


def frames_from(starts: Int[Tensor, " E"], lengths: Int[Tensor, " E"]) -> Int[Tensor, " F"]:
    """The frames of episodes that start at these frames, episode by episode."""
    frames = lengths + 1
    return (starts - frame_starts(lengths)).repeat_interleave(frames) + torch.arange(int(frames.sum()))


def windows(
    lengths: Int[Tensor, " E"], horizon: int, present: Bool[Tensor, " F"] | None = None
) -> tuple[Int[Tensor, "S H"], Bool[Tensor, "S H"]]:
    """The next `horizon` frames of each step, and which of them are real.

    A step t of an episode with L steps has the frames t+1 .. min(t + horizon, L): the final frame is one, and
    no window goes beyond it. In place of the others stands the final frame, so that all can be indexed.

    present: whether an agent takes part at each frame; a window stops before the first at which it does not,
    and so may be empty. On its device, if it is given.
    """
    steps = step_frames(lengths)
    finals = final_frames(lengths).repeat_interleave(lengths)
    if present is not None:
        steps, finals = steps.to(present.device), finals.to(present.device)
    frames = steps[:, None] + torch.arange(1, horizon + 1, device=steps.device)
    last = finals
    if present is not None:
        numbers = torch.arange(len(present), device=present.device)
        absent = torch.where(present, len(present), numbers)
        next_absent = absent.flip(0).cummin(0).values.flip(0)
        last = torch.minimum(finals, next_absent[steps] - 1)
    return torch.minimum(frames, finals[:, None]), frames <= last[:, None]


class TimeMajor:
    """The ragged frames in time-major order, in which a recurrence visits them; computed on first use.

    lengths: [E] int64, the steps of each episode.
    device: the device of `order`.
    """

    def __init__(self, lengths: Int[Tensor, " E"], device: torch.device | str = "cpu") -> None:
        self.lengths, self.device = lengths, device

    @property
    def order(self) -> Int[Tensor, " F"]:
        """The ragged position of each frame in time-major order.

        Frame 0 of every episode comes first, the longest episode leading; then frame 1 of every episode that
        has one; and so on.
        """
        return self._sorted[0]

    @property
    def counts(self) -> list[int]:
        """The number of episodes that have a frame t, for each t; never increasing."""
        return self._sorted[1]

    @cached_property
    def _sorted(self) -> tuple[Int[Tensor, " F"], list[int]]:
        frames = self.lengths + 1
        rank = torch.empty_like(frames)
        rank[torch.argsort(frames, descending=True, stable=True)] = torch.arange(len(frames))
        time = ramp(frames)
        counts = torch.bincount(time)
        position = (counts.cumsum(0) - counts)[time] + rank.repeat_interleave(frames)
        order = torch.empty_like(position)
        order[position] = torch.arange(len(position))
        return order.to(self.device, non_blocking=True), counts.tolist()
