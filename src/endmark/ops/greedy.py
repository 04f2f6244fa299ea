"""Greedy action selection, from action values or from the linear layer that computes them."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from endmark.ops.linear import linear
from endmark.ops.native import array, native, usable


def greedy(q: Float[Tensor, "*rows A"], avail_actions: Bool[Tensor, "*rows A"]) -> Int[Tensor, "*rows"]:
    """The legal action with the highest value in each row; among equal values the first.

    q: action values; NaN counts as the highest. avail_actions: True where the action is legal.
    Action 0 is returned for a row without a legal action.
    """
    if not usable(q):
        return torch.where(avail_actions, q, -torch.inf).argmax(-1)
    assert native is not None
    actions = torch.empty(q.shape[:-1], dtype=torch.int64)
    rows = -1, q.shape[-1]
    values, legal = array(q).reshape(rows), array(avail_actions).reshape(rows)
    native.greedy(values, legal, array(actions).reshape(-1), torch.get_num_threads())
    return actions


def greedy_linear(
    layer: nn.Linear, x: Float[Tensor, "*rows I"], avail_actions: Bool[Tensor, "*rows A"]
) -> Int[Tensor, "*rows"]:
    """`greedy(linear(layer, x), avail_actions)`, without gradients.

    On a CPU the action values stay in the kernel's buffer: no tensor of shape [*rows, A] is written.
    """
    if not usable(x, layer.weight, layer.bias):
        with torch.no_grad():
            return greedy(linear(layer, x), avail_actions)
    assert native is not None
    actions = torch.empty(x.shape[:-1], dtype=torch.int64)
    rows, legal = array(x).reshape(-1, x.shape[-1]), array(avail_actions).reshape(-1, avail_actions.shape[-1])
    choice = array(actions).reshape(-1)
    native.greedy_linear(rows, array(layer.weight), array(layer.bias), legal, choice, torch.get_num_threads())
    return actions
