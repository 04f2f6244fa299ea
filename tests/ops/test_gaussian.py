"""Bounded normal distributions against torch.distributions and integrals in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, distributions

from endmark.ops import gaussian
from endmark.ops.gaussian import Gaussian, Squash, within

SQUASHES: tuple[Squash, ...] = ("tanh", "clip")


def given(squash: Squash, *, rows: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Gaussian:
    """Means inside and outside the bounds, and deviations from small to large."""
    draws = torch.Generator().manual_seed(seed)
    mean = 1.5 * torch.randn(rows, 2, 3, generator=draws, dtype=dtype)
    log_std = -2.5 + 3 * torch.rand(rows, 2, 3, generator=draws, dtype=dtype)
    low = torch.tensor([[-1.0, 0.0, -3.0], [-2.0, 10.0, -1.0]], dtype=dtype)
    high = torch.tensor([[1.0, 4.0, -2.5], [5.0, 11.0, 1.0]], dtype=dtype)
    return Gaussian(mean, log_std, low, high, squash)


def naive_log_prob(g: Gaussian, actions: Tensor) -> Tensor:
    """By torch.distributions, number by number."""
    total = torch.zeros(actions.shape[:-1], dtype=torch.float64)
    for index in torch.cartesian_prod(*map(torch.arange, actions.shape)).tolist():
        k, n, d = index
        low, high = float(g.low[n, d]), float(g.high[n, d])
        if low == high:
            continue
        middle, half = (low + high) / 2, (high - low) / 2
        normal: Any = distributions.Normal(g.mean[k, n, d], g.log_std[k, n, d].exp())
        affine = distributions.AffineTransform(middle, half)
        action = actions[k, n, d]
        if g.squash == "tanh":
            squashed: Any = distributions.TransformedDistribution(
                normal, [distributions.TanhTransform(cache_size=1), affine]
            )
            total[k, n] += squashed.log_prob(action)
        elif action <= low:
            total[k, n] += normal.cdf(torch.tensor(-1.0, dtype=torch.float64)).log()
        elif action >= high:
            total[k, n] += (1 - normal.cdf(torch.tensor(1.0, dtype=torch.float64))).log()
        else:
            inside: Any = distributions.TransformedDistribution(normal, [affine])
            total[k, n] += inside.log_prob(action)
    return total


@pytest.mark.parametrize("squash", SQUASHES)
def test_log_prob_and_its_gradient_are_those_of_torch_distributions(squash: Squash) -> None:
    g = given(squash)
    g = g._replace(mean=g.mean.requires_grad_(), log_std=g.log_std.requires_grad_())
    actions = gaussian.sample(g, torch.Generator().manual_seed(1)).detach()
    if squash == "clip":
        assert (actions <= g.low).any()
        assert (actions >= g.high).any()
    taken, want = gaussian.log_prob(g, actions), naive_log_prob(g, actions)
    torch.testing.assert_close(taken, want, rtol=1e-7, atol=1e-6)
    for one, other in zip(
        torch.autograd.grad(taken.sum(), [g.mean, g.log_std]),
        torch.autograd.grad(want.sum(), [g.mean, g.log_std]),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("squash", SQUASHES)
def test_all_probabilities_add_up_to_one(squash: Squash) -> None:
    g = given(squash)
    one = Gaussian(g.mean[:, :1, 1:2], g.log_std[:, :1, 1:2], g.low[:1, 1:2], g.high[:1, 1:2], squash)
    cells = 200_000
    inside = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells * 4  # of 0 .. 4
    for k in range(len(one.mean)):
        row = one._replace(mean=one.mean[k], log_std=one.log_std[k])
        total = gaussian.log_prob(row, inside[:, None, None]).exp().sum() * 4 / cells
        if squash == "clip":
            ends = torch.tensor([[[0.0]], [[4.0]]], dtype=torch.float64)
            total = total + gaussian.log_prob(row, ends).exp().sum()
        assert float(total) == pytest.approx(1, abs=2e-3)


def test_the_entropy_of_a_clipped_one_is_exact() -> None:
    """By an integral over the normal variable: -log p of what it becomes, weighted by its density."""
    g = given("clip", seed=3)
    z = torch.linspace(-9, 9, 200_001, dtype=torch.float64)
    weight = (-0.5 * z * z).exp() / math.sqrt(2 * math.pi) * (z[1] - z[0])
    for k in range(3):
        row = g._replace(mean=g.mean[k : k + 1], log_std=g.log_std[k : k + 1])
        x = row.mean + row.log_std.exp() * z[:, None, None]
        actions = within(x.clamp(-1, 1), g.low, g.high)
        want = -(gaussian.log_prob(row, actions) * weight[:, None]).sum(0)
        torch.testing.assert_close(gaussian.entropy(row)[0], want, rtol=1e-4, atol=1e-4)


def test_the_entropy_of_tanh_is_estimated_closely() -> None:
    g = given("tanh", seed=4)
    z = torch.linspace(-9, 9, 200_001, dtype=torch.float64)
    weight = (-0.5 * z * z).exp() / math.sqrt(2 * math.pi) * (z[1] - z[0])
    x = g.mean[..., None] + g.log_std.exp()[..., None] * z
    half = ((g.high - g.low) / 2)[..., None]
    slope = 2 * (math.log(2) - x - torch.nn.functional.softplus(-2 * x)) + half.log()
    want = (g.log_std + 0.5 * math.log(2 * math.pi * math.e) + (slope * weight).sum(-1)).sum(-1)
    assert (gaussian.entropy(g) - want).abs().max() < 0.02


@pytest.mark.parametrize("squash", SQUASHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_means_and_tiny_deviations_stay_finite_and_within(squash: Squash, dtype: torch.dtype) -> None:
    g = given(squash, dtype=dtype)
    where = torch.tensor([-50.0, 0.0, 30.0], dtype=dtype)
    mean = where.view(3, 1, 1).expand(3, 2, 3).clone().requires_grad_()
    log_std = (-4 + 0 * g.log_std[:3]).requires_grad_()
    far = Gaussian(mean, log_std, g.low, g.high, squash)
    actions = gaussian.sample(far, torch.Generator().manual_seed(0)).detach()
    assert ((actions >= g.low) & (actions <= g.high)).all()
    assert ((gaussian.mode(far) >= g.low) & (gaussian.mode(far) <= g.high)).all()
    total = gaussian.log_prob(far, actions).sum() + gaussian.entropy(far).sum()
    for gradient in torch.autograd.grad(total, [mean, log_std]):
        assert gradient.isfinite().all()
    assert total.isfinite()


@pytest.mark.parametrize("squash", SQUASHES)
def test_a_number_without_a_choice_counts_nothing(squash: Squash) -> None:
    g = given(squash)
    low, high = g.low.clone(), g.high.clone()
    low[1, 2] = high[1, 2] = 0.25
    mean = g.mean.clone().requires_grad_()
    fixed = Gaussian(mean, g.log_std, low, high, squash)
    actions = gaussian.sample(fixed, torch.Generator().manual_seed(0)).detach()
    assert (actions[:, 1, 2] == 0.25).all()
    assert (gaussian.mode(fixed)[:, 1, 2] == 0.25).all()
    without = Gaussian(mean[:, 1:, :2], g.log_std[:, 1:, :2], low[1:, :2], high[1:, :2], squash)
    taken = gaussian.log_prob(fixed, actions)
    torch.testing.assert_close(taken[:, 1:], gaussian.log_prob(without, actions[:, 1:, :2]))
    torch.testing.assert_close(gaussian.entropy(fixed)[:, 1:], gaussian.entropy(without))
    gradient = torch.autograd.grad(taken.sum() + gaussian.entropy(fixed).sum(), mean)[0]
    assert (gradient[:, 1, 2] == 0).all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("squash", SQUASHES)
def test_draws_have_the_distributions_mean_log_prob(squash: Squash) -> None:
    """Their mean -log p is the entropy."""
    g = given(squash, seed=6)
    many = g._replace(mean=g.mean[:1].expand(40_000, -1, -1), log_std=g.log_std[:1].expand(40_000, -1, -1))
    actions = gaussian.sample(many, torch.Generator().manual_seed(2))
    taken = gaussian.log_prob(many, actions)
    error = 4 * taken.std(0) / math.sqrt(len(taken)) + 0.02
    assert ((-taken.mean(0) - gaussian.entropy(g)[0]).abs() < error).all()
