"""One chosen output of a linear layer for each row, such as the Q-value of the action taken."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from endmark.ops.native import CONTIGUOUS, array, native, usable


def linear_chosen(
    layer: nn.Linear, x: Float[Tensor, "*rows I"], choice: Int[Tensor, "*rows"]
) -> Float[Tensor, "*rows"]:
    """`layer(x)[choice]` for each row; 0, with a gradient of 0, where the choice is negative.

    choice: indices below O, the number of the layer's outputs.

    On a CPU only the chosen outputs are computed. The other outputs have zero gradients, which are not
    written to memory either.
    """
    weight, bias = layer.weight, layer.bias
    if not usable(x, weight, bias):
        return linear_chosen_naive(layer, x, choice)
    flat, flat_choice = x.reshape(-1, x.shape[-1]), choice.reshape(-1)
    y: Tensor = _NativeChosen.apply(flat, weight, bias, flat_choice)  # type: ignore[no-untyped-call]
    return y.view(choice.shape)


def linear_chosen_naive(
    layer: nn.Linear, x: Float[Tensor, "*rows I"], choice: Int[Tensor, "*rows"]
) -> Float[Tensor, "*rows"]:
    """`linear_chosen` through torch: all outputs, then a gather."""
    none = choice < 0
    x = torch.where(none[..., None], 0.0, x)  # else NaN in x reaches the weight's gradient: 0 * NaN
    outputs = layer(x).gather(-1, choice.masked_fill(none, 0)[..., None])[..., 0]
    return torch.where(none, 0.0, outputs)


class _NativeChosen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, choice: Tensor) -> Float[Tensor, " R"]:
        assert native is not None
        ctx.save_for_backward(x, weight, bias, choice)
        y = x.new_empty(len(x))
        native.chosen_forward(*map(array, (x, weight, bias, choice, y)), torch.get_num_threads())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        assert native is not None
        inputs = ctx.saved_tensors
        grads = [torch.empty_like(t, memory_format=CONTIGUOUS) for t in inputs[:3]]
        native.chosen_backward(*map(array, (*inputs, grad, *grads)), torch.get_num_threads())
        return *grads, None
