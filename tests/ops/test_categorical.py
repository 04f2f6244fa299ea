"""The distribution over legal actions against one written row by row in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from endmark.ops.categorical import entropy, log_prob, log_softmax, sample

Row = tuple[list[float], list[bool]]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def probabilities_naive(logits: list[float], legal: list[bool]) -> list[float]:
    """Softmax over the legal actions; over all where none is legal."""
    if not any(legal):
        legal = [True] * len(legal)
    top = max(logit for logit, ok in zip(logits, legal, strict=True) if ok)
    weights = [math.exp(logit - top) if ok else 0.0 for logit, ok in zip(logits, legal, strict=True)]
    return [weight / sum(weights) for weight in weights]


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    n_actions = draw(st.integers(1, 6))
    logits = st.lists(st.floats(-30, 30), min_size=n_actions, max_size=n_actions)
    legal = st.lists(st.booleans(), min_size=n_actions, max_size=n_actions)
    return draw(st.lists(st.tuples(logits, legal), min_size=1, max_size=6))


def tensors(given_: list[Row]) -> tuple[Tensor, Tensor]:
    logits, legal = zip(*given_, strict=True)
    return torch.tensor(logits, dtype=torch.float64), torch.tensor(legal)


@given(rows())
def test_against_the_naive_rows(given_: list[Row]) -> None:
    logits, legal = tensors(given_)
    log_probs = log_softmax(logits, legal)
    want = torch.tensor([probabilities_naive(*row) for row in given_], dtype=torch.float64)
    torch.testing.assert_close(log_probs.exp(), want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(len(given_), dtype=torch.float64))
    assert torch.equal(log_probs == -torch.inf, want == 0)
    entropies = [-sum(p * math.log(p) for p in row if p > 0) for row in want.tolist()]
    torch.testing.assert_close(entropy(log_probs), torch.tensor(entropies, dtype=torch.float64))
    for action in range(logits.shape[1]):
        actions = torch.full((len(given_),), action)
        assert torch.equal(log_prob(log_probs, actions), log_probs[:, action])


@given(rows(), st.integers(0, 99))
def test_the_logits_of_illegal_actions_do_not_matter(given_: list[Row], seed: int) -> None:
    """Whatever they are, in value and in gradient; and gradients are finite."""
    logits, legal = tensors(given_)
    counts = legal | ~legal.any(-1, keepdim=True)
    actions = sample(log_softmax(logits, legal), generator(seed))
    results = []
    for other in (0.0, torch.nan, torch.inf, -torch.inf, 1e30):
        changed = torch.where(counts, logits, other).requires_grad_()
        log_probs = log_softmax(changed, legal)
        outputs = entropy(log_probs), log_prob(log_probs, actions)
        gradients = [torch.autograd.grad(y.sum(), changed, retain_graph=True)[0] for y in outputs]
        for tensor in (*outputs, *gradients):
            assert tensor.isfinite().all()
        for gradient in gradients:
            assert (gradient[~counts] == 0).all()
        results.append([*outputs, *gradients])
    for result in results[1:]:
        for one, first in zip(result, results[0], strict=True):
            assert torch.equal(one, first)


def test_gradients_of_entropy_are_those_of_its_definition() -> None:
    logits = torch.randn(5, 4, generator=generator(), dtype=torch.float64, requires_grad=True)
    legal = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()
    (given_,) = torch.autograd.grad(entropy(log_softmax(logits, legal)).sum(), logits)
    for row, (some, gradient) in enumerate(zip(legal, given_, strict=True)):
        some = some if some.any() else ~some
        own = logits[row].detach()[some].requires_grad_()
        p = own.softmax(-1)
        (want,) = torch.autograd.grad(-(p * p.log()).sum(), own)
        torch.testing.assert_close(gradient[some], want)
        assert (gradient[~some] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_without_a_legal_action_are_finite(dtype: torch.dtype) -> None:
    logits = torch.randn(3, 4, dtype=dtype)
    log_probs = log_softmax(logits, torch.zeros(3, 4, dtype=torch.bool))
    torch.testing.assert_close(log_probs, logits.log_softmax(-1))
    assert entropy(log_probs).isfinite().all()
    assert log_prob(log_probs, torch.tensor([-1, 0, 3])).isfinite().all()
    assert ((sample(log_probs, generator()) >= 0) & (sample(log_probs, generator()) < 4)).all()


def test_no_action_has_the_log_probability_of_action_0() -> None:
    """-1, which stands where nobody acts."""
    log_probs = torch.randn(2, 3, 4).log_softmax(-1)
    assert torch.equal(log_prob(log_probs, torch.full((2, 3), -1)), log_probs[..., 0])


def test_samples_are_legal_and_as_frequent_as_they_are_probable() -> None:
    """200,000 draws a row: within five standard deviations, which are at most 0.0012."""
    logits = torch.tensor([[0.0, 1.0, 5.0, -1.0], [2.0, 2.0, 9.0, 2.0], [0.0, 0.0, 0.0, 3.0]])
    legal = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()
    log_probs = log_softmax(logits, legal)
    n = 200_000
    actions = sample(log_probs.expand(n, -1, -1), generator())
    shares = torch.stack([torch.bincount(actions[:, row], minlength=4) / n for row in range(3)])
    torch.testing.assert_close(shares, log_probs.exp(), rtol=0, atol=0.006)
    assert (shares[log_probs == -torch.inf] == 0).all()
    # Rows are drawn independently of one another.
    both = ((actions[:, 0] == 0) & (actions[:, 2] == 3)).float().mean()
    assert float(both) == pytest.approx(float((log_probs[0, 0] + log_probs[2, 3]).exp()), abs=0.006)


def test_a_seed_draws_the_same_and_leaves_torch_s_own_generator_alone() -> None:
    log_probs = torch.randn(50, 4).log_softmax(-1)
    before = torch.get_rng_state()
    draws = [sample(log_probs, generator(seed)) for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.get_rng_state(), before)
