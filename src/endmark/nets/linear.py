"""A linear layer, part of whose inputs may be one-hot: these are given as indices and never written out."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from endmark.native import CONTIGUOUS, array, arrays, native, usable


def linear(
    layer: nn.Linear,
    x: Float[Tensor, "*rows I"],
    *,
    ones: Int[Tensor, "*rows K"] | None = None,
    relu: bool = False,
) -> Float[Tensor, "*rows O"]:
    """`layer` of `[x, one-hot]`, and ReLU after it if wanted.

    ones: which of the layer's inputs after those of x are 1, counted from 0; negative for none. The layer has
        as many inputs as x and all one-hot vectors together, and a bias.

    On a CPU a row's result has the same bits whatever the other rows are.
    """
    weight, bias = layer.weight, layer.bias
    if not usable(x, weight, bias):
        return _linear_torch(x, ones, weight, bias, relu)
    n_rows = x.shape[:-1].numel()  # which -1 does not tell where there are no dense inputs
    flat = x.reshape(n_rows, x.shape[-1])
    flat_ones = None if ones is None else ones.reshape(n_rows, ones.shape[-1])
    y: Tensor
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, weight, bias)):
        y = _NativeLinear.apply(flat, flat_ones, weight, bias, relu)  # type: ignore[no-untyped-call]
    else:
        y = _forward(flat, flat_ones, weight, bias, relu)
    return y.view(*x.shape[:-1], -1)


def _linear_torch(x: Tensor, ones: Tensor | None, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    y = functional.linear(x, weight[:, : x.shape[-1]], bias)
    if ones is not None:
        # Looked up in a table with a row of zeros at its end, for "none".
        table = functional.pad(weight[:, x.shape[-1] :].t(), (0, 0, 0, 1))
        y = y + functional.embedding(torch.where(ones < 0, len(table) - 1, ones), table).sum(-2)
    return torch.relu(y) if relu else y


class _NativeLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, ones: Tensor | None, weight: Tensor, bias: Tensor, relu: bool
    ) -> Float[Tensor, "R O"]:
        y = _forward(x, ones, weight, bias, relu)
        ctx.save_for_backward(x, ones, weight, bias, y)
        ctx.relu = relu
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        assert native is not None
        x, ones, weight, bias, y = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0], True, True
        grads = [
            torch.empty_like(t, memory_format=CONTIGUOUS) if want else None
            for t, want in zip((x, weight, bias), wanted, strict=True)
        ]
        threads = torch.get_num_threads()
        native.linear_backward(*arrays(x, ones, weight, bias), ctx.relu, *arrays(y, grad, *grads), threads)
        return grads[0], None, grads[1], grads[2], None


def _forward(
    x: Tensor, ones: Tensor | None, weight: Tensor, bias: Tensor, relu: bool
) -> Float[Tensor, "R O"]:
    assert native is not None
    y = x.new_empty(len(x), len(bias))
    native.linear_forward(*arrays(x, ones, weight, bias), relu, array(y), torch.get_num_threads())
    return y
