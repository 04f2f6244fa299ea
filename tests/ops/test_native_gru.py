"""The native GRU on every instruction set that this processor has, against loops in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from endmark.episodes import ragged
from endmark.ops import gru_advance, gru_unroll, gru_unroll_naive, linear, native
from endmark.ops.gru_packed import gru_cudnn, gru_packed
from support.helpers import relative_error
from support.native_cases import (
    TOLERANCE,
    cell_of,
    columns,
    dtypes,
    gradients,
    integers,
    layer_of,
    needs_kernels,
    one_hot_naive,
    random,
)


def unroll_both(
    lengths: list[int], agents: int, n_inputs: int, size: int, dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    """Hidden states and every gradient: by the kernels in `dtype`, and by the loop in float64."""
    steps = torch.tensor(lengths)
    results: list[list[Tensor]] = []
    for kind in (dtype, torch.float64):
        cell = cell_of(n_inputs, size, kind)
        x = random(int((steps + 1).sum()), agents, n_inputs, seed=7, dtype=kind).requires_grad_()
        if not results:
            out = gru_unroll(cell, x, ragged.TimeMajor(steps))
        else:
            out = gru_unroll_naive(cell, x, steps)
        results.append([out.detach(), *gradients(out, x, *cell.parameters())])
    return results[0], results[1]


# The recurrence.

SHAPES = {
    "one frame": ([0], 1, 1, 1),
    "one step": ([1], 1, 5, 3),
    "one episode": ([37], 3, 6, 16),
    "all equal": ([4] * 9, 8, 16, 32),
    "ragged": ([1, 9, 2, 0, 5, 1, 30, 7], 5, 17, 33),
    "the usual size": ([12, 3, 40], 8, 64, 64),
    "less than a vector": ([2, 6], 2, 3, 2),
    "wide": ([5, 1], 2, 130, 70),
}


@needs_kernels
@dtypes
@pytest.mark.parametrize(("lengths", "agents", "n_inputs", "size"), SHAPES.values(), ids=SHAPES)
def test_gru(isa: str, lengths: list[int], agents: int, n_inputs: int, size: int, dtype: torch.dtype) -> None:
    given_, want = unroll_both(lengths, agents, n_inputs, size, dtype)
    for a, b in zip(given_, want, strict=True):
        assert relative_error(a, b) < TOLERANCE[dtype]


@needs_kernels
@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(list(TOLERANCE)),
)
def test_gru_of_any_shape(
    lengths: list[int], agents: int, n_inputs: int, size: int, dtype: torch.dtype
) -> None:
    given_, want = unroll_both(lengths, agents, n_inputs, size, dtype)
    for a, b in zip(given_, want, strict=True):
        assert relative_error(a, b) < TOLERANCE[dtype]


@needs_kernels
@dtypes
@pytest.mark.parametrize(("n_obs", "n_hot"), [(5, 3), (0, 3), (7, 0)])
def test_frame_by_frame_it_is_the_same_bits(isa: str, n_obs: int, n_hot: int, dtype: torch.dtype) -> None:
    cell, encoder = cell_of(9, 17, dtype), layer_of(n_obs + n_hot, 9, dtype)
    obs, hot = random(6, 30, n_obs, seed=1, dtype=dtype), columns(6, 30, 2, n_hot=n_hot)
    with torch.no_grad():
        want = gru_unroll(cell, obs, ragged.TimeMajor(torch.tensor([5])), encoder=encoder, one_hot=hot)
        hidden = torch.zeros(3, 10, 17, dtype=dtype)  # any leading shape
        for t in range(6):
            x, columns_ = obs[t].view(3, 10, n_obs), None if hot is None else hot[t].view(3, 10, 2)
            hidden = gru_advance(cell, x, hidden, encoder=encoder, one_hot=columns_)
            assert torch.equal(hidden.view(30, 17), want[t])


@dtypes
def test_one_frame_is_the_cells(dtype: torch.dtype) -> None:
    """By the kernel, and by torch, which records the gradient."""
    cell, encoder = cell_of(9, 17, dtype), layer_of(5, 9, dtype)
    x, before = random(4, 3, 5, seed=1, dtype=dtype), random(4, 3, 17, seed=2, dtype=dtype)
    double, wide = copy.deepcopy(cell).double(), copy.deepcopy(encoder).double()
    want = double(torch.relu(wide(x.double())).view(12, 9), before.double().view(12, 17)).view(4, 3, 17)
    recorded = gru_advance(cell, x, before, encoder=encoder)
    with torch.no_grad():
        kernel = gru_advance(cell, x, before, encoder=encoder)
    assert recorded.requires_grad
    assert not kernel.requires_grad
    for given_ in (recorded, kernel):
        assert relative_error(given_.detach(), want.detach()) < TOLERANCE[dtype]


@needs_kernels
def test_gru_of_thousands_of_episodes(isa: str) -> None:
    lengths = [1 + i * 13 % 7 for i in range(4000)]
    given_, want = unroll_both(lengths, 1, 3, 5, torch.float32)
    for a, b in zip(given_, want, strict=True):
        assert relative_error(a, b) < 1e-5  # sums over 20 000 rows


@needs_kernels
def test_gru_saturates_without_overflow(isa: str) -> None:
    cell = cell_of(2, 3, torch.float32)
    x = torch.tensor([1e4, -1e4]).expand(4, 1, 2).clone().requires_grad_()
    out = gru_unroll(cell, x, ragged.TimeMajor(torch.tensor([3])))
    want = gru_unroll_naive(cell, x, torch.tensor([3]))
    torch.testing.assert_close(out, want, rtol=1e-6, atol=1e-6)
    for a, b in zip(
        gradients(out, x, *cell.parameters()), gradients(want, x, *cell.parameters()), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@needs_kernels
@pytest.mark.parametrize("has_encoder", [False, True])
def test_nan_stays_in_its_sequence_and_does_not_vanish(isa: str, has_encoder: bool) -> None:
    lengths = torch.tensor([3, 5, 1])
    cell, x = cell_of(4, 6, torch.float32), random(12, 2, 4, seed=1, dtype=torch.float32)
    x[6, 1, 2] = torch.nan  # frame 2 of the second episode, agent 1
    encoder = layer_of(4, 4, torch.float32) if has_encoder else None
    out = gru_unroll(cell, x, ragged.TimeMajor(lengths), encoder=encoder)
    touched = torch.zeros(12, 2, dtype=torch.bool)
    touched[6:10, 1] = True
    assert torch.equal(out.isnan().any(-1), touched)
    assert torch.equal(out.isnan().all(-1), touched)


@needs_kernels
@settings(max_examples=30)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 5), st.booleans())
def test_an_episode_has_the_same_bits_in_any_company(lengths: list[int], agents: int, fused: bool) -> None:
    cell, layer = cell_of(5, 19, torch.float32), nn.Linear(8, 5)
    x = random(sum(lengths) + len(lengths), agents, 5, seed=3, dtype=torch.float32)
    one_hot = integers(len(x), agents, 2, low=-1, high=3)

    @torch.no_grad()
    def hidden_states(x: Tensor, one_hot: Tensor, lengths: list[int]) -> Tensor:
        packing = ragged.TimeMajor(torch.tensor(lengths))
        if fused:
            return gru_unroll(cell, x, packing, encoder=layer, one_hot=one_hot)
        return gru_unroll(cell, linear(layer, x, one_hot=one_hot), packing)

    n_frames = [n + 1 for n in lengths]
    together = torch.split(hidden_states(x, one_hot, lengths), n_frames)
    alone = zip(torch.split(x, n_frames), torch.split(one_hot, n_frames), lengths, strict=True)
    for (of_x, of_one_hot, length), want in zip(alone, together, strict=True):
        assert torch.equal(hidden_states(of_x, of_one_hot, [length]), want)


# The recurrence and the encoder before it, in one.


def encoded_both(
    lengths: list[int], agents: int, dense: int, hot: int, n_inputs: int, size: int, dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    """As `unroll_both`; in float64 with the one-hot inputs written out.

    What ReLU reads is exact, or it might be on one side of 0 here and on the other there.
    """
    steps = torch.tensor(lengths)
    n_frames = int((steps + 1).sum())
    one_hot = columns(n_frames, agents, 2, n_hot=hot)
    results: list[list[Tensor]] = []
    for kind in (dtype, torch.float64):
        cell, encoder = cell_of(n_inputs, size, kind), layer_of(dense + hot, n_inputs, kind, quarters=True)
        x = random(n_frames, agents, dense, seed=7, dtype=kind).round()
        if not results:
            out = gru_unroll(cell, x, ragged.TimeMajor(steps), encoder=encoder, one_hot=one_hot)
        else:
            out = gru_unroll_naive(cell, one_hot_naive(encoder, x, one_hot, relu=True), steps)
        results.append([out.detach(), *gradients(out, *encoder.parameters(), *cell.parameters())])
    return results[0], results[1]


ENCODED_SHAPES = {
    "one frame": ([0], 1, 1, 1, 1, 1),
    "one step": ([1], 1, 5, 2, 3, 3),
    "nothing one-hot": ([2, 5], 3, 7, 0, 9, 4),
    "ragged": ([1, 9, 2, 0, 5, 1, 30, 7], 5, 17, 6, 18, 33),
    "the usual size": ([12, 3, 40], 8, 40, 22, 64, 64),
    "less than a vector": ([2, 6], 2, 3, 1, 2, 2),
    "wide": ([5, 1], 2, 130, 11, 70, 19),
    "many sequences": ([1, 0, 3] * 70, 3, 6, 4, 5, 7),
}


@needs_kernels
@dtypes
@pytest.mark.parametrize("shape", ENCODED_SHAPES.values(), ids=ENCODED_SHAPES)
def test_gru_with_encoder(
    isa: str, shape: tuple[list[int], int, int, int, int, int], dtype: torch.dtype
) -> None:
    given_, want = encoded_both(*shape, dtype)
    for a, b in zip(given_, want, strict=True):
        assert relative_error(a, b) < TOLERANCE[dtype]


@needs_kernels
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=30),
    st.tuples(
        st.integers(1, 9), st.integers(1, 40), st.integers(0, 9), st.integers(1, 40), st.integers(1, 40)
    ),
    st.sampled_from(list(TOLERANCE)),
)
def test_gru_with_encoder_of_any_shape(
    lengths: list[int], sizes: tuple[int, int, int, int, int], dtype: torch.dtype
) -> None:
    given_, want = encoded_both(lengths, *sizes, dtype)
    for a, b in zip(given_, want, strict=True):
        assert (
            relative_error(a, b) < 50 * TOLERANCE[dtype]
        )  # a gradient of one number is a sum that may cancel


@needs_kernels
@pytest.mark.parametrize("hot", [0, 6])
def test_the_encoder_is_the_layer_before_bit_for_bit(isa: str, hot: int) -> None:
    """With gradients and without, and where x has one, which goes the way of two calls."""
    packing = ragged.TimeMajor(torch.tensor([4, 0, 11, 2]))
    cell, encoder = cell_of(19, 21, torch.float32), layer_of(5 + hot, 19, torch.float32)
    x, one_hot = random(21, 3, 5, seed=4, dtype=torch.float32), columns(21, 3, 2, n_hot=hot)
    want = gru_unroll(cell, linear(encoder, x, one_hot=one_hot, relu=True), packing)
    assert torch.equal(gru_unroll(cell, x, packing, encoder=encoder, one_hot=one_hot), want)
    with torch.no_grad():
        assert torch.equal(gru_unroll(cell, x, packing, encoder=encoder, one_hot=one_hot), want)
    x.requires_grad_()
    assert torch.equal(gru_unroll(cell, x, packing, encoder=encoder, one_hot=one_hot), want)


@needs_kernels
def test_encoder_gradcheck(isa: str) -> None:
    cell, encoder = cell_of(3, 4, torch.float64), layer_of(5, 3, torch.float64)
    x, one_hot, lengths = random(9, 2, 3, seed=1), columns(9, 2, 1, n_hot=2), torch.tensor([3, 0, 3])

    def unroll(*_: Tensor) -> Tensor:  # gradcheck changes the parameters in place
        return gru_unroll(cell, x, ragged.TimeMajor(lengths), encoder=encoder, one_hot=one_hot)

    assert torch.autograd.gradcheck(unroll, (*encoder.parameters(), *cell.parameters()))


@pytest.mark.parametrize("has_kernels", [True, False])
@pytest.mark.parametrize("of_x", [True, False])
@pytest.mark.parametrize(("n_dense", "hot"), [(3, 0), (3, 4), (0, 4)])
def test_encoder_by_every_way(
    monkeypatch: pytest.MonkeyPatch, has_kernels: bool, of_x: bool, n_dense: int, hot: int
) -> None:
    """In two calls where the inputs have a gradient, and without kernels; an agent may see nothing."""
    if not has_kernels:
        monkeypatch.setattr(native, "native", None)
    lengths = torch.tensor([3, 1, 5])
    cell, encoder = cell_of(6, 5, torch.float64), layer_of(n_dense + hot, 6, torch.float64)
    x, one_hot = random(12, 2, n_dense, seed=1).requires_grad_(of_x), columns(12, 2, 2, n_hot=hot)
    parameters = [*encoder.parameters(), *cell.parameters(), *([x] if of_x else [])]
    out = gru_unroll(cell, x, ragged.TimeMajor(lengths), encoder=encoder, one_hot=one_hot)
    want = gru_unroll_naive(cell, one_hot_naive(encoder, x, one_hot, relu=True), lengths)
    torch.testing.assert_close(out, want)
    for a, b in zip(gradients(out, *parameters), gradients(want, *parameters), strict=True):
        torch.testing.assert_close(a, b)


# Other ways to the same recurrence.


@pytest.mark.parametrize("way", [gru_packed, gru_cudnn])
@pytest.mark.parametrize("lengths", [[0], [3, 1, 7, 1], [2] * 5])
def test_other_ways(way: object, lengths: list[int]) -> None:
    """cuDNN's on the CPU: the same calls, whatever library they end in."""
    assert callable(way)
    steps = torch.tensor(lengths)
    cell = cell_of(3, 5, torch.float64)
    x = random(int((steps + 1).sum()), 2, 3, seed=1).requires_grad_()
    parameters = cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
    out, want = way(x, *parameters, ragged.TimeMajor(steps)), gru_unroll_naive(cell, x, steps)
    torch.testing.assert_close(out, want)
    for a, b in zip(gradients(out, x, *parameters), gradients(want, x, *parameters), strict=True):
        torch.testing.assert_close(a, b)
