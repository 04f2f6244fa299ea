"""Ragged attention against a loop over episodes, frames and heads in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from endmark.episodes import ragged
from endmark.ops import ragged_attention, ragged_attention_naive
from support.native_cases import gradients, random

CASES = {
    "one frame-pair": [1],
    "one episode": [7],
    "equal": [3, 3, 3],
    "ragged": [1, 9, 2, 2, 5, 1],
    "many": [1 + i * 7 % 12 for i in range(40)],
}
cases = pytest.mark.parametrize("lengths", CASES.values(), ids=CASES)
windows = pytest.mark.parametrize("window", [1, 3, 100])


def make(lengths: list[int], *, agents: int = 2, width: int = 8, seed: int = 0) -> Tensor:
    return random(sum(lengths) + len(lengths), agents, 3 * width, seed=seed).requires_grad_()


def attend(qkv: Tensor, lengths: list[int], heads: int, window: int) -> Tensor:
    return ragged_attention(qkv, ragged.TimeMajor(torch.tensor(lengths)), heads=heads, window=window)


def agree(given_: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(given_, want, rtol=1e-10, atol=1e-10)


@cases
@windows
@pytest.mark.parametrize(("agents", "heads"), [(1, 1), (3, 2)])
def test_value_and_gradient_are_those_of_the_naive_loop(
    lengths: list[int], window: int, agents: int, heads: int
) -> None:
    qkv = make(lengths, agents=agents)
    fast = attend(qkv, lengths, heads, window)
    naive = ragged_attention_naive(qkv, torch.tensor(lengths), heads=heads, window=window)
    agree(fast, naive)
    (given_,), (want,) = gradients(fast, qkv), gradients(naive, qkv)
    assert want.abs().max() > 1e-3
    agree(given_, want)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 3), st.integers(1, 11))
def test_any_lengths(lengths: list[int], heads: int, window: int) -> None:
    qkv = make(lengths, width=2 * heads * 3)
    fast = attend(qkv, lengths, heads, window)
    naive = ragged_attention_naive(qkv, torch.tensor(lengths), heads=heads, window=window)
    agree(fast, naive)
    agree(*gradients(fast, qkv), *gradients(naive, qkv))


@windows
def test_an_episode_is_nothing_to_the_others_not_even_as_nan(window: int) -> None:
    """Neither their values nor their gradients hold anything of it, whatever it is."""
    lengths = [4, 7, 4, 6, 5]
    frames = (torch.tensor(lengths) + 1).tolist()
    starts = ragged.frame_starts(torch.tensor(lengths)).tolist()
    for e, (start, n) in enumerate(zip(starts, frames, strict=True)):
        qkv = make(lengths)
        own = torch.zeros(len(qkv), dtype=torch.bool)
        own[start : start + n] = True
        (slope,) = torch.autograd.grad(attend(qkv, lengths, 2, window)[own].square().sum(), qkv)
        assert (slope[~own] == 0).all(), e
        assert (slope[own] != 0).any(), e
        poisoned = qkv.detach().clone()
        poisoned[own] = torch.nan
        poisoned.requires_grad_()
        clean, other = attend(qkv, lengths, 2, window), attend(poisoned, lengths, 2, window)
        assert torch.equal(other[~own], clean[~own]), e
        assert other[own].isnan().all(), e
        slopes = [
            torch.autograd.grad(out[~own].square().sum(), x)[0]
            for out, x in ((clean, qkv), (other, poisoned))
        ]
        assert torch.equal(slopes[0][~own], slopes[1][~own]), e


def test_a_frame_reads_what_is_behind_it_within_the_window() -> None:
    lengths, window = [9, 3], 4
    for t in range(10):
        qkv = make(lengths)
        (slope,) = torch.autograd.grad(attend(qkv, lengths, 2, window)[t].square().sum(), qkv)
        read = (slope != 0).any(-1).any(-1).nonzero()[:, 0].tolist()
        assert read == list(range(max(0, t - window + 1), t + 1))


def test_only_distances_count() -> None:
    """Frames moved together by a copy of them in front read the same within the window."""
    lengths, window = [9], 3
    qkv = make(lengths).detach()
    late = torch.cat([random(5, 2, 24, seed=3), qkv])
    agree(attend(late, [14], 2, window)[5 + window :], attend(qkv, [9], 2, window)[window:])
