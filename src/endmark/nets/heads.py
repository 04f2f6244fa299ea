"""Heads: the last layer, from features to a value or a logit for each action, or to a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from endmark.episodes import Bounds
from endmark.nets.groups import Groups, join, split
from endmark.ops import greedy_linear, linear, linear_chosen, policy_terms
from endmark.ops.gaussian import Gaussian, Squash

Terms = tuple[Float[Tensor, "*rows N"], Float[Tensor, "*rows N"]]


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

    def terms(
        self,
        features: Float[Tensor, "*rows N H"],
        avail_actions: Bool[Tensor, "*rows N A"],
        actions: Int[Tensor, "*rows N"],
    ) -> Terms:
        """Log-probability of each action and entropy of the policy, outputs being logits of legal actions;
        both 0 where the action is negative."""
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

    def terms(
        self,
        features: Float[Tensor, "*rows N H"],
        avail_actions: Bool[Tensor, "*rows N A"],
        actions: Int[Tensor, "*rows N"],
    ) -> Terms:
        """Log-probability of each action and entropy; 0 where the action is negative."""
        return policy_terms(self.linear, features, avail_actions, actions)

    def greedy(
        self, features: Float[Tensor, "*rows N H"], avail_actions: Bool[Tensor, "*rows N A"]
    ) -> Int[Tensor, "*rows N"]:
        """The legal action with the highest output."""
        return greedy_linear(self.linear, features, avail_actions)


class IndependentHeads(nn.Module):
    """A head of its own for each group of agents. A `Head`."""

    def __init__(self, heads: Sequence[LinearHead], groups: Groups) -> None:
        super().__init__()
        self.heads, self.groups = nn.ModuleList(heads), groups

    def outputs(self, features: Float[Tensor, "*rows N H"]) -> Float[Tensor, "*rows N A"]:
        """Every output of each agent's head."""
        pairs = zip(self._heads(), split(features, self.groups, -2), strict=True)
        return join([head.outputs(own) for head, own in pairs], self.groups, -2)

    def chosen(
        self, features: Float[Tensor, "*rows N H"], index: Int[Tensor, "*rows N"]
    ) -> Float[Tensor, "*rows N"]:
        """One output of each agent's head; 0 where the index is negative."""
        of, at = split(features, self.groups, -2), split(index, self.groups, -1)
        parts = zip(self._heads(), of, at, strict=True)
        return join([head.chosen(own, its) for head, own, its in parts], self.groups, -1)

    def terms(
        self,
        features: Float[Tensor, "*rows N H"],
        avail_actions: Bool[Tensor, "*rows N A"],
        actions: Int[Tensor, "*rows N"],
    ) -> Terms:
        """Log-probability of each action and entropy, of each agent's head."""
        of, among = split(features, self.groups, -2), split(avail_actions, self.groups, -2)
        parts = zip(self._heads(), of, among, split(actions, self.groups, -1), strict=True)
        log_probs, entropies = zip(*(head.terms(*given) for head, *given in parts), strict=True)
        return join(log_probs, self.groups, -1), join(entropies, self.groups, -1)

    def greedy(
        self, features: Float[Tensor, "*rows N H"], avail_actions: Bool[Tensor, "*rows N A"]
    ) -> Int[Tensor, "*rows N"]:
        """The legal action with the highest output of each agent's head."""
        of, among = split(features, self.groups, -2), split(avail_actions, self.groups, -2)
        parts = zip(self._heads(), of, among, strict=True)
        return join([head.greedy(own, legal) for head, own, legal in parts], self.groups, -1)

    def _heads(self) -> list[LinearHead]:
        return list(self.heads)  # type: ignore[arg-type]


class GaussianHead(nn.Module):
    """A distribution over vectors within bounds: its mean from features, its log std a parameter for itself.

    means: a `Head` of D outputs. Its weights are made small, so that at first all means are near the bounds'
        middle. squash: see `endmark.ops.gaussian`.
    log_std: at the start, with the least and the most that it becomes: it goes towards them and never stops.
        One for all agents.
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
    ) -> None:
        super().__init__()
        self.means, self.squash = means, squash
        start, self._least, self._most = log_std
        share = torch.tensor((start - self._least) / (self._most - self._least)).clamp(1e-3, 1 - 1e-3)
        self.log_std = nn.Parameter(share.logit().expand(1, bounds.size).clone())
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


class IndependentGaussianHeads(nn.Module):
    """A `GaussianHead` of its own for each group of agents, in its place."""

    def __init__(self, heads: Sequence[GaussianHead], groups: Groups) -> None:
        super().__init__()
        self.heads, self.groups = nn.ModuleList(heads), groups

    def distribution(self, features: Float[Tensor, "*rows N H"]) -> Gaussian:
        """The distributions."""
        pairs = zip(self.heads, split(features, self.groups, -2), strict=True)
        given: list[Gaussian] = [head.distribution(own) for head, own in pairs]  # type: ignore[operator]
        *tensors, squashes = zip(*given, strict=True)
        mean, log_std, low, high = (join(parts, self.groups, -2) for parts in tensors)
        return Gaussian(mean, log_std, low, high, squashes[0])
