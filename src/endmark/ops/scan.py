"""The reverse scan over ragged steps, y_t = c_t + f_t y_{t+1}, and the λ-return made of it.

Shapes are those of `endmark.targets`: [S, ...] tensors, `lengths` [E] int64 on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from endmark.episodes import ragged
from endmark.ops.native import CONTIGUOUS, array, native, usable

Steps = Float[Tensor, "S *rest"]
Lengths = Int[Tensor, " E"]


def reverse_scan(factor: Steps, constant: Steps, lengths: Lengths) -> Steps:
    """y_t = constant_t + factor_t y_{t+1} within each episode, with y_L = 0."""
    if usable(factor, constant) and factor.shape == constant.shape:
        y: Steps = _NativeScan.apply(factor, constant, lengths)  # type: ignore[no-untyped-call]
        return y
    power_of_two = 1 << (int(lengths.max()) - 1).bit_length()  # at least the longest episode
    return compose(factor, constant, lengths, power_of_two)[1]


def scan_lambda_return(
    reward: Steps, discount: Steps, next_value: Steps, lengths: Lengths, lambda_: float
) -> Steps:
    """The λ-return (`targets.lambda_return`): one native pass, or a reverse scan through torch."""
    if usable(reward, discount, next_value) and reward.shape == discount.shape == next_value.shape:
        args = reward, discount, next_value, lengths, lambda_
        returns: Steps = _NativeLambdaReturn.apply(*args)  # type: ignore[no-untyped-call]
        return returns
    bootstrap = select(discount, discount * next_value)
    is_last = _is_last(lengths, reward)
    constant = reward + torch.where(is_last, bootstrap, (1 - lambda_) * bootstrap)
    return reverse_scan(lambda_ * discount, constant, lengths)


def compose(factor: Steps, constant: Steps, lengths: Lengths, n: int) -> tuple[Steps, Steps]:
    """The composition of the maps y -> constant_t + factor_t y over n steps from each step on.

    Returns its factor and its constant. Fewer steps are composed where the episode ends sooner. By powers of
    two, so that it takes about log2(n) passes over all steps. The order of the additions depends on n alone:
    an episode's result has the same bits in any company.
    """
    longest = int(lengths.max())
    left = ragged.steps_left(lengths).to(constant.device)
    shape = (-1,) + (1,) * (constant.ndim - 1)
    here = torch.arange(len(left), device=left.device)

    def then(first: tuple[Steps, Steps], width: int, second: tuple[Steps, Steps]) -> tuple[Steps, Steps]:
        """`first`, which covers `width` steps, then `second`, if the episode goes on that long."""
        goes_on = (left >= width).view(shape)
        at = here + torch.where(left >= width, width, 0)
        return (
            torch.where(goes_on, first[0] * second[0][at], first[0]),
            torch.where(goes_on, first[1] + select(first[0], first[0] * second[1][at]), first[1]),
        )

    power, width = (factor, constant), 1  # `power` is the composition of `width` maps
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


def select(factor: Steps, product: Steps) -> Steps:
    """`product` where `factor` is not 0, else 0. A product with NaN is NaN even when its factor is 0."""
    return torch.where(factor == 0, 0.0, product)


class _NativeScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, factor: Tensor, constant: Tensor, lengths: Tensor) -> Tensor:
        assert native is not None
        y = torch.empty_like(constant, memory_format=CONTIGUOUS)
        native.scan_forward(*_rows(factor, constant), array(lengths), *_rows(y))
        ctx.save_for_backward(factor, y)
        ctx.lengths = lengths
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        factor, y = ctx.saved_tensors
        return *_scan_gradients(factor, y, grad, ctx.lengths), None


class _NativeLambdaReturn(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, reward: Tensor, discount: Tensor, next_value: Tensor, lengths: Tensor, lambda_: float
    ) -> Tensor:
        assert native is not None
        y = torch.empty_like(reward, memory_format=CONTIGUOUS)
        native.lambda_return(*_rows(reward, discount, next_value), array(lengths), lambda_, *_rows(y))
        ctx.save_for_backward(discount, next_value, y)
        ctx.lengths, ctx.lambda_ = lengths, lambda_
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        discount, next_value, y = ctx.saved_tensors
        grad_factor, grad_constant = _scan_gradients(ctx.lambda_ * discount, y, grad, ctx.lengths)
        is_last = _is_last(ctx.lengths, y)
        grad_bootstrap = torch.where(is_last, grad_constant, (1 - ctx.lambda_) * grad_constant)
        grad_discount = select(discount, grad_bootstrap * next_value) + ctx.lambda_ * grad_factor
        return grad_constant, grad_discount, grad_bootstrap * discount, None, None


def _scan_gradients(factor: Tensor, y: Tensor, grad: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of a reverse scan's factor and of its constant, from that of its result."""
    assert native is not None
    grads = torch.empty_like(y), torch.empty_like(y)
    native.scan_backward(*_rows(factor, y, grad), array(lengths), *_rows(*grads))
    return grads


def _rows(*tensors: Tensor) -> list[Any]:
    """Arrays of shape [S, width], as the kernels take them."""
    return [array(tensor).reshape(len(tensor), -1) for tensor in tensors]


def _is_last(lengths: Lengths, like: Steps) -> Tensor:
    """True at each episode's last step; [S, 1, ...], to broadcast against `like`."""
    is_last = torch.zeros(len(like), dtype=torch.bool, device=like.device)
    is_last[(lengths.cumsum(0) - 1).to(like.device)] = True
    return is_last.view((-1,) + (1,) * (like.ndim - 1))
