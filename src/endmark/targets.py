"""Returns and advantages on ragged steps.

Tensors are [S, ...]: the steps of all episodes end to end, then, say, agents. `lengths` [E] int64 on the
CPU counts the steps of each episode. At step t (0 <= t < L):

    reward[t]      r_t, the reward of the action at frame t
    discount[t]    γ_t: gamma, and 0 where the step terminated the MDP (or was an agent's last)
    next_value[t]  v_{t+1}, the value of the frame that follows; the final frame's at t = L-1

A truncated episode bootstraps from its final frame, a terminated one from nothing. Where the discount is 0
the value is not read, so it may be anything, NaN included. Nothing crosses from one episode to the next.

Results have the unit of the reward. Gradients flow through them: call under `torch.no_grad` for a target.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from endmark.episodes import ragged
from endmark.ops.scan import compose, reverse_scan, scan_lambda_return, select

Steps = Float[Tensor, "S *rest"]
Lengths = Int[Tensor, " E"]


def lambda_return(
    reward: Steps, discount: Steps, next_value: Steps, lengths: Lengths, lambda_: float
) -> Steps:
    """The λ-return of every step.

        G_t = r_t + γ_t ((1 - λ) v_{t+1} + λ G_{t+1}),   t = 0 .. L-2
        G_{L-1} = r_{L-1} + γ_{L-1} v_L

    λ = 0 is the one-step TD target, λ = 1 the Monte Carlo return (bootstrapped only from a truncated end).
    Sutton & Barto (2018), eq. 12.18 and section 12.8.
    """
    return scan_lambda_return(reward, discount, next_value, lengths, lambda_)


def n_step_return(reward: Steps, discount: Steps, next_value: Steps, lengths: Lengths, n: int) -> Steps:
    """The n-step return of every step, over fewer steps where the episode ends sooner.

        G_t = r_t + γ_t r_{t+1} + .. + (γ_t .. γ_{m-2}) r_{m-1} + (γ_t .. γ_{m-1}) v_m,   m = min(t + n, L)

    n = 1 is the one-step TD target, n >= L the Monte Carlo return. Sutton & Barto (2018), eq. 7.1.
    """
    if n < 1:
        raise ValueError(f"n: given {n}, want at least 1")
    left = ragged.steps_left(lengths).to(reward.device)
    factor, constant = compose(discount, reward, lengths, n)
    last = torch.arange(len(left), device=left.device) + left.clamp(max=n - 1)
    return constant + select(factor, factor * next_value[last])


def gae(
    reward: Steps, discount: Steps, value: Steps, next_value: Steps, lengths: Lengths, lambda_: float
) -> Steps:
    """The generalised advantage estimate of every step.

        δ_t = r_t + γ_t v_{t+1} - v_t
        A_t = δ_t + λ γ_t A_{t+1},   A_{L-1} = δ_{L-1}

    `value` is v_t. A + v is the λ-return. Schulman et al. (2016), arXiv:1506.02438, eq. 16.
    """
    td_error = reward + select(discount, discount * next_value) - value
    return reverse_scan(lambda_ * discount, td_error, lengths)
