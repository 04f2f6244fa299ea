"""The native kernels that go through rows or steps once: returns, the reverse scan and the best action."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from endmark import targets
from endmark.ops import greedy, linear, native
from endmark.ops.greedy import greedy_linear
from endmark.ops.scan import reverse_scan
from support.helpers import relative_error
from support.native_cases import (
    TOLERANCE,
    dtypes,
    gradients,
    integers,
    layer_of,
    needs_kernels,
    on_every_isa,
    random,
)

# Returns and the reverse scan.


def lambda_return_naive(
    reward: Tensor, discount: Tensor, next_value: Tensor, lengths: list[int], lambda_: float
) -> Tensor:
    returns: list[Tensor] = []
    for r, d, v in zip(*(torch.split(x, lengths) for x in (reward, discount, next_value)), strict=True):
        episode = [r[-1] + torch.where(d[-1] == 0, 0.0, d[-1] * v[-1])]
        for t in reversed(range(len(r) - 1)):
            onwards = (1 - lambda_) * v[t] + lambda_ * episode[0]
            episode.insert(0, r[t] + torch.where(d[t] == 0, 0.0, d[t] * onwards))
        returns += episode
    return torch.stack(returns)


def steps_of(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Reward, discount, which is 0 at some steps, and next value."""
    reward, discount, next_value = (random(*shape, seed=seed + i) for i in range(3))
    discount = torch.where(discount > 0.8, 0.0, discount.clamp(-1, 0.9))
    return tuple(x.to(dtype).requires_grad_() for x in (reward, discount, next_value))


