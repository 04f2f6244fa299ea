"""Several small networks of one input, such as those that make QMIX's mixing weights from the state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from endmark.native import array, native, usable
from endmark.nets.linear import linear


def branches(
    x: Float[Tensor, "R I"], networks: Sequence[Sequence[nn.Linear]]
) -> tuple[Float[Tensor, "R _"], ...]:
    """The output of each network: its layers one after the other, with ReLU between them.

    On a CPU all in one call, and one for all gradients: small layers cost less than calls do.
    """
    layers = [layer for network in networks for layer in network]
    parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    if x.requires_grad or not usable(x, *parameters):
        return tuple(_one_by_one(x, network) for network in networks)
    depths = [len(network) for network in networks]
    outputs: tuple[Tensor, ...] = _NativeBranches.apply(x, depths, *parameters)  # type: ignore[no-untyped-call]
    return outputs


def _one_by_one(x: Tensor, network: Sequence[nn.Linear]) -> Tensor:
    *before, last = network
    for layer in before:
        x = linear(layer, x, relu=True)
    return linear(last, x)


class _NativeBranches(torch.autograd.Function):
    """Of x, which gets no gradient, and the weight and bias of each layer in turn."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, depths: list[int], *parameters: Tensor) -> tuple[Tensor, ...]:
        assert native is not None
        outputs = [x.new_empty(len(x), len(bias)) for bias in parameters[1::2]]
        weights, biases = _arrays(parameters[::2]), _arrays(parameters[1::2])
        native.branches_forward(
            array(x), depths, weights, biases, _arrays(outputs), torch.get_num_threads()
        )
        ctx.depths = depths
        ctx.save_for_backward(x, *parameters, *outputs)
        ends = torch.tensor(depths).cumsum(0) - 1
        return tuple(outputs[end] for end in ends.tolist())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        assert native is not None
        x, *saved = ctx.saved_tensors
        n_layers = sum(ctx.depths)
        parameters, outputs = saved[: 2 * n_layers], saved[2 * n_layers :]
        of_parameters = [torch.empty_like(p, memory_format=torch.contiguous_format) for p in parameters]
        native.branches_backward(
            array(x),
            ctx.depths,
            _arrays(parameters[::2]),
            _arrays(parameters[1::2]),
            _arrays(outputs),
            _arrays(grads),
            _arrays(of_parameters[::2]),
            _arrays(of_parameters[1::2]),
            torch.get_num_threads(),
        )
        return None, None, *of_parameters


def _arrays(tensors: Sequence[Tensor]) -> list[Any]:
    return [array(tensor) for tensor in tensors]
