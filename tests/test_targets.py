from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from endmark.episodes import EpisodeBatch
from endmark.targets import gae, lambda_return, n_step_return
from support.helpers import make_spec, random_batch

Steps = list[float]


# The equations, one episode and one number after the other, in Python's float64.
# r[t], g[t] (discount), v[t] = v_{t+1} (the value of the frame that follows), all for t = 0 .. L-1.


def naive_lambda_return(r: Steps, g: Steps, v: Steps, lambda_: float) -> Steps:
    """G_t = r_t + g_t ((1 - λ) v_{t+1} + λ G_{t+1}), at the last step r + g v."""
    length = len(r)
    returns = [0.0] * length
    for t in reversed(range(length)):
        successor = v[t] if t == length - 1 else (1 - lambda_) * v[t] + lambda_ * returns[t + 1]
        returns[t] = r[t] + (g[t] * successor if g[t] else 0.0)
    return returns


def naive_n_step_return(r: Steps, g: Steps, v: Steps, n: int) -> Steps:
    """The sum of n rewards, each discounted by all discounts before it, then the value."""
    returns = []
    for t in range(len(r)):
        end = min(t + n, len(r))
        total = sum(math.prod(g[t:k]) * r[k] for k in range(t, end))
        weight = math.prod(g[t:end])
        returns.append(total + (weight * v[end - 1] if weight else 0.0))
    return returns


def naive_gae(r: Steps, g: Steps, now: Steps, v: Steps, lambda_: float) -> Steps:
    """A_t = sum over k of (product of λ g) δ_k: the sum, where the code has the recursion."""
    td_errors = [r[t] + (g[t] * v[t] if g[t] else 0.0) - now[t] for t in range(len(r))]
    return [
        sum(math.prod(lambda_ * g_j for g_j in g[t:k]) * td_errors[k] for k in range(t, len(r)))
        for t in range(len(r))
    ]


def episodes_of(steps: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    return torch.split(steps, lengths.tolist())


class Case:
    """Random steps of a ragged batch: [S], or [S, N] with agents that leave."""

    def __init__(self, seed: int, *, per_agent: bool = False, n_episodes: int = 7) -> None:
        self.batch = random_batch(seed, n_episodes=n_episodes, spec=make_spec(limit=9))
        generator = torch.Generator().manual_seed(seed)
        shape = (self.batch.n_steps, 3) if per_agent else (self.batch.n_steps,)
        self.lengths = self.batch.lengths
        discount = self.batch.agent_discount(0.9) if per_agent else self.batch.discount(0.9)
        self.discount = discount.double()
        self.reward, self.value, self.next_value = torch.randn(3, *shape, generator=generator).double()

    def naive(self, function: Callable[..., Steps], fields: Sequence[Tensor], *options: float) -> Tensor:
        """`function` on every episode and agent by itself."""
        parts = []
        flat = [field.reshape(self.batch.n_steps, -1) for field in fields]
        for episode in zip(*(episodes_of(field, self.lengths) for field in flat), strict=True):
            agents = [
                function(*(field[:, agent].tolist() for field in episode), *options)
                for agent in range(flat[0].shape[1])
            ]
            parts.append(torch.tensor(agents, dtype=torch.float64).t())
        return torch.cat(parts).view_as(fields[0])


def close(given_: Tensor, want: Tensor) -> bool:
    assert given_.shape == want.shape
    return torch.allclose(given_, want, rtol=1e-12, atol=1e-12)


seeds = pytest.mark.parametrize("seed", range(6))
per_agent = pytest.mark.parametrize("per_agent", [False, True], ids=["team", "agents"])
lambdas = pytest.mark.parametrize("lambda_", [0.0, 0.3, 0.95, 1.0])


@seeds
@per_agent
@lambdas
def test_lambda_return_is_its_equation(seed: int, per_agent: bool, lambda_: float) -> None:
    case = Case(seed, per_agent=per_agent)
    fields = case.reward, case.discount, case.next_value
    given_ = lambda_return(*fields, case.lengths, lambda_)
    assert close(given_, case.naive(naive_lambda_return, fields, lambda_))


@seeds
@per_agent
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 10, 100])
def test_n_step_return_is_its_equation(seed: int, per_agent: bool, n: int) -> None:
    case = Case(seed, per_agent=per_agent)
    fields = case.reward, case.discount, case.next_value
    given_ = n_step_return(*fields, case.lengths, n)
    assert close(given_, case.naive(naive_n_step_return, fields, n))


