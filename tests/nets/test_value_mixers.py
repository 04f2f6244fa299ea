"""Which team values the mixers of QPLEX, QATTEN, QTRAN and weighted QMIX can have, and who counts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from endmark.episodes import EpisodeBatch
from endmark.nets import CentralMixer, JointValue, QattenMixer, QMIXMixer, QPLEXMixer
from support.helpers import make_spec, random_batch
from support.padded_oracle import perturb

N_AGENTS, N_ACTIONS = 3, 4
Table = Callable[[Tensor], Tensor]
"""From joint actions [J, N] to the team's value of each, [J]."""


def joint_actions() -> Tensor:
    return torch.tensor(list(itertools.product(range(N_ACTIONS), repeat=N_AGENTS)))


def values_of(seed: int) -> tuple[Tensor, Tensor]:
    """Values of a state's actions [N, A], and which are legal, one of each agent's at least."""
    draws = torch.Generator().manual_seed(seed)
    q = 3 * torch.randn(N_AGENTS, N_ACTIONS, generator=draws, dtype=torch.float64)
    legal = torch.rand(N_AGENTS, N_ACTIONS, generator=draws) < 0.7
    return q, legal.scatter(1, torch.randint(0, N_ACTIONS, (N_AGENTS, 1), generator=draws), True)


def qplex(seed: int, q: Tensor, legal: Tensor, counted: Tensor | None = None) -> Table:
    torch.manual_seed(seed)
    mixer = QPLEXMixer(make_spec(n_agents=N_AGENTS, n_actions=N_ACTIONS), hyper_size=7, heads=3).double()
    perturb(mixer, torch.Generator().manual_seed(seed))
    state = 2 * torch.randn(1, 4, dtype=torch.float64)
    here = torch.ones(N_AGENTS, dtype=torch.bool) if counted is None else counted

    def table(actions: Tensor) -> Tensor:
        n = len(actions)
        taken = q.expand(n, -1, -1).gather(2, actions[..., None])[..., 0]
        greedy = torch.where(legal, q, -torch.inf).amax(1).expand(n, -1)
        mixed: Tensor = mixer(taken, greedy, actions, here.expand(n, -1), state, torch.zeros(n).long())
        return mixed.detach()

    return table


def qmix(seed: int, q: Tensor) -> Table:
    torch.manual_seed(seed)
    mixer = QMIXMixer(make_spec(n_agents=N_AGENTS), embed_size=5, hyper_size=7).double()
    state = 2 * torch.randn(1, 4, dtype=torch.float64)

    def table(actions: Tensor) -> Tensor:
        taken = q.expand(len(actions), -1, -1).gather(2, actions[..., None])[..., 0]
        mixed: Tensor = mixer(taken, state.expand(len(actions), -1))
        return mixed.detach()

    return table


def ranks_actions_by_company(table: Table) -> bool:
    """Whether the order of agent 0's actions depends on what the others do: in no monotone value it does."""
    grid = table(joint_actions()).view(N_ACTIONS, -1)
    orders = grid.argsort(0)
    return bool((orders != orders[:, :1]).any())


# --- QPLEX ---


@pytest.mark.parametrize("seed", range(60))
def test_the_best_joint_action_of_qplex_is_made_of_the_agents_best(seed: int) -> None:
    """IGM: Son et al. (2019), definition 1. By enumeration, over legal actions."""
    q, legal = values_of(seed)
    joint = joint_actions()
    allowed = legal.expand(len(joint), -1, -1).gather(2, joint[..., None])[..., 0].all(1)
    totals = qplex(seed, q, legal)(joint[allowed])
    want = torch.where(legal, q, -torch.inf).argmax(1)
    assert torch.equal(joint[allowed][totals.argmax()], want)
    others = torch.cat([totals[: totals.argmax()], totals[totals.argmax() + 1 :]])
    assert (others < totals.max()).all()


@pytest.mark.parametrize("seed", range(10))
def test_the_best_joint_action_is_that_of_the_agents_who_count(seed: int) -> None:
    """The others' actions change nothing: neither their values nor the importance of those who count."""
    q, legal = values_of(seed)
    counted = torch.tensor([True, False, True])
    table = qplex(seed, q, legal, counted)
    totals = table(joint_actions()).view([N_ACTIONS] * N_AGENTS)
    assert torch.equal(totals, totals[:, :1].expand_as(totals))
    q[1] = torch.nan
    again = qplex(seed, q, legal, counted)(joint_actions()).view(totals.shape)
    assert torch.equal(again, totals)
    nobody = qplex(seed, q, legal, torch.zeros(N_AGENTS, dtype=torch.bool))(joint_actions())
    assert (nobody == 0).all()


def test_qplex_is_neither_additive_nor_monotone_and_qmix_is_monotone() -> None:
    everything = torch.ones(N_AGENTS, N_ACTIONS, dtype=torch.bool)
    found = 0
    for seed in range(30):
        q = values_of(seed)[0]
        assert not ranks_actions_by_company(qmix(seed, q))
        table = qplex(seed, q, everything)
        grid = table(joint_actions()).view(N_ACTIONS, -1)
        steps = grid[1:] - grid[:-1]
        assert not torch.allclose(steps, steps[:, :1].expand_as(steps)), "an additive one has the same step"
        found += ranks_actions_by_company(table)
    assert found >= 5


