"""Which of the next frames is the partners' subgoal, and when a learner is told so.

    candidates  the frames t+1 .. min(t + H, L) of the same episode: none is padding, as there is no padding
    value       V(s(t), g) = mean over legal actions of Q(s(t), g, ·), for the code g of each candidate
    optimistic  the candidate of the highest value (6); conservative: of the lowest (7)

Equations by their numbers in Yu et al. (2024).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Selector = Literal["optimistic", "conservative", "random", "next"]
Over = Literal["mean", "max", "softmax"]


def state_value(
    q: Float[Tensor, "*S A"], avail_actions: Bool[Tensor, "*S A"], over: Over
) -> Float[Tensor, "*S"]:
    """A value from those of the legal actions: their mean, their maximum, or their softmax-weighted mean."""
    lowest = torch.where(avail_actions, q, -torch.inf)
    if over == "max":
        return lowest.max(-1).values
    if over == "softmax":
        weights = lowest.softmax(-1)
        return torch.where(avail_actions, weights * q, 0.0).sum(-1)
    return torch.where(avail_actions, q, 0.0).sum(-1) / avail_actions.sum(-1)


def choose(
    values: Float[Tensor, "S H"], real: Bool[Tensor, "S H"], selector: Selector, noise: Float[Tensor, "S H"]
) -> Int[Tensor, " S"]:
    """The candidate that is the subgoal of each step, 0 .. H-1; 0 where none is real.

    noise: uniform, what "random" draws by. "next" is the step's own next frame.
    """
    if selector == "conservative":
        return torch.where(real, values, torch.inf).argmin(1)
    score = {"optimistic": values, "random": noise, "next": torch.zeros_like(values)}[selector]
    return torch.where(real, score, -torch.inf).argmax(1)


def mix_share(start: float, decay_updates: int, updates: int) -> float:
    """ε of (8): how often a learner is told the selected subgoal, rather than the one that it infers."""
    return start * max(0.0, 1.0 - updates / decay_updates) if decay_updates else 0.0


def mixed(
    inferred: Float[Tensor, "S D"],
    selected: Float[Tensor, "S D"],
    has_one: Bool[Tensor, " S"],
    share: float,
    uniform: Float[Tensor, " S"],
) -> tuple[Float[Tensor, "S D"], Bool[Tensor, " S"]]:
    """(8): the selected code where a uniform number is at most the share, else the inferred one; and where.

    has_one: whether a step has a candidate at all.
    """
    told = (uniform <= share) & has_one if share > 0 else torch.zeros_like(has_one)
    return torch.where(told[:, None], selected, inferred), told
