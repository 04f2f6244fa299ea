"""Several MLPs with the same input, such as QMIX's hypernetworks, which all read the state."""

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
    """The output of each MLP for the same input rows.

    x: the input.
    networks: the linear layers of each MLP. There is a ReLU between layers, none after the last.
    rows: indices of the R rows of x to use; None uses all.

    Returns one tensor [R, O] for each network; O is the size of its last layer's output.

    On a CPU one native call computes all networks, and one computes all gradients. A block of rows passes
    through every network while it is in the cache. The kernel does not compute a gradient of x; if x needs
    one, the layers run one by one.
    """
    layers = [layer for network in networks for layer in network]
    parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    if x.requires_grad or not usable(x, *parameters):
        x = x if rows is None else x[rows]
        return tuple(_mlp(x, network) for network in networks)
    depths = [len(network) for network in networks]
    if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters):
        args = x, rows, depths, *parameters
        outputs: tuple[Tensor, ...] = _NativeMLPs.apply(*args)  # type: ignore[no-untyped-call]
        return outputs
    return _forward(x, rows, depths, parameters, for_backward=False)[0]


def _mlp(x: Tensor, network: Sequence[nn.Linear]) -> Tensor:
    *hidden, last = network
    for layer in hidden:
        x = linear(layer, x, relu=True)
    return linear(last, x)


class _NativeMLPs(torch.autograd.Function):
    """Autograd for the native kernel.

    parameters: weight and bias of each layer in turn. x gets no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rows: Tensor | None, depths: list[int], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        outputs, activations = _forward(x, rows, depths, parameters, for_backward=True)
        ctx.depths = depths
        ctx.save_for_backward(x, rows, *parameters, *activations)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        assert native is not None
        x, rows, *saved = ctx.saved_tensors
        n_parameters = 2 * sum(ctx.depths)
        parameters, activations = saved[:n_parameters], saved[n_parameters:]
        grad_parameters = [torch.empty_like(p, memory_format=CONTIGUOUS) for p in parameters]
        native.mlps_backward(
            *arrays(x, rows),
            ctx.depths,
            arrays(*parameters[::2]),
            arrays(*parameters[1::2]),
            arrays(*activations),
            arrays(*grads),
            arrays(*grad_parameters[::2]),
            arrays(*grad_parameters[1::2]),
            torch.get_num_threads(),
        )
        return None, None, None, *grad_parameters


def _forward(
    x: Tensor, rows: Tensor | None, depths: list[int], parameters: Sequence[Tensor], *, for_backward: bool
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Run the native kernel: the networks' outputs, and the hidden activations of all other layers.

    The activations, after ReLU, are for the backward pass: an empty list unless `for_backward`.
    """
    assert native is not None
    weights, biases = parameters[::2], parameters[1::2]
    n_rows, last = len(x) if rows is None else len(rows), set(accumulate(depths))
    all_outputs = [
        x.new_empty(n_rows, len(bias)) if for_backward or layer in last else None
        for layer, bias in enumerate(biases, start=1)
    ]
    outputs = tuple(y for layer, y in enumerate(all_outputs, start=1) if y is not None and layer in last)
    activations = [y for layer, y in enumerate(all_outputs, start=1) if y is not None and layer not in last]
    native.mlps_forward(
        *arrays(x, rows),
        depths,
        arrays(*weights),
        arrays(*biases),
        arrays(*outputs),
        arrays(*activations) if for_backward else None,
        torch.get_num_threads(),
    )
    return outputs, activations