def test_the_advantage_has_no_gradient_and_the_value_has() -> None:
    """dQ_tot / dQ_i is w_i, the same for a greedy action and for another."""
    q, _ = values_of(0)
    mixer = QPLEXMixer(make_spec(n_agents=N_AGENTS, n_actions=N_ACTIONS), hyper_size=7, heads=3).double()
    state, frames = torch.randn(1, 4, dtype=torch.float64), torch.zeros(1).long()
    taken = q[:, 0][None].requires_grad_()
    largest = q.amax(1)[None].requires_grad_()
    here, actions = torch.ones(1, N_AGENTS, dtype=torch.bool), torch.zeros(1, N_AGENTS).long()
    total = mixer(taken, largest, actions, here, state, frames).sum()
    slope, none = torch.autograd.grad(total, [taken, largest], allow_unused=True)
    torch.testing.assert_close(slope, mixer.scale(state).abs() + 1e-10)
    assert none is None


# --- QATTEN ---


def qatten_of(batch: EpisodeBatch, seed: int) -> QattenMixer:
    torch.manual_seed(seed)
    mixer = QattenMixer(batch.spec, embed_size=4, hyper_size=7, heads=3).double()
    perturb(mixer, torch.Generator().manual_seed(seed))
    return mixer


def in_double(batch: EpisodeBatch) -> EpisodeBatch:
    fields = {name: t.double() if t.is_floating_point() else t for name, t in batch.fields.items()}
    return replace(batch, fields=fields, checked=True)


@pytest.mark.parametrize("seed", range(5))
def test_qatten_is_monotone_in_the_agents_that_count_and_flat_in_the_others(seed: int) -> None:
    batch = in_double(random_batch(seed + 10, n_episodes=20))
    mixer, steps = qatten_of(batch, seed), batch.step_frames
    values = torch.randn(batch.n_steps, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(mixer(values, batch, steps).sum(), values)
    here = batch.alive[steps]
    assert not here.all()
    assert (slope[here] > 0).all()
    assert (slope[~here] == 0).all()
    # The attention of each head adds up to 1 over those that count.
    of_heads = mixer.weight(batch.state[steps]).abs().sum(1)
    torch.testing.assert_close(slope.sum(1), of_heads)


def test_qatten_attends_by_state_and_by_what_the_agents_see() -> None:
    batch = in_double(random_batch(3))
    batch = replace(batch, fields={**batch.fields, "alive": torch.ones_like(batch.alive)}, checked=True)
    mixer, steps = qatten_of(batch, 3), batch.step_frames
    values = torch.randn(batch.n_steps, 3, dtype=torch.float64, requires_grad=True)

    def slope(other: EpisodeBatch) -> Tensor:
        return torch.autograd.grad(mixer(values, other, steps).sum(), values)[0]

    for field in ("obs", "state"):
        moved = replace(batch, fields={**batch.fields, field: batch[field] * 2}, checked=True)
        assert not torch.allclose(slope(moved), slope(batch)), field


@pytest.mark.parametrize("shape", [(5,), (9, 10, 3)])
def test_what_is_not_finite_reaches_no_gradient_of_qatten(shape: tuple[int, ...]) -> None:
    batch = random_batch(3, n_episodes=9, obs_shape=shape)
    mixer = QattenMixer(batch.spec, embed_size=4, hyper_size=7, heads=3)
    obs = batch.obs.clone()
    obs[~batch.alive] = torch.nan
    other = replace(batch, fields={**batch.fields, "obs": obs}, checked=True)
    values = torch.randn(batch.n_steps, 3)
    values[~batch.alive[batch.step_frames]] = torch.nan
    total = mixer(values, other, batch.step_frames).square().mean()
    gradients = torch.autograd.grad(total, list(mixer.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    nobody = torch.zeros_like(batch.alive)
    alone = replace(batch, fields={**batch.fields, "alive": nobody}, checked=True)
    bias = mixer.bias(batch.state[batch.step_frames])[:, 0]
    torch.testing.assert_close(mixer(values, alone, batch.step_frames), bias)


# --- the free ones ---


def test_a_joint_value_sums_over_the_agents_that_count() -> None:
    """Agents may change places, and what the others' features and actions are changes nothing."""
    spec = make_spec()
    networks = JointValue(spec, 6, size=8).double()
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(9, 3, 6, generator=draws, dtype=torch.float64)
    actions = torch.randint(0, 4, (9, 3), generator=draws)
    here = torch.rand(9, 3, generator=draws) < 0.6
    state, frames = torch.randn(9, 4, generator=draws, dtype=torch.float64), torch.arange(9)
    want = networks(features, actions, here, state, frames)
    places = [2, 0, 1]
    moved = networks(features[:, places], actions[:, places], here[:, places], state, frames)
    torch.testing.assert_close(moved, want)
    features[~here], actions[~here] = torch.nan, 77
    given = networks(features, actions, here, state, frames)
    assert torch.equal(given, want)
    gradients = torch.autograd.grad(given.sum(), [networks.first.weight, networks.second.weight])
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_central_mixer_is_not_monotone() -> None:
    mixer = CentralMixer(make_spec(), size=16).double()
    values = torch.randn(200, 3, dtype=torch.float64, requires_grad=True)
    state = torch.randn(200, 4, dtype=torch.float64)
    (slope,) = torch.autograd.grad(mixer(values, state, torch.arange(200)).sum(), values)
    assert (slope > 0).any()
    assert (slope < 0).any()
