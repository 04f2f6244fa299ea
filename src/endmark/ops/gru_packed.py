"""The recurrence of `gru.py` over frames in time-major order: through cuDNN, or through plain torch.

Episodes are sorted from long to short. The rows at time t are therefore the first rows at time t-1, and
slicing is enough to pass the hidden state on.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from endmark.episodes.ragged import TimeMajor


def gru_cudnn(
    x: Float[Tensor, "F N I"],
    weight_ih: Float[Tensor, "G I"],
    weight_hh: Float[Tensor, "G H"],
    bias_ih: Float[Tensor, " G"],
    bias_hh: Float[Tensor, " G"],
    packing: TimeMajor,
) -> Float[Tensor, "F N H"]:
    """Hidden states by `torch.gru` on a packed sequence; on a GPU that is cuDNN.

    The parameters are those of a `torch.nn.GRUCell`, G = 3H. torch wants the sizes of the packed sequence on
    the CPU, where `packing.counts` are.
    """
    n_frames, n_sequences, _ = x.shape
    size = weight_hh.shape[1]
    rows = torch.tensor(packing.counts) * n_sequences
    packed = x[packing.order].view(n_frames * n_sequences, -1)
    start = x.new_zeros(1, int(rows[0]), size)
    parameters = [weight_ih, weight_hh, bias_ih, bias_hh]
    hidden, _ = torch.gru(packed, rows, start, parameters, True, 1, 0.0, torch.is_grad_enabled(), False)
    ragged = hidden.new_empty(n_frames, n_sequences, size)
    return ragged.index_copy(0, packing.order, hidden.view(n_frames, n_sequences, size))


def gru_packed(
    x: Float[Tensor, "F N I"],
    weight_ih: Float[Tensor, "G I"],
    weight_hh: Float[Tensor, "G H"],
    bias_ih: Float[Tensor, " G"],
    bias_hh: Float[Tensor, " G"],
    packing: TimeMajor,
) -> Float[Tensor, "F N H"]:
    """Hidden states through plain torch; arguments as for `gru_cudnn`.

    A time step takes two matrix products forward and one backward. All other work is done for all frames at
    once.
    """
    gates = functional.linear(x, weight_ih, bias_ih)
    args = gates, weight_hh, bias_hh, packing.order, packing.counts
    hidden: Tensor = _PackedGRU.apply(*args)  # type: ignore[no-untyped-call]
    return hidden


class _PackedGRU(torch.autograd.Function):
    """The recurrence from the input gates W_i x + b_i on, with a backward pass of its own."""

    @staticmethod
    def forward(
        ctx: Any,
        gates: Tensor,
        weight: Tensor,
        bias: Tensor,
        order: Tensor,
        counts: list[int],
    ) -> Float[Tensor, "F N H"]:
        n_frames, n_sequences, three_h = gates.shape
        size = three_h // 3
        rows = [count * n_sequences for count in counts]
        gates = gates[order].view(-1, three_h)  # [P, 3H] with P = F N; overwritten by r, z, n below
        gates[:, : 2 * size] += bias[: 2 * size]
        hidden = gates.new_empty(len(gates), size)
        hidden_n = torch.empty_like(hidden)  # W_hn h + b_hn
        weight_rz, weight_n = torch.split(weight.t(), [2 * size, size], dim=1)
        bias_n = bias[2 * size :]
        views = zip(  # one tuple of views for each time step
            rows,
            torch.split(gates[:, : 2 * size], rows),
            *(torch.split(gate, rows) for gate in gates.chunk(3, dim=1)),
            torch.split(hidden_n, rows),
            torch.split(hidden, rows),
            strict=True,
        )
        previous = gates.new_zeros(rows[0], size)
        for n_rows, rz, r, z, n, h_n, h in views:
            previous = previous[:n_rows]
            rz.addmm_(previous, weight_rz).sigmoid_()
            torch.addmm(bias_n, previous, weight_n, out=h_n)
            n.addcmul_(r, h_n).tanh_()
            previous = torch.lerp(n, previous, z, out=h)
        ctx.save_for_backward(gates, hidden, hidden_n, weight, order)
        ctx.rows = rows
        ragged = hidden.new_empty(n_frames, n_sequences, size)
        ragged[order] = hidden.view(n_frames, n_sequences, size)
        return ragged

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        grad: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        gates, hidden, hidden_n, weight, order = ctx.saved_tensors
        n_frames, n_sequences, size = grad.shape
        rows: list[int] = ctx.rows
        grad_hidden = grad[order].reshape(-1, size)  # a copy: the loop below adds to it
        first, *later = rows
        previous = torch.cat(
            [hidden.new_zeros(first, size)]
            + [before[:n_rows] for before, n_rows in zip(torch.split(hidden, rows), later, strict=False)]
        )
        # Let g = dL/dh'. The gradient of each gate before its nonlinearity is g times a factor that does not
        # depend on g, so the factors are computed for all frames at once.
        r, z, n = gates.chunk(3, dim=1)
        to_n = (1 - z) * (1 - n * n)
        to_z = (previous - n) * z * (1 - z)
        to_r = to_n * hidden_n * r * (1 - r)
        factors = torch.stack([to_r, to_z, to_n * r], dim=1)  # [P, 3, H], for the gradient of W_h h + b_h
        grad_from_hidden = torch.empty_like(factors)
        views = list(
            zip(
                torch.split(grad_hidden, rows),
                torch.split(grad_hidden[:, None], rows),
                torch.split(z, rows),
                torch.split(factors, rows),
                torch.split(grad_from_hidden, rows),
                torch.split(grad_from_hidden.view(-1, 3 * size), rows),
                strict=True,
            )
        )
        for t in reversed(range(len(rows))):
            g, g_wide, z_now, factors_now, out, out_flat = views[t]
            torch.mul(factors_now, g_wide, out=out)
            if t > 0:
                views[t - 1][0][: rows[t]].addcmul_(g, z_now).addmm_(out_flat, weight)
        grad_gates = torch.cat([grad_from_hidden[:, :2], (grad_hidden * to_n)[:, None]], dim=1)
        ragged = grad.new_empty(n_frames, n_sequences, 3 * size)
        ragged[order] = grad_gates.view(n_frames, n_sequences, 3 * size)
        flat = grad_from_hidden.view(-1, 3 * size)
        return ragged, flat.t() @ previous, flat.sum(0), None, None