@seeds
@per_agent
@lambdas
def test_gae_is_its_equation(seed: int, per_agent: bool, lambda_: float) -> None:
    case = Case(seed, per_agent=per_agent)
    fields = case.reward, case.discount, case.value, case.next_value
    given_ = gae(*fields, case.lengths, lambda_)
    assert close(given_, case.naive(naive_gae, fields, lambda_))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 50), st.integers(0, 99))
def test_any_length_and_any_n(lengths: list[int], n: int, seed: int) -> None:
    """Lengths around powers of two, where a scan by doubling has its seams; discounts of all sizes."""
    generator = torch.Generator().manual_seed(seed)
    n_steps = sum(lengths)
    r, v = torch.randn(2, n_steps, generator=generator).double()
    g = torch.rand(n_steps, generator=generator).double()
    g[torch.rand(n_steps, generator=generator) < 0.1] = 0
    given_ = {
        "n-step": n_step_return(r, g, v, torch.tensor(lengths), n),
        "lambda": lambda_return(r, g, v, torch.tensor(lengths), 0.8),
    }
    want: dict[str, Steps] = {"n-step": [], "lambda": []}
    for parts in zip(*(torch.split(field, lengths) for field in (r, g, v)), strict=True):
        rewards, discounts, values = (part.tolist() for part in parts)
        want["n-step"] += naive_n_step_return(rewards, discounts, values, n)
        want["lambda"] += naive_lambda_return(rewards, discounts, values, 0.8)
    for name, returns in want.items():
        assert close(given_[name], torch.tensor(returns, dtype=torch.float64))


# Reductions.


@seeds
@per_agent
def test_reductions(seed: int, per_agent: bool) -> None:
    case = Case(seed, per_agent=per_agent)
    fields = case.reward, case.discount, case.next_value
    lengths = case.lengths
    td_target = case.reward + case.discount * case.next_value
    assert close(lambda_return(*fields, lengths, 0.0), td_target)
    assert close(n_step_return(*fields, lengths, 1), td_target)
    assert close(gae(*fields[:2], case.value, case.next_value, lengths, 0.0), td_target - case.value)
    monte_carlo = lambda_return(*fields, lengths, 1.0)
    longest = int(lengths.max())
    assert close(n_step_return(*fields, lengths, longest), monte_carlo)
    assert close(n_step_return(*fields, lengths, 10**9), monte_carlo)


@per_agent
def test_monte_carlo_looks_at_no_value_but_that_of_a_cut(per_agent: bool) -> None:
    case = Case(0, per_agent=per_agent)
    last = case.batch.last_steps
    returns = lambda_return(case.reward, case.discount, case.next_value, case.lengths, 1.0)
    other = torch.randn_like(case.next_value)
    other[last] = case.next_value[last]
    assert torch.equal(lambda_return(case.reward, case.discount, other, case.lengths, 1.0), returns)
    other[last] += 1
    shifted = lambda_return(case.reward, case.discount, other, case.lengths, 1.0) != returns
    bootstraps = (case.discount[last] != 0).view(len(last), -1)
    assert torch.equal(shifted[last].view(len(last), -1), bootstraps)
    assert bootstraps.any()
    assert not bootstraps.all()


@seeds
@per_agent
@lambdas
def test_gae_plus_value_is_the_lambda_return(seed: int, per_agent: bool, lambda_: float) -> None:
    """With one value function: v_{t+1} is the value at t+1."""
    case = Case(seed, per_agent=per_agent)
    batch = case.batch
    values = torch.randn(batch.n_frames, *case.reward.shape[1:]).double()
    value, next_value = values[batch.step_frames], values[batch.step_frames + 1]
    advantage = gae(case.reward, case.discount, value, next_value, case.lengths, lambda_)
    returns = lambda_return(case.reward, case.discount, next_value, case.lengths, lambda_)
    assert close(advantage + value, returns)


