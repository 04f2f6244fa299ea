"""QMIX's mixing network, whose weights differ from step to step."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from endmark.ops.native import CONTIGUOUS, array, native, usable


def monotone_mix(
    values: Float[Tensor, "S N"],
    weight_1: Float[Tensor, "S NE"],
    bias_1: Float[Tensor, "S E"],
    weight_2: Float[Tensor, "S E"],
    bias_2: Float[Tensor, " S"],
) -> Float[Tensor, " S"]:
    """The mixed value of each step, |W_2|ᵀ elu(|W_1| q + b_1) + b_2.

    values: q, the agents' values.
    weight_1: W_1 of shape [N, E], flattened to one row a step.

    Rashid et al. (2018), arXiv:1803.11485, figure 2.
    """
    args = values, weight_1, bias_1, weight_2, bias_2
    if not usable(*args):
        return monotone_mix_naive(*args)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in args):
        mixed: Tensor = _NativeMix.apply(*args)  # type: ignore[no-untyped-call]
        return mixed
    return _forward(*args)


def monotone_mix_naive(
    values: Float[Tensor, "S N"],
    weight_1: Float[Tensor, "S NE"],
    bias_1: Float[Tensor, "S E"],
    weight_2: Float[Tensor, "S E"],
    bias_2: Float[Tensor, " S"],
) -> Float[Tensor, " S"]:
    """`monotone_mix` through torch."""
    weight_1 = weight_1.abs().view(*values.shape, -1)
    hidden = functional.elu((values[:, :, None] * weight_1).sum(1) + bias_1)
    return (hidden * weight_2.abs()).sum(-1) + bias_2


class _NativeMix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Tensor) -> Float[Tensor, " S"]:
        ctx.save_for_backward(*args)
        return _forward(*args)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        assert native is not None
        inputs = ctx.saved_tensors
        grads = [torch.empty_like(t, memory_format=CONTIGUOUS) for t in inputs[:4]]
        native.mix_backward(*map(array, (*inputs, grad, *grads)), torch.get_num_threads())
        return *grads, grad


def _forward(*args: Tensor) -> Float[Tensor, " S"]:
    assert native is not None
    y = args[0].new_empty(len(args[0]))
    native.mix_forward(*map(array, (*args, y)), torch.get_num_threads())
    return y
