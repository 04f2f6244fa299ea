"""Heads: the last layer, from features to a value or a logit for each action, or to a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from endmark.episodes import Bounds
from endmark.ops import greedy_linear, linear, linear_chosen
from endmark.ops.gaussian import Gaussian, Squash


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


class GaussianHead(nn.Module):
    """A distribution over vectors within bounds: its mean from features, its log std a parameter for itself.

    means: a `Head` of D outputs. Its weights are made small, so that at first all means are near the bounds'
        middle. squash: see `endmark.ops.gaussian`.
    log_std: at the start, with the least and the most that it becomes: it goes towards them and never stops.
    per_agent: one for each agent, rather than for all.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        means: nn.Module,
        bounds: Bounds,
        squash: Squash,
        *,
        log_std: tuple[float, float, float],
        per_agent: bool,
    ) -> None:
        super().__init__()
        self.means, self.squash = means, squash
        start, self._least, self._most = log_std
        share = torch.tensor((start - self._least) / (self._most - self._least)).clamp(1e-3, 1 - 1e-3)
        shape = (len(bounds.low) if per_agent else 1, bounds.size)
        self.log_std = nn.Parameter(share.logit().expand(shape).clone())
        with torch.no_grad():
            for parameter in means.parameters():
                parameter.mul_(0.01)
        for name, rows in zip(("low", "high"), bounds.tensors(), strict=True):
            self.register_buffer(name, rows, persistent=False)  # the spec's, no weights

    def distribution(self, features: Float[Tensor, "*rows N H"]) -> Gaussian:
        """The distributions."""
        mean: Tensor = self.means.outputs(features)  # type: ignore[operator]
        log_std = self._least + (self._most - self._least) * self.log_std.sigmoid()
        return Gaussian(mean, log_std.expand_as(mean), self.low, self.high, self.squash)