# Ends.


def test_terminated_and_truncated_by_hand() -> None:
    """Two steps of reward 1, then value 10: an end, then a cut. gamma = λ = 1/2."""
    reward = torch.ones(4)
    discount = torch.tensor([0.5, 0.0, 0.5, 0.5])
    value = torch.tensor([10.0, 10.0, 10.0, 10.0])
    lengths = torch.tensor([2, 2])
    # G_1 = 1, G_0 = 1 + (5 + G_1 / 2) / 2;  G_1 = 1 + 5, G_0 = 1 + (5 + G_1 / 2) / 2
    assert lambda_return(reward, discount, value, lengths, 0.5).tolist() == [3.75, 1.0, 5.0, 6.0]
    assert n_step_return(reward, discount, value, lengths, 1).tolist() == [6.0, 1.0, 6.0, 6.0]
    assert n_step_return(reward, discount, value, lengths, 2).tolist() == [1.5, 1.0, 4.0, 6.0]
    now = torch.tensor([2.0, 10.0, 2.0, 10.0])
    # δ = [4, -9, 4, -4]
    assert gae(reward, discount, now, value, lengths, 0.5).tolist() == [1.75, -9.0, 3.0, -4.0]


def test_an_agent_that_leaves_mid_episode() -> None:
    """What comes after its discount of 0 is not its own."""
    reward = torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    discount = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    value = torch.full((3, 2), 8.0)
    lengths = torch.tensor([3])
    assert lambda_return(reward, discount, value, lengths, 1.0).tolist() == [[15, 3], [14, 2], [12, 4]]
    assert n_step_return(reward, discount, value, lengths, 2).tolist() == [[11, 3], [14, 2], [12, 4]]
    advantage = gae(reward, discount, torch.zeros(3, 2), value, lengths, 1.0)
    assert advantage[:, 1].tolist() == [11, 2, 4]


Target = Callable[..., Tensor]

TARGETS: dict[str, Target] = {
    "lambda_return": lambda r, g, now, v, lengths: lambda_return(r, g, v, lengths, 0.7),
    "lambda_return 0": lambda r, g, now, v, lengths: lambda_return(r, g, v, lengths, 0.0),
    "lambda_return 1": lambda r, g, now, v, lengths: lambda_return(r, g, v, lengths, 1.0),
    "1-step": lambda r, g, now, v, lengths: n_step_return(r, g, v, lengths, 1),
    "3-step": lambda r, g, now, v, lengths: n_step_return(r, g, v, lengths, 3),
    "5-step": lambda r, g, now, v, lengths: n_step_return(r, g, v, lengths, 5),
    "100-step": lambda r, g, now, v, lengths: n_step_return(r, g, v, lengths, 100),
    "gae": lambda r, g, now, v, lengths: gae(r, g, now, v, lengths, 0.7),
}
targets = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@seeds
@per_agent
@targets
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_a_value_after_the_end_is_not_looked_at(
    seed: int, per_agent: bool, target: Target, poison: float
) -> None:
    case = Case(seed, per_agent=per_agent)
    clean = target(case.reward, case.discount, case.value, case.next_value, case.lengths)
    poisoned = torch.where(case.discount == 0, poison, case.next_value).requires_grad_()
    given_ = target(case.reward, case.discount, case.value, poisoned, case.lengths)
    assert (case.discount == 0).any()
    assert torch.equal(given_, clean)
    (gradient,) = torch.autograd.grad(given_.sum(), poisoned)
    assert (gradient[case.discount == 0] == 0).all()
    assert gradient.isfinite().all()


