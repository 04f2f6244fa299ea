"""Returns and advantages on ragged steps, all on one reverse scan.

Tensors are [S, ...]: the steps of all episodes end to end, then, say, agents. `lengths` [E] int64 on the
CPU counts the steps of each episode. At step t (0 <= t < L):

    reward[t]      r_t, what came of the action at frame t
    discount[t]    gamma_t: gamma, and 0 where the step terminated the MDP (or was an agent's last)
    next_value[t]  v_{t+1}, the value of the frame that follows, the final frame's at t = L-1

An episode that was truncated bootstraps from its final frame, one that terminated from nothing: where the
discount is 0 the value is not looked at, so it may be anything, NaN included. Nothing crosses from one
episode to the next. Results keep the unit of the reward and have no gradient of their own to stop: wrap
the call in `torch.no_grad` for a target.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from endmark.episodes import ragged
from endmark.native import CONTIGUOUS, array, native, usable

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
    if usable(reward, discount, next_value) and reward.shape == discount.shape == next_value.shape:
        args = reward, discount, next_value, lengths, lambda_
        returns: Steps = _NativeLambdaReturn.apply(*args)  # type: ignore[no-untyped-call]
        return returns
    bootstrap = _select(discount, discount * next_value)
    is_last = _is_last(lengths, reward)
    constant = reward + torch.where(is_last, bootstrap, (1 - lambda_) * bootstrap)
    return _scan(lambda_ * discount, constant, lengths)


def n_step_return(reward: Steps, discount: Steps, next_value: Steps, lengths: Lengths, n: int) -> Steps:
    """The n-step return of every step, over fewer steps where the episode ends sooner.

        G_t = r_t + γ_t r_{t+1} + .. + (γ_t .. γ_{m-2}) r_{m-1} + (γ_t .. γ_{m-1}) v_m,   m = min(t + n, L)

    n = 1 is the one-step TD target, n >= L the Monte Carlo return. Sutton & Barto (2018), eq. 7.1.
    """
    if n < 1:
        raise ValueError(f"n: given {n}, want at least 1")
    left = ragged.steps_left(lengths).to(reward.device)
    factor, constant = _compose(discount, reward, lengths, n)
    last = torch.arange(len(left), device=left.device) + left.clamp(max=n - 1)
    return constant + _select(factor, factor * next_value[last])


def gae(
    reward: Steps, discount: Steps, value: Steps, next_value: Steps, lengths: Lengths, lambda_: float
) -> Steps:
    """The generalised advantage estimate of every step.

        δ_t = r_t + γ_t v_{t+1} - v_t
        A_t = δ_t + λ γ_t A_{t+1},   A_{L-1} = δ_{L-1}

    `value` is v_t. A + v is the λ-return. Schulman et al. (2016), arXiv:1506.02438, eq. 16.
    """
    td_error = reward + _select(discount, discount * next_value) - value
    return _scan(lambda_ * discount, td_error, lengths)


def _scan(factor: Steps, constant: Steps, lengths: Lengths) -> Steps:
    """y_t = constant_t + factor_t y_{t+1} within each episode, y_L = 0: the reverse scan."""
    if usable(factor, constant) and factor.shape == constant.shape:
        y: Steps = _NativeScan.apply(factor, constant, lengths)  # type: ignore[no-untyped-call]
        return y
    power_of_two = 1 << (int(lengths.max()) - 1).bit_length()  # at least the longest
    return _compose(factor, constant, lengths, power_of_two)[1]


class _NativeLambdaReturn(torch.autograd.Function):
    """In one pass over the steps."""

    @staticmethod
    def forward(
        ctx: Any, reward: Tensor, discount: Tensor, next_value: Tensor, lengths: Tensor, lambda_: float
    ) -> Tensor:
        assert native is not None
        y = torch.empty_like(reward, memory_format=CONTIGUOUS)
        native.lambda_return(*_by_step(reward, discount, next_value), array(lengths), lambda_, *_by_step(y))
        ctx.save_for_backward(discount, next_value, y)
        ctx.lengths, ctx.lambda_ = lengths, lambda_
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        discount, next_value, y = ctx.saved_tensors
        of_factor, of_constant = _scan_gradients(ctx.lambda_ * discount, y, grad, ctx.lengths)
        is_last = _is_last(ctx.lengths, y)
        share = torch.where(is_last, of_constant, (1 - ctx.lambda_) * of_constant)  # of the bootstrap
        of_discount = _select(discount, share * next_value) + ctx.lambda_ * of_factor
        return of_constant, of_discount, share * discount, None, None


class _NativeScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, factor: Tensor, constant: Tensor, lengths: Tensor) -> Tensor:
        assert native is not None
        y = torch.empty_like(constant, memory_format=CONTIGUOUS)
        native.scan_forward(*_by_step(factor, constant), array(lengths), *_by_step(y))
        ctx.save_for_backward(factor, y)
        ctx.lengths = lengths
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        factor, y = ctx.saved_tensors
        return *_scan_gradients(factor, y, grad, ctx.lengths), None


def _scan_gradients(factor: Tensor, y: Tensor, grad: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Of the factor and of the constant."""
    assert native is not None
    grads = torch.empty_like(y), torch.empty_like(y)
    native.scan_backward(*_by_step(factor, y, grad), array(lengths), *_by_step(*grads))
    return grads


def _by_step(*tensors: Tensor) -> list[Any]:
    """As the kernels take them: [S, what is left]."""
    return [array(tensor).reshape(len(tensor), -1) for tensor in tensors]


def _compose(factor: Steps, constant: Steps, lengths: Lengths, n: int) -> tuple[Steps, Steps]:
    """Compose the maps y -> constant_t + factor_t y of n steps from each step, fewer where the episode ends.

    By powers of two: about log2(n) passes over all steps at once, rather than n over one time step each.
    The order of the additions depends on n alone, so that an episode's result has the same bits in any
    company.
    """
    longest = int(lengths.max())
    left = ragged.steps_left(lengths).to(constant.device)
    shape = (-1,) + (1,) * (constant.ndim - 1)
    here = torch.arange(len(left), device=left.device)

    def then(first: tuple[Steps, Steps], width: int, second: tuple[Steps, Steps]) -> tuple[Steps, Steps]:
        """`first`, which covers `width` steps, and after it `second`, if the episode goes on that long."""
        goes_on = (left >= width).view(shape)
        at = here + torch.where(left >= width, width, 0)
        return (
            torch.where(goes_on, first[0] * second[0][at], first[0]),
            torch.where(goes_on, first[1] + _select(first[0], first[0] * second[1][at]), first[1]),
        )

    power, width = (factor, constant), 1  # the composition of `width` maps
    result, covered = power, 0
    while True:
        if n & width:
            result = then(result, covered, power) if covered else power
            covered += width
        if covered >= min(n, longest):
            return result
        if width < longest:
            power = then(power, width, power)
        width *= 2


def _select(factor: Steps, product: Steps) -> Steps:
    """The product where the factor is not zero, else 0: NaN times 0 is NaN, so it is not multiplied away."""
    return torch.where(factor == 0, 0.0, product)


def _is_last(lengths: Lengths, like: Steps) -> Tensor:
    is_last = torch.zeros(len(like), dtype=torch.bool, device=like.device)
    is_last[(lengths.cumsum(0) - 1).to(like.device)] = True
    return is_last.view((-1,) + (1,) * (like.ndim - 1))
