"""A GRU over ragged episodes. `gru_unroll` alone knows how the recurrence is computed.

The recurrence is that of `torch.nn.GRUCell` (Cho et al. 2014, arXiv:1406.1078), whose parameters it uses:

    r = σ(W_ir x + b_ir + W_hr h + b_hr)
    z = σ(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
    h' = (1 - z) * n + z * h

with h = 0 before an episode's first frame.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from endmark.episodes.ragged import TimeMajor
from endmark.native import array, native, usable
from endmark.nets.gru_packed import gru_cudnn, gru_packed


def gru_unroll(cell: nn.GRUCell, x: Float[Tensor, "F N I"], packing: TimeMajor) -> Float[Tensor, "F N H"]:
    """The hidden state after every frame of every episode.

    x: the input at F ragged frames, of N sequences each (the agents).
    packing: the frames in the order of the recurrence, `EpisodeBatch.time_major`.

    On a CPU by the native kernel, on a GPU by cuDNN, elsewhere, or where no kernel was built, by torch's
    matrix products over time-major packing.
    """
    parameters = cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
    if x.is_cuda:
        return gru_cudnn(x, *parameters, packing)
    if not usable(x, *parameters):
        return gru_packed(x, *parameters, packing)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *parameters)):
        hidden: Tensor = _NativeGRU.apply(x, *parameters, packing.lengths)  # type: ignore[no-untyped-call]
        return hidden
    return _forward(packing.lengths, x, *parameters, saved=None)


def gru_unroll_naive(
    cell: nn.GRUCell, x: Float[Tensor, "F N I"], lengths: Int[Tensor, " E"]
) -> Float[Tensor, "F N H"]:
    """The same, one episode and one frame after the other: what every faster way is tested against."""
    episodes = []
    for frames in torch.split(x, (lengths + 1).tolist()):
        h = x.new_zeros(x.shape[1], cell.hidden_size)
        for frame in frames:
            h = cell(frame, h)
            episodes.append(h)
    return torch.stack(episodes)


class _NativeGRU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        lengths: Tensor,
    ) -> Float[Tensor, "F N H"]:
        saved = x.new_empty(*x.shape[:2], len(bias_hh) // 3 * 4)  # r, z, n and W_hn h + b_hn
        inputs = x, weight_ih, weight_hh, bias_ih, bias_hh
        hidden = _forward(lengths, *inputs, saved=saved)
        ctx.save_for_backward(*inputs, hidden, saved)
        ctx.lengths = lengths
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        assert native is not None
        inputs = ctx.saved_tensors
        grads = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in inputs[:5]]
        x, *others = map(array, (*inputs, grad, *grads))
        native.gru_backward(x, array(ctx.lengths), *others, torch.get_num_threads())
        return *grads, None


def _forward(lengths: Tensor, x: Tensor, *parameters: Tensor, saved: Tensor | None) -> Float[Tensor, "F N H"]:
    assert native is not None
    hidden = x.new_empty(*x.shape[:2], parameters[1].shape[1])
    for_backward = None if saved is None else array(saved)
    threads = torch.get_num_threads()
    native.gru_forward(
        array(x), array(lengths), *map(array, parameters), array(hidden), for_backward, threads
    )
    return hidden
