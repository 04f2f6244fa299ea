"""The choice of the best legal action."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from endmark.native import array, native, usable


def greedy(q: Float[Tensor, "*rows A"], avail_actions: Bool[Tensor, "*rows A"]) -> Int[Tensor, "*rows"]:
    """The legal action of the highest value, the first of several; 0 where nothing is legal."""
    if not usable(q):
        return torch.where(avail_actions, q, -torch.inf).argmax(-1)
    assert native is not None
    actions = torch.empty(q.shape[:-1], dtype=torch.int64)
    rows = -1, q.shape[-1]
    values, legal = array(q).reshape(rows), array(avail_actions).reshape(rows)
    native.greedy(values, legal, array(actions).reshape(-1), torch.get_num_threads())
    return actions
