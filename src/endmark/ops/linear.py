"""Linear layer with dense and one-hot inputs. One-hot inputs are given as indices, not as vectors."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from endmark.ops.native import CONTIGUOUS, array, arrays, native, usable


def linear(
    layer: nn.Linear,
    x: Float[Tensor, "*rows I"],
    *,
    one_hot: Int[Tensor, "*rows K"] | None = None,
    relu: bool = False,
) -> Float[Tensor, "*rows O"]:
    """`layer` applied to the concatenation of x and the one-hot inputs, followed by ReLU if `relu`.

    layer: a linear layer with bias, of I dense and C one-hot inputs, in this order.
    x: the dense inputs; I may be 0.
    one_hot: for each row, K indices below C of the one-hot inputs that are 1. A negative index sets none.

    On a CPU the bits of a row's result do not depend on the other rows.
    """
    weight, bias = layer.weight, layer.bias
    if not usable(x, weight, bias):
        return _linear_torch(x, one_hot, weight, bias, relu)
    n_rows = x.shape[:-1].numel()  # reshape(-1, 0) cannot infer it
    flat = x.reshape(n_rows, x.shape[-1])
    flat_one_hot = None if one_hot is None else one_hot.reshape(n_rows, one_hot.shape[-1])
    y: Tensor
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, weight, bias)):
        y = _NativeLinear.apply(flat, flat_one_hot, weight, bias, relu)  # type: ignore[no-untyped-call]
    else:
        y = _forward(flat, flat_one_hot, weight, bias, relu)
    return y.view(*x.shape[:-1], -1)


def _linear_torch(x: Tensor, one_hot: Tensor | None, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    y = functional.linear(x, weight[:, : x.shape[-1]], bias)
    if one_hot is not None:
        # The last row of the table is zero; negative indices select it.
        table = functional.pad(weight[:, x.shape[-1] :].t(), (0, 0, 0, 1))
        y = y + functional.embedding(torch.where(one_hot < 0, len(table) - 1, one_hot), table).sum(-2)
    return torch.relu(y) if relu else y


class _NativeLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, one_hot: Tensor | None, weight: Tensor, bias: Tensor, relu: bool
    ) -> Float[Tensor, "R O"]:
        y = _forward(x, one_hot, weight, bias, relu)
        ctx.save_for_backward(x, one_hot, weight, bias, y)
        ctx.relu = relu
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        assert native is not None
        x, one_hot, weight, bias, y = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0], True, True
        grads = [
            torch.empty_like(t, memory_format=CONTIGUOUS) if want else None
            for t, want in zip((x, weight, bias), wanted, strict=True)
        ]
        threads = torch.get_num_threads()
        native.linear_backward(*arrays(x, one_hot, weight, bias), ctx.relu, *arrays(y, grad, *grads), threads)
        return grads[0], None, grads[1], grads[2], None


def _forward(
    x: Tensor, one_hot: Tensor | None, weight: Tensor, bias: Tensor, relu: bool
) -> Float[Tensor, "R O"]:
    assert native is not None
    y = x.new_empty(len(x), len(bias))
    native.linear_forward(*arrays(x, one_hot, weight, bias), relu, array(y), torch.get_num_threads())
    return y
