"""The distribution over legal actions that logits stand for: log-probabilities, entropy, samples.

An illegal action has probability 0. Where no action is legal (an agent that has left) all count as legal, so
that every number is finite; nothing may be learned from such a row.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def log_softmax(
    logits: Float[Tensor, "*rows A"], avail_actions: Bool[Tensor, "*rows A"]
) -> Float[Tensor, "*rows A"]:
    """The log-probability of each action; -inf where it is illegal."""
    legal = avail_actions | ~avail_actions.any(-1, keepdim=True)
    return torch.where(legal, logits, -torch.inf).log_softmax(-1)


def log_prob(log_probs: Float[Tensor, "*rows A"], actions: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """The log-probability of these actions; that of action 0 where the action is negative."""
    return log_probs.gather(-1, actions.clamp(min=0)[..., None])[..., 0]


def entropy(log_probs: Float[Tensor, "*rows A"]) -> Float[Tensor, "*rows"]:
    """-Σ p log p over the legal actions, in nats."""
    legal = log_probs > -torch.inf
    finite = torch.where(legal, log_probs, 0.0)  # selected before it is multiplied: 0 times -inf is NaN
    return -torch.where(legal, finite.exp() * finite, 0.0).sum(-1)


def sample(log_probs: Float[Tensor, "*rows A"], generator: torch.Generator) -> Int[Tensor, "*rows"]:
    """An action of each row, drawn by the Gumbel-max trick (Maddison et al. 2014, arXiv:1411.0030).

    The noise is drawn on the CPU, so that a seed means the same on every device.
    """
    uniform = torch.rand(log_probs.shape, generator=generator, dtype=torch.float64)
    gumbel = -torch.log(-torch.log(uniform.clamp(min=1e-300)))
    return (log_probs + gumbel.to(log_probs.device)).argmax(-1)
