"""Several small networks of one input, such as those that make QMIX's mixing weights from the state."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from endmark.ops.linear import linear
from endmark.ops.native import CONTIGUOUS, arrays, native, usable


def mlps(
    x: Float[Tensor, "F I"], networks: Sequence[Sequence[nn.Linear]], rows: Int[Tensor, " R"] | None = None
) -> tuple[Float[Tensor, "R _"], ...]:
    """The output of each network at these rows of x, or at all: its layers in turn, with ReLU between them.

    On a CPU all in one call, and one for all gradients: a block of rows goes through every network while it
    is in the cache.
    """
    layers = [layer for network in networks for layer in network]
    parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    if x.requires_grad or not usable(x, *parameters):
        x = x if rows is None else x[rows]
        return tuple(_one_by_one(x, network) for network in networks)
    depths = [len(network) for network in networks]
    if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters):
        args = x, rows, depths, *parameters
        outputs: tuple[Tensor, ...] = _NativeMLPs.apply(*args)  # type: ignore[no-untyped-call]
        return outputs
    return _forward(x, rows, depths, parameters, for_backward=False)[0]


def _one_by_one(x: Tensor, network: Sequence[nn.Linear]) -> Tensor:
    *before, last = network
    for layer in before:
        x = linear(layer, x, relu=True)
    return linear(last, x)


class _NativeMLPs(torch.autograd.Function):
    """Of x, which gets no gradient, and the weight and bias of each layer in turn."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rows: Tensor | None, depths: list[int], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        outputs, between = _forward(x, rows, depths, parameters, for_backward=True)
        ctx.depths = depths
        ctx.save_for_backward(x, rows, *parameters, *between)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        assert native is not None
        x, rows, *saved = ctx.saved_tensors
        n_parameters = 2 * sum(ctx.depths)
        parameters, between = saved[:n_parameters], saved[n_parameters:]
        of_parameters = [torch.empty_like(p, memory_format=CONTIGUOUS) for p in parameters]
        native.mlps_backward(
            *arrays(x, rows),
            ctx.depths,
            arrays(*parameters[::2]),
            arrays(*parameters[1::2]),
            arrays(*between),
            arrays(*grads),
            arrays(*of_parameters[::2]),
            arrays(*of_parameters[1::2]),
            torch.get_num_threads(),
        )
        return None, None, None, *of_parameters


def _forward(
    x: Tensor, rows: Tensor | None, depths: list[int], parameters: Sequence[Tensor], *, for_backward: bool
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """The networks' outputs; for the backward pass, those of the layers before their last, after ReLU."""
    assert native is not None
    weights, biases = parameters[::2], parameters[1::2]
    n_rows, last = len(x) if rows is None else len(rows), set(accumulate(depths))
    all_outputs = [
        x.new_empty(n_rows, len(bias)) if for_backward or layer in last else None
        for layer, bias in enumerate(biases, start=1)
    ]
    outputs = tuple(y for layer, y in enumerate(all_outputs, start=1) if y is not None and layer in last)
    between = [y for layer, y in enumerate(all_outputs, start=1) if y is not None and layer not in last]
    native.mlps_forward(
        *arrays(x, rows),
        depths,
        arrays(*weights),
        arrays(*biases),
        arrays(*outputs),
        arrays(*between) if for_backward else None,
        torch.get_num_threads(),
    )
    return outputs, between
