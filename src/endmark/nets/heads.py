"""Heads: the last layer of a network, from an agent's features to a value or a logit for each action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from endmark.ops import greedy_linear, linear, linear_chosen


@runtime_checkable
class Head(Protocol):
    """Reads features [..., N, H]. Also an `nn.Module`."""

    def outputs(self, features: Float[Tensor, "*rows N H"]) -> Float[Tensor, "*rows N A"]:
        """Every output."""
        ...

    def chosen(
        self, features: Float[Tensor, "*rows N H"], index: Int[Tensor, "*rows N"]
    ) -> Float[Tensor, "*rows N"]:
        """One output of each row, without the cost of the others; 0 where the index is negative."""
        ...

    def greedy(
        self, features: Float[Tensor, "*rows N H"], avail_actions: Bool[Tensor, "*rows N A"]
    ) -> Int[Tensor, "*rows N"]:
        """The legal action with the highest output, the first of several; 0 where none is legal."""
        ...


class LinearHead(nn.Module):
    """One linear layer for all agents. A `Head`."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)

    def outputs(self, features: Float[Tensor, "*rows N H"]) -> Float[Tensor, "*rows N A"]:
        """Every output."""
        return linear(self.linear, features)

    def chosen(
        self, features: Float[Tensor, "*rows N H"], index: Int[Tensor, "*rows N"]
    ) -> Float[Tensor, "*rows N"]:
        """One output of each row; 0 where the index is negative."""
        return linear_chosen(self.linear, features, index)

    def greedy(
        self, features: Float[Tensor, "*rows N H"], avail_actions: Bool[Tensor, "*rows N A"]
    ) -> Int[Tensor, "*rows N"]:
        """The legal action with the highest output."""
        return greedy_linear(self.linear, features, avail_actions)


class IndependentHeads(nn.Module):
    """A head of its own for each agent. A `Head`."""

    def __init__(self, heads: Sequence[LinearHead]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def outputs(self, features: Float[Tensor, "*rows N H"]) -> Float[Tensor, "*rows N A"]:
        """Every output of each agent's head."""
        pairs = zip(self._heads(), features.unbind(-2), strict=True)
        return torch.stack([head.outputs(own) for head, own in pairs], -2)

    def chosen(
        self, features: Float[Tensor, "*rows N H"], index: Int[Tensor, "*rows N"]
    ) -> Float[Tensor, "*rows N"]:
        """One output of each agent's head; 0 where the index is negative."""
        parts = zip(self._heads(), features.unbind(-2), index.unbind(-1), strict=True)
        return torch.stack([head.chosen(own, its) for head, own, its in parts], -1)

    def greedy(
        self, features: Float[Tensor, "*rows N H"], avail_actions: Bool[Tensor, "*rows N A"]
    ) -> Int[Tensor, "*rows N"]:
        """The legal action with the highest output of each agent's head."""
        parts = zip(self._heads(), features.unbind(-2), avail_actions.unbind(-2), strict=True)
        return torch.stack([head.greedy(own, legal) for head, own, legal in parts], -1)

    def _heads(self) -> list[LinearHead]:
        return list(self.heads)  # type: ignore[arg-type]
