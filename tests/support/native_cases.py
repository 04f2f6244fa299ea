"""What the tests of the native kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from endmark.ops.native import native as kernels

needs_kernels = pytest.mark.skipif(kernels is None, reason="installed without the native kernels")
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)

on_every_isa = pytest.mark.usefixtures("isa")


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def cell_of(n_inputs: int, size: int, dtype: torch.dtype) -> nn.GRUCell:
    cell = nn.GRUCell(n_inputs, size).to(dtype)
    for i, parameter in enumerate(cell.parameters()):
        parameter.data = random(*parameter.shape, seed=i, dtype=dtype) / size**0.5
    return cell


def layer_of(
    n_inputs: int, n_outputs: int, dtype: torch.dtype, *, seed: int = 0, quarters: bool = False
) -> nn.Linear:
    """quarters: the parameters are multiples of 1/4, so that whole inputs have exact outputs in any type."""
    layer = nn.Linear(n_inputs, n_outputs).to(dtype)
    for i, parameter in enumerate(layer.parameters()):
        values = random(*parameter.shape, seed=10 * seed + i, dtype=dtype)
        parameter.data = values.round() / 4 if quarters else values / n_inputs**0.5
    return layer


def columns(*shape: int, n_hot: int, seed: int = 0) -> Tensor | None:
    """Which one-hot inputs are 1, in some places none of them."""
    if n_hot == 0:
        return None
    return integers(*shape, low=-1, high=n_hot, seed=seed)


def integers(*shape: int, low: int = 0, high: int, seed: int = 0) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def gradients(out: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    direction = random(*out.shape, seed=99, dtype=out.dtype)
    return torch.autograd.grad(out, of, direction)


def one_hot_naive(layer: nn.Linear, x: Tensor, one_hot: Tensor | None, relu: bool) -> Tensor:
    """The layer with its one-hot inputs written out as vectors."""
    if one_hot is not None:
        n_hot = layer.in_features - x.shape[-1]
        hot = functional.one_hot(torch.where(one_hot < 0, n_hot, one_hot), n_hot + 1).sum(-2)[..., :n_hot]
        x = torch.cat([x, hot.to(x.dtype)], -1)
    y: Tensor = layer(x)
    return torch.relu(y) if relu else y


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
