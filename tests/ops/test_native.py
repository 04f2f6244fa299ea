"""The native kernels: linear layers against float64, any number of threads, and torch in their place."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

from endmark.episodes import ragged
from endmark.ops import gru_unroll, gru_unroll_naive, linear, native
from endmark.ops.greedy import greedy_linear
from endmark.ops.linear_chosen import linear_chosen
from endmark.ops.mixing import monotone_mix
from endmark.ops.mlps import mlps
from support.helpers import relative_error
from support.native_cases import (
    TOLERANCE,
    cell_of,
    dtypes,
    gradients,
    integers,
    needs_kernels,
    one_hot_naive,
    random,
)

# The linear layer.


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
    one_hot = torch.randint(n_hot, (n_rows, 2), generator=generator)
    one_hot[::3, 0] = -1
    results: list[list[Tensor]] = []
    for kind in (dtype, torch.float64):
        layer = nn.Linear(n_inputs + n_hot, n_outputs).to(kind)
        layer.weight.data = random(n_outputs, n_inputs + n_hot, seed=1, dtype=kind)
        layer.bias.data = random(n_outputs, seed=2, dtype=kind)
        x = random(n_rows, n_inputs, seed=3, dtype=kind).requires_grad_()
        fast = not results
        y = linear(layer, x, one_hot=one_hot, relu=relu) if fast else one_hot_naive(layer, x, one_hot, relu)
        results.append([y.detach(), *gradients(y, x, layer.weight, layer.bias)])
    for a, b in zip(*results, strict=True):
        assert relative_error(a, b) < TOLERANCE[dtype]


def test_linear_without_kernels_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(9, 4).double()
    x = random(6, 2, 5, seed=3).requires_grad_()
    one_hot = torch.tensor([[0, -1], [3, 1]]).expand(6, 2, 2)
    parameters = x, layer.weight, layer.bias
    for has_kernels in (True, False):
        if not has_kernels:
            monkeypatch.setattr(native, "native", None)
        y, want = linear(layer, x, one_hot=one_hot, relu=True), one_hot_naive(layer, x, one_hot, relu=True)
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


# All kernels.


@needs_kernels
@pytest.mark.usefixtures("threads")
def test_threads_do_not_change_a_bit(isa: str) -> None:
    lengths = torch.tensor([1 + i * 7 % 12 for i in range(60)])
    packing, n_frames = ragged.TimeMajor(lengths), int((lengths + 1).sum())  # 1 300 rows, in many blocks
    cell, layer, encoder = cell_of(20, 24, torch.float32), nn.Linear(27, 24), nn.Linear(27, 20)
    best = nn.Linear(20, 24)
    networks = [[nn.Linear(20, 9), nn.Linear(9, 5)], [nn.Linear(20, 3)]]
    x = random(n_frames, 3, 20, seed=2, dtype=torch.float32).requires_grad_()
    one_hot, rows = integers(n_frames, 3, 2, high=7), x.detach().flatten(0, 1)
    index, legal = integers(1500, high=len(rows)), integers(len(rows), 24, high=2).bool()
    args = [random(500, n, seed=n, dtype=torch.float32).requires_grad_() for n in (4, 20, 5, 5, 1)]
    results: list[list[Tensor]] = []
    for n in (1, 2, 5):
        torch.set_num_threads(n)
        hidden = gru_unroll(cell, x, packing)
        fused = gru_unroll(cell, x.detach(), packing, encoder=encoder, one_hot=one_hot)
        encoded = linear(layer, x, one_hot=one_hot, relu=True)
        mixed = monotone_mix(args[0], args[1], args[2], args[3], args[4][:, 0])
        several = torch.cat(mlps(rows, networks, index), 1)
        chosen = linear_chosen(networks[1][0], x, one_hot[..., 0] % 3)
        results.append(
            [
                *(hidden, fused, encoded, mixed, several, chosen),
                *gradients(hidden, x, *cell.parameters()),
                *gradients(fused, *encoder.parameters(), *cell.parameters()),
                *gradients(encoded, x, *layer.parameters()),
                *gradients(mixed, *args),
                *gradients(several, *nn.ModuleList(map(nn.ModuleList, networks)).parameters()),
                *gradients(chosen, x, *networks[1][0].parameters()),
                greedy_linear(best, rows, legal),
            ]
        )
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


# Without the kernels, or where they do not work.


def test_without_kernels_it_works_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "native", None)
    native._warn_once.cache_clear()
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
