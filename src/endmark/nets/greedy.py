"""The choice of the best legal action."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from endmark.native import native, plain, usable


def greedy(q: Float[Tensor, "*rows A"], avail_actions: Bool[Tensor, "*rows A"]) -> Int[Tensor, "*rows"]:
    """The legal action of the highest value, the first of several; 0 where nothing is legal."""
    if not usable(q):
        return torch.where(avail_actions, q, -torch.inf).argmax(-1)
    assert native is not None
    rows = -1, q.shape[-1]
    actions = torch.empty(q.shape[:-1], dtype=torch.int64)
    threads = torch.get_num_threads()
    native.greedy(plain(q).view(rows), plain(avail_actions).view(rows), actions.view(-1), threads)
    return actions
