"""The next frames of each step: against a loop over episodes, and never past the end of one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from endmark.episodes import ragged

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def naive(lengths: list[int], horizon: int, present: list[bool] | None) -> list[list[int]]:
    """The real frames of each step's window."""
    windows, start = [], 0
    for length in lengths:
        for t in range(length):
            window: list[int] = []
            goes_on = present is None or present[start + t]
            for k in range(1, horizon + 1):
                if t + k > length or not goes_on:
                    break
                if present is not None and not present[start + t + k]:
                    break
                window.append(start + t + k)
            windows.append(window)
        start += length + 1
    return windows


@given(LENGTHS, st.integers(1, 12), st.one_of(st.none(), st.integers(0, 1000)))
def test_a_window_is_what_a_loop_says(lengths: list[int], horizon: int, seed: int | None) -> None:
    present = None
    if seed is not None:
        draws = torch.Generator().manual_seed(seed)
        present = torch.rand(sum(lengths) + len(lengths), generator=draws) < 0.8
    frames, real = ragged.windows(torch.tensor(lengths), horizon, present)
    assert frames.shape == real.shape == (sum(lengths), horizon)
    want = naive(lengths, horizon, None if present is None else present.tolist())
    assert [row[which].tolist() for row, which in zip(frames, real, strict=True)] == want


@given(LENGTHS, st.integers(1, 12))
def test_every_step_has_a_frame_and_all_can_be_indexed(lengths: list[int], horizon: int) -> None:
    frames, real = ragged.windows(torch.tensor(lengths), horizon)
    assert real[:, 0].all()
    finals = ragged.final_frames(torch.tensor(lengths)).repeat_interleave(torch.tensor(lengths))
    assert (frames <= finals[:, None]).all()
    assert (frames[~real] == finals[:, None].expand_as(frames)[~real]).all()


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_last_step_has_the_final_frame_alone(horizon: int) -> None:
    frames, real = ragged.windows(torch.tensor([2, 1]), horizon)
    assert frames[1][real[1]].tolist() == [2]
    assert frames[2][real[2]].tolist() == [4]


def test_a_window_ends_where_the_agent_leaves() -> None:
    present = torch.tensor([True, True, False, False, True, True])
    frames, real = ragged.windows(torch.tensor([3, 1]), 3, present)
    windows = [row[which].tolist() for row, which in zip(frames, real, strict=True)]
    assert windows == [[1], [], [], [5]]
