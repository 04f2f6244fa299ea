"""The native kernels on every instruction set that this processor has, against loops in float64."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from endmark import native, targets
from endmark.episodes import ragged
from endmark.native import native as kernels
from endmark.nets import greedy, gru_unroll, gru_unroll_naive, linear
from endmark.nets.gru_packed import gru_cudnn, gru_packed
from endmark.nets.mix import monotone_mix, monotone_mix_naive
from helpers import relative_error

needs_kernels = pytest.mark.skipif(kernels is None, reason="installed without the native kernels")
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


@pytest.fixture(params=kernels.isas() if kernels else [])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    assert kernels is not None
    usual = kernels.isa()
    kernels.use_isa(request.param)
    yield request.param
    kernels.use_isa(usual)


@pytest.fixture
def threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    yield
    torch.set_num_threads(usual)


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def cell_of(n_inputs: int, size: int, dtype: torch.dtype) -> nn.GRUCell:
    cell = nn.GRUCell(n_inputs, size).to(dtype)
    for i, parameter in enumerate(cell.parameters()):
        parameter.data = random(*parameter.shape, seed=i, dtype=dtype) / size**0.5
    return cell


def gradients(out: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    direction = random(*out.shape, seed=99, dtype=out.dtype)
    return torch.autograd.grad(out, of, direction)


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
def test_nan_stays_in_its_sequence_and_does_not_vanish(isa: str) -> None:
    lengths = torch.tensor([3, 5, 1])
    cell, x = cell_of(4, 6, torch.float32), random(12, 2, 4, seed=1, dtype=torch.float32)
    x[6, 1, 2] = torch.nan  # frame 2 of the second episode, agent 1
    out = gru_unroll(cell, x, ragged.TimeMajor(lengths))
    touched = torch.zeros(12, 2, dtype=torch.bool)
    touched[6:10, 1] = True
    assert torch.equal(out.isnan().any(-1), touched)
    assert torch.equal(out.isnan().all(-1), touched)


@needs_kernels
@pytest.mark.usefixtures("threads")
def test_threads_do_not_change_a_bit(isa: str) -> None:
    lengths = [1 + i * 7 % 12 for i in range(60)]
    steps = torch.tensor(lengths)
    n_frames = int((steps + 1).sum())
    cell, layer = cell_of(20, 24, torch.float32), nn.Linear(27, 24)
    x = random(n_frames, 3, 20, seed=2, dtype=torch.float32).requires_grad_()
    ones = torch.randint(7, (n_frames, 3, 2), generator=torch.Generator().manual_seed(1))
    args = [random(500, n, seed=n, dtype=torch.float32).requires_grad_() for n in (4, 20, 5, 5, 1)]
    results: list[list[Tensor]] = []
    for n in (1, 2, 5):
        torch.set_num_threads(n)
        hidden = gru_unroll(cell, x, ragged.TimeMajor(steps))
        encoded = linear(layer, x, ones=ones, relu=True)
        mixed = monotone_mix(args[0], args[1], args[2], args[3], args[4][:, 0])
        results.append(
            [
                *(hidden, encoded, mixed),
                *gradients(hidden, x, *cell.parameters()),
                *gradients(encoded, x, *layer.parameters()),
                *gradients(mixed, *args),
            ]
        )
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@needs_kernels
@settings(max_examples=30)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 5))
def test_an_episode_has_the_same_bits_in_any_company(lengths: list[int], agents: int) -> None:
    cell, layer = cell_of(5, 19, torch.float32), nn.Linear(5, 5)
    x = random(sum(lengths) + len(lengths), agents, 5, seed=3, dtype=torch.float32)

    def hidden_states(x: Tensor, lengths: list[int]) -> Tensor:
        with torch.no_grad():
            return gru_unroll(cell, linear(layer, x), ragged.TimeMajor(torch.tensor(lengths)))

    together = torch.split(hidden_states(x, lengths), [n + 1 for n in lengths])
    for alone, length, want in zip(torch.split(x, [n + 1 for n in lengths]), lengths, together, strict=True):
        assert torch.equal(hidden_states(alone, [length]), want)


# The linear layer.


def one_hot_naive(layer: nn.Linear, x: Tensor, ones: Tensor, relu: bool) -> Tensor:
    """With the one-hot inputs written out."""
    n_hot = layer.in_features - x.shape[-1]
    hot = functional.one_hot(torch.where(ones < 0, n_hot, ones), n_hot + 1).sum(-2)[..., :n_hot]
    y: Tensor = layer(torch.cat([x, hot.to(x.dtype)], -1))
    return torch.relu(y) if relu else y


@needs_kernels
@dtypes
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("n_rows", "n_inputs", "n_hot", "n_outputs"),
    [(1, 1, 1, 1), (7, 5, 3, 2), (300, 80, 22, 64), (97, 33, 4, 17), (5, 64, 9, 14), (193, 130, 1, 70)],
)
def test_linear(
    isa: str, n_rows: int, n_inputs: int, n_hot: int, n_outputs: int, relu: bool, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    ones = torch.randint(n_hot, (n_rows, 2), generator=generator)
    ones[::3, 0] = -1
    results: list[list[Tensor]] = []
    for kind in (dtype, torch.float64):
        layer = nn.Linear(n_inputs + n_hot, n_outputs).to(kind)
        layer.weight.data = random(n_outputs, n_inputs + n_hot, seed=1, dtype=kind)
        layer.bias.data = random(n_outputs, seed=2, dtype=kind)
        x = random(n_rows, n_inputs, seed=3, dtype=kind).requires_grad_()
        fast = not results
        y = linear(layer, x, ones=ones, relu=relu) if fast else one_hot_naive(layer, x, ones, relu)
        results.append([y.detach(), *gradients(y, x, layer.weight, layer.bias)])
    for a, b in zip(*results, strict=True):
        assert relative_error(a, b) < TOLERANCE[dtype]


def test_linear_without_kernels_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(9, 4).double()
    x = random(6, 2, 5, seed=3).requires_grad_()
    ones = torch.tensor([[0, -1], [3, 1]]).expand(6, 2, 2)
    parameters = x, layer.weight, layer.bias
    for has_kernels in (True, False):
        if not has_kernels:
            monkeypatch.setattr(native, "native", None)
        y, want = linear(layer, x, ones=ones, relu=True), one_hot_naive(layer, x, ones, relu=True)
        torch.testing.assert_close(y, want)
        for a, b in zip(gradients(y, *parameters), gradients(want, *parameters), strict=True):
            torch.testing.assert_close(a, b)


@needs_kernels
def test_linear_has_no_gradient_where_relu_is_flat_and_keeps_nan(isa: str) -> None:
    layer = nn.Linear(1, 3)
    layer.weight.data = torch.tensor([[1.0], [-1.0], [0.0]])
    layer.bias.data.zero_()
    x = torch.tensor([[2.0], [torch.nan]]).requires_grad_()
    y = linear(layer, x, relu=True)
    assert y[0].tolist() == [2.0, 0.0, 0.0]
    assert y[1].isnan().all()
    assert torch.autograd.grad(y[0].sum(), x)[0][0].item() == 1.0


@needs_kernels
def test_a_one_hot_input_out_of_range_is_refused() -> None:
    layer, x = nn.Linear(6, 2), torch.zeros(3, 4)
    linear(layer, x, ones=torch.tensor([[0], [1], [-1]]))
    with pytest.raises(ValueError, match="row 2: given 2, want less than 2"):
        linear(layer, x, ones=torch.tensor([[0], [1], [2]]))
    with pytest.raises(ValueError, match=r"weight: given shape \(2, 6\), want \(2, 4\)"):
        linear(layer, x)


# The mixer.


@needs_kernels
@dtypes
@pytest.mark.parametrize(("n_rows", "agents", "size"), [(1, 1, 1), (5, 3, 2), (300, 8, 32), (257, 2, 19)])
def test_mix(isa: str, n_rows: int, agents: int, size: int, dtype: torch.dtype) -> None:
    results: list[list[Tensor]] = []
    for kind in (dtype, torch.float64):
        shapes = [(n_rows, agents), (n_rows, agents * size), (n_rows, size), (n_rows, size), (n_rows,)]
        args = [random(*shape, seed=i, dtype=kind).requires_grad_() for i, shape in enumerate(shapes)]
        args[1].data[0, 0] = 0.0  # where the absolute value has no slope
        mixed = monotone_mix_naive(*args) if results else monotone_mix(*args)
        results.append([mixed.detach(), *gradients(mixed, *args)])
    for a, b in zip(*results, strict=True):
        assert relative_error(a, b) < TOLERANCE[dtype]


# The reverse scan and the greedy choice.


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 3), st.integers(0, 99))
def test_scan_with_and_without_kernels(lengths: list[int], width: int, seed: int) -> None:
    lengths = [*lengths, 2]  # one step at least whose factor counts
    shape = sum(lengths), width
    factor = torch.where(random(*shape, seed=seed + 1) > 1, 0.0, random(*shape, seed=seed)).requires_grad_()
    constant = random(*shape, seed=seed + 2).requires_grad_()
    results = []
    for has_kernels in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not has_kernels:
                patch.setattr(native, "native", None)
            y = targets._scan(factor, constant, torch.tensor(lengths))
        results.append([y, *gradients(y, factor, constant)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@needs_kernels
def test_scan_gradcheck() -> None:
    lengths = torch.tensor([3, 1, 4])
    inputs = [random(8, 2, seed=seed).requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(lambda f, c: targets._scan(f, c, lengths), inputs)


@needs_kernels
@dtypes
def test_greedy(isa: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(-2, 3, (50, 3, 7), generator=generator).to(dtype)  # ties
    legal = torch.rand(50, 3, 7, generator=generator) < 0.4
    q[4, 0, 3], q[5, 1, :], q[6, 0, 2] = torch.nan, -torch.inf, torch.inf
    legal[4, 0, 3], legal[7] = True, False
    want = torch.where(legal, q, -torch.inf).argmax(-1)
    want[5, 1] = int(legal[5, 1].nonzero()[0])  # a legal one, where all values are -inf
    assert torch.equal(greedy(q, legal), want)
    strided = q.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(greedy(strided, legal), want)


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


# Without the kernels, or where they do not work.


def test_without_kernels_it_works_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "native", None)
    native._say_once.cache_clear()
    cell, x = cell_of(3, 4, torch.float32), random(6, 2, 3, seed=1, dtype=torch.float32)
    with caplog.at_level(logging.WARNING, "endmark"):
        for _ in range(2):
            out = gru_unroll(cell, x, ragged.TimeMajor(torch.tensor([2, 2])))
    torch.testing.assert_close(out, gru_unroll_naive(cell, x, torch.tensor([2, 2])))
    assert native.backend() == "torch"
    assert len(caplog.records) == 1
    assert "slower" in caplog.records[0].message


def test_other_types_take_the_way_through_torch() -> None:
    cell, x = cell_of(3, 4, torch.bfloat16), random(4, 1, 3, seed=1, dtype=torch.bfloat16)
    out = gru_unroll(cell, x, ragged.TimeMajor(torch.tensor([3])))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, gru_unroll_naive(cell, x, torch.tensor([3])), rtol=0.1, atol=0.1)


@needs_kernels
def test_wrong_shapes_are_refused_by_name() -> None:
    assert kernels is not None
    x, lengths = np.zeros((4, 1, 3), np.float32), np.array([3])
    weights = [
        np.zeros((15, 3), np.float32),
        np.zeros((15, 5), np.float32),
        np.zeros(15, np.float32),
        np.zeros(15, np.float32),
    ]
    hidden = np.zeros((4, 1, 5), np.float32)
    kernels.gru_forward(x, lengths, *weights, hidden, None, 1)
    with pytest.raises(ValueError, match="x: given 4 frames, want sum"):
        kernels.gru_forward(x, lengths + 1, *weights, hidden, None, 1)
    with pytest.raises(ValueError, match=r"bias_ih: given shape \(14\), want \(15\)"):
        kernels.gru_forward(x, lengths, *weights[:2], np.zeros(14, np.float32), weights[3], hidden, None, 1)
    with pytest.raises(ValueError, match=r"hidden: given shape \(4, 1, 6\), want \(4, 1, 5\)"):
        kernels.gru_forward(x, lengths, *weights, np.zeros((4, 1, 6), np.float32), None, 1)
    with pytest.raises(TypeError):
        kernels.gru_forward(x.astype(np.float64), lengths, *weights, hidden, None, 1)
    with pytest.raises(ValueError, match="isa: given 'mmx'"):
        kernels.use_isa("mmx")
