"""Distributions over vectors of bounded numbers: a normal one, squashed by tanh or clipped.

In units in which low is -1 and high is 1, with the bounds' middle m and half width h:

    x ~ N(mean, exp(log_std)²),    tanh: u = tanh(x)    clip: u = x clipped to -1 .. 1,    action = m + h u

`log_prob` is that of the action itself, in the environment's units: its density, and at the ends of a clipped
one the probability of everything beyond, which an action there has (Fujita & Maeda 2018, arXiv:1802.07564).
Density of tanh: Haarnoja et al. (2018), arXiv:1801.01290, appendix C.

A number whose bounds are equal is no choice: it adds nothing to `log_prob` and entropy.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

Squash = Literal["tanh", "clip"]
_EDGE = 1 - 1e-6
"""tanh's u stays within this: at 1 the number behind it would be infinite."""
_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)
_NODES = 16


class Gaussian(NamedTuple):
    """Distributions over vectors of D numbers. mean, log_std: in units of half the bounds' width."""

    mean: Float[Tensor, "*rows D"]
    log_std: Float[Tensor, "*rows D"]
    low: Float[Tensor, "*_ D"]
    high: Float[Tensor, "*_ D"]
    squash: Squash

    @property
    def middle(self) -> Float[Tensor, "*_ D"]:
        """The middle of the bounds."""
        return 0.5 * self.high + 0.5 * self.low

    @property
    def half(self) -> Float[Tensor, "*_ D"]:
        """Half their width; 1 where it is 0."""
        half = 0.5 * self.high - 0.5 * self.low
        return torch.where(half > 0, half, 1.0)

    @property
    def is_choice(self) -> Bool[Tensor, "*_ D"]:
        """Whether there is more than one number between the bounds."""
        return self.high > self.low


def within(u: Float[Tensor, "*rows D"], low: Tensor, high: Tensor) -> Float[Tensor, "*rows D"]:
    """The numbers, from -1 .. 1, in the bounds' units; exactly the bounds at the ends and never beyond."""
    inside = (0.5 * high + 0.5 * low + u * (0.5 * high - 0.5 * low)).clamp(low, high)
    return torch.where(u <= -1, low, torch.where(u >= 1, high, inside))


def sample(gaussian: Gaussian, generator: torch.Generator) -> Float[Tensor, "*rows D"]:
    """An action of each row. The noise is drawn on the CPU, so that a seed means the same on every device."""
    mean = gaussian.mean
    noise = torch.randn(mean.shape, generator=generator).to(mean.device, mean.dtype)
    return _squashed(mean + gaussian.log_std.exp() * noise, gaussian)


def mode(gaussian: Gaussian) -> Float[Tensor, "*rows D"]:
    """The action of the normal distribution's mean."""
    return _squashed(gaussian.mean, gaussian)


def log_prob(gaussian: Gaussian, actions: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows"]:
    """The log-probability of these actions, in nats: the sum over their numbers."""
    mean, log_std, low, high, squash = gaussian
    std = log_std.exp()
    u = (actions - gaussian.middle) / gaussian.half
    if squash == "tanh":
        u = u.clamp(-_EDGE, _EDGE)
        x = u.atanh()
        each = _log_density(x, mean, log_std, std) - (1 - u * u).log()
    else:
        each = _log_density(u.clamp(-1, 1), mean, log_std, std)
    each = each - gaussian.half.log()
    if squash == "clip":
        each = torch.where(actions <= low, torch.special.log_ndtr((-1 - mean) / std), each)
        each = torch.where(actions >= high, torch.special.log_ndtr((mean - 1) / std), each)
    return torch.where(gaussian.is_choice, each, 0.0).sum(-1)


def entropy(gaussian: Gaussian) -> Float[Tensor, "*rows"]:
    """The entropy, in nats: the sum over the numbers.

    Exact for a clipped distribution; what lies at an end counts there as one outcome. For tanh, E log(1 - u²)
    is an estimate by Gauss-Hermite quadrature: it has no closed form.
    """
    mean, log_std, _, _, squash = gaussian
    std = log_std.exp()
    if squash == "tanh":
        nodes, weights = (torch.from_numpy(array).to(mean) for array in _QUADRATURE)
        x = mean[..., None] + std[..., None] * nodes
        log_slope = 2 * (math.log(2) - x - softplus(-2 * x))  # of tanh: log(1 - tanh²)
        each = log_std + _LOG_ROOT_2PI + 0.5 + (log_slope * weights).sum(-1) + gaussian.half.log()
        return torch.where(gaussian.is_choice, each, 0.0).sum(-1)
    below, above = (-1 - mean) / std, (1 - mean) / std
    log_low, log_high = torch.special.log_ndtr(below), torch.special.log_ndtr(-above)
    low, high = log_low.exp(), log_high.exp()
    moment = below * _density(below) - above * _density(above)  # ∫ z² φ over the inside, less ∫ φ
    inside = (1 - low - high).clamp(min=0.0)
    each = inside * (log_std + _LOG_ROOT_2PI + 0.5 + gaussian.half.log()) + 0.5 * moment
    each = each - low * log_low - high * log_high
    return torch.where(gaussian.is_choice, each, 0.0).sum(-1)


def _squashed(x: Float[Tensor, "*rows D"], gaussian: Gaussian) -> Float[Tensor, "*rows D"]:
    u = x.tanh().clamp(-_EDGE, _EDGE) if gaussian.squash == "tanh" else x.clamp(-1, 1)
    return within(u, gaussian.low, gaussian.high)


def _log_density(x: Tensor, mean: Tensor, log_std: Tensor, std: Tensor) -> Tensor:
    return -0.5 * ((x - mean) / std).square() - log_std - _LOG_ROOT_2PI


def _density(z: Tensor) -> Tensor:
    return (-0.5 * z * z - _LOG_ROOT_2PI).exp()


def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return nodes, weights / weights.sum()


_QUADRATURE = _quadrature()