@needs_kernels
@on_every_isa
@dtypes
@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 2)])
def test_lambda_return(shape: tuple[int, ...], lambda_: float, dtype: torch.dtype) -> None:
    lengths = [1, 9, 2, 30, 1, 1, 7]
    results: list[list[Tensor]] = []
    for kind in (dtype, torch.float64):
        reward, discount, next_value = inputs = steps_of(sum(lengths), *shape, dtype=kind)
        if not results:
            y = targets.lambda_return(reward, discount, next_value, torch.tensor(lengths), lambda_)
        else:
            y = lambda_return_naive(reward, discount, next_value, lengths, lambda_)
        results.append([y.detach(), *gradients(y, *inputs)])
    for a, b in zip(*results, strict=True):
        assert relative_error(a, b) < TOLERANCE[dtype]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 99),
)
def test_lambda_return_with_and_without_kernels(
    lengths: list[int], width: int, lambda_: float, seed: int
) -> None:
    lengths = [*lengths, 2]  # one step at least that another follows
    reward, discount, next_value = inputs = steps_of(sum(lengths), width, seed=seed)
    results = []
    for has_kernels in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not has_kernels:
                patch.setattr(native, "native", None)
            y = targets.lambda_return(reward, discount, next_value, torch.tensor(lengths), lambda_)
        results.append([y, *gradients(y, *inputs)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("has_kernels", [True, False])
def test_a_step_that_does_not_reach_back_may_be_anything(
    monkeypatch: pytest.MonkeyPatch, has_kernels: bool
) -> None:
    """With λ = 0 no return looks at the next one."""
    if not has_kernels:
        monkeypatch.setattr(native, "native", None)
    reward = torch.tensor([1.0, torch.nan, 2.0])
    y = targets.lambda_return(reward, torch.full((3,), 0.9), torch.ones(3), torch.tensor([3]), 0.0)
    torch.testing.assert_close(y, torch.tensor([1.9, torch.nan, 2.9]), equal_nan=True)


@needs_kernels
@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
def test_lambda_return_gradcheck(lambda_: float) -> None:
    lengths, (reward, discount, next_value) = torch.tensor([3, 1, 4]), steps_of(8, 2)
    assert (discount == 0).any()

    def returns(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
        return targets.lambda_return(reward, discount, next_value, lengths, lambda_)

    assert torch.autograd.gradcheck(returns, (reward, discount.detach(), next_value))
    smooth = random(8, 2, seed=9).requires_grad_()  # at 0 a discount's gradient is not that of its limit
    assert torch.autograd.gradcheck(returns, (reward, smooth, next_value))


@needs_kernels
@on_every_isa
@dtypes
@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
def test_lambda_return_looks_at_nothing_after_a_discount_of_zero(lambda_: float, dtype: torch.dtype) -> None:
    lengths = torch.tensor([4, 3])
    reward, discount, next_value = (random(7, 2, seed=seed, dtype=dtype).abs() for seed in range(3))
    discount[1, 0] = discount[3] = discount[6, 1] = 0.0
    want = targets.lambda_return(reward, discount, next_value, lengths, lambda_)
    next_value[discount == 0] = torch.nan
    given_ = targets.lambda_return(reward, discount, next_value, lengths, lambda_)
    assert torch.equal(given_, want)
    reward[2, 0], next_value[2, 0] = torch.nan, torch.inf  # the step after the one that ended
    given_ = targets.lambda_return(reward, discount, next_value, lengths, lambda_)
    touched = torch.zeros(7, 2, dtype=torch.bool)
    touched[2, 0] = True
    assert torch.equal(given_.isnan(), touched)
    assert torch.equal(given_[~touched], want[~touched])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 3), st.integers(0, 99))
def test_scan_with_and_without_kernels(lengths: list[int], width: int, seed: int) -> None:
    lengths = [*lengths, 2]  # one step at least whose factor counts
    shape = sum(lengths), width
    factor = torch.where(random(*shape, seed=seed + 1) > 1, 0.0, random(*shape, seed=seed)).requires_grad_()
    constant = random(*shape, seed=seed + 2).requires_grad_()
    results = []
    for has_kernels in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not has_kernels:
                patch.setattr(native, "native", None)
            y = reverse_scan(factor, constant, torch.tensor(lengths))
        results.append([y, *gradients(y, factor, constant)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@needs_kernels
def test_scan_gradcheck() -> None:
    lengths = torch.tensor([3, 1, 4])
    inputs = [random(8, 2, seed=seed).requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(lambda f, c: reverse_scan(f, c, lengths), inputs)


# The best action, by values and by the layer that gives them.


@needs_kernels
@on_every_isa
@dtypes
def test_greedy(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(-2, 3, (50, 3, 7), generator=generator).to(dtype)  # ties
    legal = torch.rand(50, 3, 7, generator=generator) < 0.4
    q[4, 0, 3], q[5, 1, :], q[6, 0, 2] = torch.nan, -torch.inf, torch.inf
    legal[4, 0, 3], legal[7] = True, False
    want = torch.where(legal, q, -torch.inf).argmax(-1)
    want[5, 1] = int(legal[5, 1].nonzero()[0])  # a legal one, where all values are -inf
    assert torch.equal(greedy(q, legal), want)
    strided = q.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(greedy(strided, legal), want)


@needs_kernels
@on_every_isa
@dtypes
@pytest.mark.parametrize(
    ("n_rows", "n_inputs", "n_actions"), [(1, 1, 1), (7, 5, 3), (97, 33, 17), (600, 64, 14), (2000, 3, 2)]
)
def test_greedy_linear(n_rows: int, n_inputs: int, n_actions: int, dtype: torch.dtype) -> None:
    legal = integers(n_rows, n_actions, high=2).bool()
    for exact in (False, True):  # and then there are ties
        layer = layer_of(n_inputs, n_actions, dtype, quarters=exact)
        x = random(n_rows, n_inputs, seed=3, dtype=dtype)
        x = x.round() if exact else x
        choice = greedy_linear(layer, x, legal)
        assert torch.equal(choice, greedy(linear(layer, x), legal))
        if exact:
            q = x.double() @ layer.weight.double().t() + layer.bias.double()
            assert torch.equal(choice, torch.where(legal, q, -torch.inf).argmax(-1))


@needs_kernels
@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 40), st.sampled_from(list(TOLERANCE)))
def test_greedy_linear_of_any_shape(n_rows: int, n_inputs: int, n_actions: int, dtype: torch.dtype) -> None:
    layer, legal = layer_of(n_inputs, n_actions, dtype), integers(n_rows, n_actions, high=2).bool()
    x = random(n_rows, n_inputs, seed=3, dtype=dtype)
    assert torch.equal(greedy_linear(layer, x, legal), greedy(linear(layer, x), legal))


@pytest.mark.parametrize("has_kernels", [True, False])
def test_greedy_linear_by_every_way(monkeypatch: pytest.MonkeyPatch, has_kernels: bool) -> None:
    """Rows of more than one axis, and of any strides; the parameters' gradients are not asked for."""
    if not has_kernels:
        monkeypatch.setattr(native, "native", None)
    layer, x = layer_of(5, 7, torch.float64), random(6, 8, 5, seed=1).transpose(0, 1).requires_grad_()
    legal = integers(6, 8, 7, high=2).bool().transpose(0, 1)
    legal[0, 0], legal[1, 0] = False, torch.arange(7) == 4
    choice = greedy_linear(layer, x, legal)
    want = torch.where(legal, layer(x), -torch.inf).argmax(-1)
    assert torch.equal(choice, want)
    assert choice[:2, 0].tolist() == [0, 4]
    assert choice.dtype == torch.int64
