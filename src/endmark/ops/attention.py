"""Causal self-attention over ragged episodes, with rotary positions.

`ragged_attention` picks the implementation. For each head of size D and each frame t of an episode:

    q, k(s), v(s)     query at t; keys and values at the frames s of the same episode, t - window < s <= t
    weight(s)         softmax over s of  <R(t) q, R(s) k(s)> / sqrt(D)
    output            sum over s of weight(s) v(s)

R(t) turns each pair of numbers (i, i + D/2) by the angle t * 10000^(-2i/D), so weights depend on t - s alone.
Vaswani et al. (2017), arXiv:1706.03762; rotary positions: Su et al. (2021), arXiv:2104.09864.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from endmark.episodes.ragged import TimeMajor, ramp
from endmark.ops.attention_grouped import attention_grouped
from endmark.ops.native import CONTIGUOUS, arrays, native, usable

BASE = 10_000.0


def ragged_attention(
    qkv: Float[Tensor, "F N C"], packing: TimeMajor, *, heads: int, window: int
) -> Float[Tensor, "F N W"]:
    """The output at every frame of every episode, W = C / 3: the heads' outputs side by side.

    qkv: queries, keys and values at F ragged frames, for N sequences (agents) in each episode; each is W
        numbers, those of the first head first, W / heads an even number.
    window: the frames that a frame attends to, itself among them: at most so many, and at least one.

    On a CPU the native kernel runs each episode by itself, without padding. Elsewhere, and without the
    kernels, episodes of similar lengths go together (`attention_grouped`).
    """
    lengths, size = packing.lengths, qkv.shape[-1] // 3 // heads
    if usable(qkv):
        cos, sin = angles(torch.arange(int(lengths.max()) + 1), size, qkv.dtype)
        if torch.is_grad_enabled() and qkv.requires_grad:
            args = qkv, lengths, heads, window, cos, sin
            out: Tensor = _NativeAttention.apply(*args)  # type: ignore[no-untyped-call]
            return out
        return _forward(qkv, lengths, heads, window, cos, sin, for_backward=False)[0]
    q, k, v = qkv.view(*qkv.shape[:2], 3, heads, -1).unbind(2)
    cos, sin = angles(ramp(lengths + 1).to(qkv.device, non_blocking=True), size, qkv.dtype)
    cos, sin = cos[:, None, None], sin[:, None, None]
    turned = torch.stack([rotated(q, cos, sin), rotated(k, cos, sin), v])
    return attention_grouped(turned, lengths, window).flatten(2)


def ragged_attention_naive(
    qkv: Float[Tensor, "F N C"], lengths: Int[Tensor, " E"], *, heads: int, window: int
) -> Float[Tensor, "F N W"]:
    """A loop over episodes, frames and heads: the reference that others are tested against."""
    q, k, v = qkv.view(*qkv.shape[:2], 3, heads, -1).unbind(2)
    size, outputs, start = q.shape[-1], [], 0
    for length in lengths.tolist():
        times = torch.arange(length + 1, device=qkv.device)
        cos, sin = angles(times, size, qkv.dtype)
        for t in range(length + 1):
            past = slice(start + max(0, t - window + 1), start + t + 1)
            at = times[max(0, t - window + 1) : t + 1]
            heads_out = []
            for h in range(heads):
                query = rotated(q[start + t, :, h], cos[t], sin[t])  # [N, D]
                keys = rotated(k[past, :, h], cos[at, None], sin[at, None])  # [T, N, D]
                weight = ((keys * query).sum(-1) / size**0.5).softmax(0)
                heads_out.append((weight[..., None] * v[past, :, h]).sum(0))
            outputs.append(torch.cat(heads_out, -1))
        start += length + 1
    return torch.stack(outputs)


class _NativeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, lengths: Tensor, heads: int, window: int, cos: Tensor, sin: Tensor
    ) -> Float[Tensor, "F N W"]:
        out, saved = _forward(qkv, lengths, heads, window, cos, sin, for_backward=True)
        ctx.save_for_backward(qkv, lengths, cos, sin, out, saved)
        ctx.options = heads, window
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        assert native is not None
        qkv, lengths, cos, sin, out, saved = ctx.saved_tensors
        grad_qkv = torch.empty_like(qkv, memory_format=CONTIGUOUS)
        args = *arrays(qkv, lengths), *ctx.options, *arrays(cos, sin, out, saved, grad, grad_qkv)
        native.attention_backward(*args, torch.get_num_threads())
        return grad_qkv, None, None, None, None, None


def _forward(
    qkv: Tensor, lengths: Tensor, heads: int, window: int, cos: Tensor, sin: Tensor, *, for_backward: bool
) -> tuple[Float[Tensor, "F N W"], Float[Tensor, "F N H 2"] | None]:
    """Run the native kernel: the outputs, and what the backward pass needs of the weights."""
    assert native is not None
    n_frames, n_agents, n_columns = qkv.shape
    out = qkv.new_empty(n_frames, n_agents, n_columns // 3)
    saved = qkv.new_empty(n_frames, n_agents, heads, 2) if for_backward else None
    args = *arrays(qkv, lengths), heads, window, *arrays(cos, sin, out, saved)
    native.attention_forward(*args, torch.get_num_threads())
    return out, saved


def angles(
    times: Int[Tensor, "*rows"], size: int, dtype: torch.dtype
) -> tuple[Float[Tensor, "*rows P"], Float[Tensor, "*rows P"]]:
    """Cosine and sine of the angles by which these times turn the P = size / 2 pairs of a head."""
    # In float64, so that the angle of a late frame is exact; then in the dtype of the network.
    exponents = torch.arange(0, size, 2, dtype=torch.float64, device=times.device) / size
    turns = times[..., None] * BASE**-exponents
    return turns.cos().to(dtype), turns.sin().to(dtype)


def rotated(
    x: Float[Tensor, "*rows D"], cos: Float[Tensor, "*#rows P"], sin: Float[Tensor, "*#rows P"]
) -> Float[Tensor, "*rows D"]:
    """x with its pairs (i, i + D/2) turned; cos and sin are spread over axes of one."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
