"""GRU over ragged episodes.

`gru_unroll` picks the implementation: native kernel, cuDNN or plain torch. The recurrence is that of
`torch.nn.GRUCell` (Cho et al. 2014, arXiv:1406.1078), and the parameters are those of such a cell:

    r = σ(W_ir x + b_ir + W_hr h + b_hr)
    z = σ(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
    h' = (1 - z) * n + z * h

h is 0 before the first frame of an episode.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from endmark.episodes.ragged import TimeMajor
from endmark.ops.gru_packed import gru_cudnn, gru_packed
from endmark.ops.linear import linear
from endmark.ops.native import CONTIGUOUS, arrays, native, usable


def gru_unroll(
    cell: nn.GRUCell,
    x: Float[Tensor, "F N I"],
    packing: TimeMajor,
    *,
    encoder: nn.Linear | None = None,
    one_hot: Int[Tensor, "F N K"] | None = None,
) -> Float[Tensor, "F N H"]:
    """The hidden state after every frame of every episode.

    x: the input at F ragged frames, for N sequences (agents) in each episode.
    packing: the frames in time order, `EpisodeBatch.time_major`.
    encoder, one_hot: a linear layer before the recurrence. If it is given, the input of the recurrence is
        `linear(encoder, x, one_hot=one_hot, relu=True)` instead of x.

    On a CPU the native kernel runs encoder and recurrence together: the encoder's outputs are read while
    they are in the cache. On a GPU cuDNN is used. Plain torch is the fallback.

    ValueError if `one_hot` is given without `encoder`.
    """
    if one_hot is not None and encoder is None:
        raise ValueError("one_hot: given without an encoder, want an encoder that reads it")
    parameters = cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
    use_kernel = not x.is_cuda and usable(x, *parameters)
    if encoder is not None and (x.requires_grad or not use_kernel or not usable(x, *encoder.parameters())):
        x, encoder, one_hot = linear(encoder, x, one_hot=one_hot, relu=True), None, None
    if x.is_cuda:
        return gru_cudnn(x, *parameters, packing)
    if not use_kernel:
        return gru_packed(x, *parameters, packing)
    encoder_parameters = (None, None) if encoder is None else (encoder.weight, encoder.bias)
    args = x, one_hot, *encoder_parameters, *parameters, packing.lengths
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in args):
        hidden: Tensor = _NativeGRU.apply(*args)  # type: ignore[no-untyped-call]
        return hidden
    return _forward(*args, for_backward=False)[0]


def gru_advance(
    cell: nn.GRUCell,
    x: Float[Tensor, "*rows I"],
    before: Float[Tensor, "*rows H"],
    *,
    encoder: nn.Linear,
    one_hot: Int[Tensor, "*rows K"] | None = None,
) -> Float[Tensor, "*rows H"]:
    """The hidden states after one frame, from those before it.

    encoder, one_hot: as in `gru_unroll`, whose hidden states these are, frame by frame.

    On a CPU, and where no gradient is recorded, encoder and recurrence are one call of the native kernel.
    """
    parameters = encoder.weight, encoder.bias, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
    if torch.is_grad_enabled() or not usable(x, before, *parameters):
        encoded = linear(encoder, x, one_hot=one_hot, relu=True)
        hidden: Tensor = cell(encoded.flatten(0, -2), before.flatten(0, -2))
        return hidden.view_as(before)
    assert native is not None
    after = torch.empty_like(before, memory_format=CONTIGUOUS)
    obs, hot, states, out = (None if t is None else t.flatten(0, -2) for t in (x, one_hot, before, after))
    arguments = arrays(obs, hot, *parameters[:2], None, *parameters[2:], states, out)
    native.gru_advance(*arguments, torch.get_num_threads())
    return after


def gru_unroll_naive(
    cell: nn.GRUCell, x: Float[Tensor, "F N I"], lengths: Int[Tensor, " E"]
) -> Float[Tensor, "F N H"]:
    """Reference implementation: a loop over episodes and frames. Every other one is tested against it."""
    episodes = []
    for frames in torch.split(x, (lengths + 1).tolist()):
        h = x.new_zeros(x.shape[1], cell.hidden_size)
        for frame in frames:
            h = cell(frame, h)
            episodes.append(h)
    return torch.stack(episodes)


class _NativeGRU(torch.autograd.Function):
    """Autograd for the native kernel; the arguments are those of `_forward`.

    x gets a gradient only if there is no encoder.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *others: Any) -> Float[Tensor, "F N H"]:
        hidden, inputs, saved = _forward(x, *others, for_backward=True)
        ctx.save_for_backward(x, *others, hidden, inputs, saved)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        assert native is not None
        x, one_hot, *parameters, lengths, hidden, inputs, saved = ctx.saved_tensors
        encoder_parameters, cell_parameters = parameters[:2], parameters[2:]
        grads = [None if p is None else torch.empty_like(p, memory_format=CONTIGUOUS) for p in parameters]
        if encoder_parameters[0] is None:
            obs, grad_x = None, torch.empty_like(x, memory_format=CONTIGUOUS)
        else:
            obs, grad_x = x, None
        native.gru_backward(
            *arrays(_flatten_agents(obs), _flatten_agents(one_hot), *encoder_parameters),
            *arrays(inputs, lengths, *cell_parameters),
            *arrays(hidden, saved, grad, grad_x, *grads),
            torch.get_num_threads(),
        )
        return grad_x, None, *grads, None


def _forward(
    x: Tensor,
    one_hot: Tensor | None,
    encoder_weight: Tensor | None,
    encoder_bias: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    lengths: Tensor,
    *,
    for_backward: bool,
) -> tuple[Float[Tensor, "F N H"], Tensor | None, Tensor | None]:
    """Run the native kernel: hidden states, recurrence inputs [F, N, I], and saved gates [F, N, 4H].

    The inputs are the encoder's outputs, or x without an encoder. The saved gates are r, z, n and
    W_hn h + b_hn. Both are for the backward pass; unless `for_backward`, they may be None.
    """
    assert native is not None
    n_inputs, size = weight_ih.shape[1], weight_hh.shape[1]
    hidden = x.new_empty(*x.shape[:2], size)
    saved = x.new_empty(*x.shape[:2], 4 * size) if for_backward else None
    obs: Tensor | None = None
    inputs: Tensor | None = x
    if encoder_weight is not None:
        obs, inputs = x, x.new_empty(*x.shape[:2], n_inputs) if for_backward else None
    native.gru_forward(
        *arrays(_flatten_agents(obs), _flatten_agents(one_hot), encoder_weight, encoder_bias),
        *arrays(inputs, lengths),
        *arrays(weight_ih, weight_hh, bias_ih, bias_hh, hidden, saved),
        torch.get_num_threads(),
    )
    return hidden, inputs, saved


def _flatten_agents(tensor: Tensor | None) -> Tensor | None:
    """[F, N, ...] as [F N, ...]; None stays None."""
    return None if tensor is None else tensor.flatten(0, 1)
