"""Causal attention over ragged episodes in plain torch: episodes of similar lengths go together.

Shorter episodes of a group have a tail, copies of their own final frame. Frames attend to earlier ones only,
so no real frame reads a tail; the tail's outputs are dropped, so no gradient comes from there.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from endmark.episodes.ragged import frame_starts

SIMILAR = 0.75
"""An episode goes with a longer one if it has at least this share of its frames."""


def attention_grouped(
    qkv: Float[Tensor, "3 F N H D"], lengths: Int[Tensor, " E"], window: int
) -> Float[Tensor, "F N H D"]:
    """Attention of queries to keys, both turned already, at F ragged frames for N agents and H heads.

    window: the frames that a frame attends to, itself among them.
    """
    outputs, at = [], []
    for frames, real in _groups(lengths):
        n_episodes, n_frames = frames.shape
        index = frames.flatten().to(qkv.device, non_blocking=True)
        # [3, G, T, N, H, D] to three of [G N, H, T, D]
        x = qkv.index_select(1, index).view(3, n_episodes, n_frames, *qkv.shape[2:])
        q, k, v = x.permute(0, 1, 3, 4, 2, 5).flatten(1, 2)
        if n_frames <= window:
            out = scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            out = scaled_dot_product_attention(q, k, v, attn_mask=_band(n_frames, window, qkv.device))
        out = out.view(n_episodes, -1, *out.shape[1:]).permute(0, 3, 1, 2, 4).flatten(0, 1)
        kept = real.flatten().nonzero()[:, 0]
        outputs.append(out.index_select(0, kept.to(qkv.device, non_blocking=True)))
        at.append(frames.flatten()[kept])
    order = torch.cat(at)
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order))
    return torch.cat(outputs).index_select(0, inverse.to(qkv.device, non_blocking=True))


def _groups(lengths: Int[Tensor, " E"]) -> list[tuple[Int[Tensor, "G T"], Tensor]]:
    """For each group the frames of its episodes, tails included, and which of them are real."""
    order = torch.argsort(lengths, descending=True, stable=True)
    starts, groups, begin = frame_starts(lengths), [], 0
    in_order = (lengths[order] + 1).tolist()
    for end in range(1, len(in_order) + 1):
        if end == len(in_order) or in_order[end] < SIMILAR * in_order[begin]:
            episodes = order[begin:end]
            t = torch.arange(in_order[begin])
            last = lengths[episodes, None]
            groups.append((starts[episodes, None] + torch.minimum(t, last), t <= last))
            begin = end
    return groups


def _band(n_frames: int, window: int, device: torch.device) -> Tensor:
    """[T, T]: frame t may attend to frame s."""
    t = torch.arange(n_frames, device=device)
    behind = t[:, None] - t
    return (behind >= 0) & (behind < window)
