"""Which stored episodes a prioritised replay draws, and what each of them then weighs in a loss.

    p_e    = η max |δ| + (1 - η) mean |δ|     over the steps of episode e
    P(e)   = p_e^α / Σ p^α
    w(e)   = (P(e) / min P)^-β                the minimum over the sample: the largest weight is 1

δ is the TD error when the episode was last learned from. With β = 1 the weights undo the preference. The 1/N
of Schaul's weight cancels in the normalised one.

Schaul et al. (2016), arXiv:1511.05952, proportional, sampled in equal parts of the total; p_e is that of
Kapturowski et al. (2019), R2D2.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

ETA = 0.9
"""Share of the maximum in an episode's priority."""
LEAST = 1e-6
"""Added to every priority, so that an episode without an error is drawn now and then."""


def of_episodes(td_error_abs: Float[Tensor, " S"], lengths: Int[Tensor, " E"]) -> Float[Tensor, " E"]:
    """The priority of each episode, from the absolute TD errors of its steps."""
    which = torch.arange(len(lengths)).repeat_interleave(lengths).to(td_error_abs.device)
    zeros = td_error_abs.new_zeros(len(lengths))
    largest = zeros.scatter_reduce(0, which, td_error_abs, "amax")
    summed = zeros.scatter_reduce(0, which, td_error_abs, "sum")
    return ETA * largest + (1 - ETA) * summed / lengths.to(td_error_abs.device) + LEAST


def probabilities(priorities: Float64[np.ndarray, " N"], exponent: float) -> Float64[np.ndarray, " N"]:
    """How likely a draw is each episode. priorities: finite, more than 0."""
    powers = priorities**exponent
    return np.asarray(powers / powers.sum())


def draw(probability: Float64[np.ndarray, " N"], n: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """n of the N episodes, one from each n-th part of the total; an episode may be drawn more than once."""
    points = (torch.arange(n) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
    ends = probability.cumsum()
    found = np.searchsorted(ends, points.numpy() * ends[-1], side="right")
    return torch.from_numpy(np.minimum(found, len(ends) - 1))  # a point may be rounded up to the total


def importance(drawn: Float64[np.ndarray, " n"], beta: float) -> Float[Tensor, " n"]:
    """The weight of each episode of a sample, by its probability; the largest is 1."""
    return torch.from_numpy((drawn / drawn.min()) ** -beta).float()