@seeds
@targets
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_company_of_an_episode_changes_no_bit(seed: int, target: Target, dtype: torch.dtype) -> None:
    case = Case(seed, n_episodes=9)
    fields = [field.to(dtype) for field in (case.reward, case.discount, case.value, case.next_value)]
    together = episodes_of(target(*fields, case.lengths), case.lengths)
    parts = [episodes_of(field, case.lengths) for field in fields]
    for e, length in enumerate(case.lengths):
        alone = target(*(part[e] for part in parts), length[None])
        assert torch.equal(alone, together[e])
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = target(*(torch.cat([part[e] for e in order]) for part in parts), case.lengths[order])
    assert torch.equal(shuffled, torch.cat([together[e] for e in order]))


@seeds
@targets
def test_nothing_crosses_from_one_episode_to_the_next(seed: int, target: Target) -> None:
    """Not even NaN."""
    case = Case(seed)
    fields = case.reward, case.discount, case.value, case.next_value
    clean = episodes_of(target(*fields, case.lengths), case.lengths)
    for e in range(case.batch.n_episodes):
        spoiled = [field.clone() for field in fields]
        for field in spoiled:
            episodes_of(field, case.lengths)[e].fill_(float("nan"))
        given_ = episodes_of(target(*spoiled, case.lengths), case.lengths)
        for other, part in enumerate(given_):
            if other == e:
                assert part.isnan().any()
            else:
                assert torch.equal(part, clean[other])


@targets
def test_float32_is_close_and_stays_float32(target: Target) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([200, 1, 37])
    fields = torch.randn(4, 238, generator=generator)
    fields[1] = 0.99
    single = target(*fields, lengths)
    double = target(*fields.double(), lengths)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), double, rtol=1e-5, atol=1e-5)


@targets
def test_inputs_are_not_written(target: Target) -> None:
    case = Case(0)
    fields = case.reward, case.discount, case.value, case.next_value
    versions = [field._version for field in fields]
    target(*fields, case.lengths)
    assert [field._version for field in fields] == versions


@pytest.mark.parametrize("n", [0, -1])
def test_n_starts_at_one(n: int) -> None:
    case = Case(0)
    with pytest.raises(ValueError, match=f"n: given {n}, want at least 1"):
        n_step_return(case.reward, case.discount, case.next_value, case.lengths, n)


# Gradients.


def test_gradients_of_gae_flow_back_in_time_only() -> None:
    """A_t depends on the value at t, and on what follows within its own episode."""
    lengths = torch.tensor([2, 3, 1])
    reward, value, next_value = torch.randn(3, 6, dtype=torch.float64).unbind()
    discount = torch.tensor([0.9, 0.0, 0.9, 0.9, 0.9, 0.0], dtype=torch.float64)
    inputs = [x.clone().requires_grad_() for x in (reward, value, next_value)]
    advantage = gae(inputs[0], discount, inputs[1], inputs[2], lengths, 0.5)
    episode = [0, 0, 1, 1, 1, 2]
    for t in range(6):
        d_reward, d_value, d_next = torch.autograd.grad(advantage[t], inputs, retain_graph=True)
        weight = [0.45 ** (k - t) if k >= t and episode[k] == episode[t] else 0.0 for k in range(6)]
        want = torch.tensor(weight, dtype=torch.float64)
        assert close(d_reward, want)
        assert close(d_value, -want)
        assert close(d_next, want * discount)


def test_a_batch_and_its_targets_by_name() -> None:
    """As a learner writes it: discounts from the batch, values from the frames that follow."""
    batch = random_batch(0)
    values = torch.arange(batch.n_frames, dtype=torch.float32)
    returns = lambda_return(
        batch.steps("reward"), batch.discount(0.5), values[batch.step_frames + 1], batch.lengths, 0.0
    )
    frame, want = 0, []
    for e, length in enumerate(batch.lengths.tolist()):
        for t in range(length):
            over = bool(batch.terminated[e]) and t == length - 1
            want.append(batch["reward"][frame + t].item() + (0.0 if over else 0.5 * (frame + t + 1)))
        frame += length + 1
    assert torch.allclose(returns, torch.tensor(want))
    assert isinstance(batch, EpisodeBatch)
