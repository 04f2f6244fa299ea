"""The pieces of OMG: what a learner sees, what acts, subgoals among candidates, divergences."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from endmark.algorithms.omg.prior import gaussian_kl, standard_kl
from endmark.algorithms.omg.selecting import Over, Selector, choose, mix_share, mixed, state_value
from endmark.algorithms.omg.view import View, of_batch, of_seen
from endmark.policies.memory import renew_
from support.helpers import garbage
from support.seated import MODELS, double, in_double, make_omg, seated_batch, seen_at

# What is seen.


@pytest.mark.parametrize("goal_of", ["obs", "state"])
@pytest.mark.parametrize("state", [True, False])
def test_a_frame_looks_the_same_while_acting_and_while_learning(goal_of: Any, state: bool) -> None:
    batch = seated_batch(1, state=state)
    frames = torch.arange(batch.n_frames)
    learning = of_batch(batch, goal_of)
    acting = of_seen(seen_at(batch, frames), goal_of)
    for name, one, other in zip(View._fields, learning, acting, strict=True):
        assert torch.equal(one, other), name


def test_a_view_holds_the_learners_own_seat() -> None:
    batch = seated_batch(2)
    view = of_batch(batch, "obs")
    starts = batch.first_frames.tolist()
    for e, (start, length) in enumerate(zip(starts, batch.lengths.tolist(), strict=True)):
        (seat,) = batch["learns"][start].nonzero()[:, 0].tolist()
        for f in range(start, start + length + 1):
            assert torch.equal(view.goal_obs[f], batch.obs[f, seat])
            assert view.obs[f, -batch.spec.n_agents :].tolist() == [
                float(n == seat) for n in range(batch.spec.n_agents)
            ]
            for n in range(batch.spec.n_agents):
                last = -1 if f == start else int(batch["actions"][f - 1, n])
                now = -1 if f == start + length else int(batch["actions"][f, n])
                own = n == seat
                hidden = own or not batch.alive[f, n]  # an agent that has left does nothing
                assert bool(view.others[f, n]) == (not hidden)
                assert int(view.others_last[f, n]) == (-1 if hidden else last), e
                assert int(view.others_now[f, n]) == (-1 if hidden else now)
                assert int(view.partner[f, n]) == (-1 if own else int(batch["partner"][start, n]))
                if own:
                    assert int(view.own_last[f]) == last


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("agent", ["gru", "attention", "feedforward"])
@pytest.mark.parametrize("goal_of", ["obs", "state"])
def test_what_acts_is_what_learns(model: Any, agent: Any, goal_of: Any, tmp_path: Path) -> None:
    """Features and beliefs frame by frame, in rows that start episodes at other times, are those at once."""
    batch = in_double(seated_batch(3, n_episodes=5))
    learner = double(make_omg(tmp_path, batch.spec, model=model, agent=agent, goal_of=goal_of))
    actor = learner.actor
    view = of_batch(batch, goal_of)
    with torch.no_grad():
        features = actor.unroll(view, batch.time_major)
        belief = actor.model(view, batch.time_major)
    queues = [[], []]  # type: ignore[var-annotated]
    for e, (start, length) in enumerate(
        zip(batch.first_frames.tolist(), batch.lengths.tolist(), strict=True)
    ):
        queues[e % 2] += range(start, start + length + 1)
    memory, start_memory = actor.start(2), actor.start(2)
    for row in itertools.zip_longest(*queues):
        frames = torch.tensor([q[-1] if f is None else f for f, q in zip(row, queues, strict=True)])
        seen = seen_at(batch, frames)
        with torch.no_grad():
            renew_(memory, start_memory, seen.first)
            now, believed, memory = actor.advance(of_seen(seen, goal_of), memory)
        for k, f in enumerate(row):
            if f is not None:
                torch.testing.assert_close(now[k], features[f], rtol=1e-10, atol=1e-10)
                torch.testing.assert_close(believed.code[k], belief.code[f], rtol=1e-10, atol=1e-10)


# Pieces.


@pytest.mark.parametrize("over", ["mean", "max", "softmax"])
def test_a_state_value_is_that_of_the_legal_actions(over: Over) -> None:
    draws = torch.Generator().manual_seed(0)
    q = torch.randn(30, 4, generator=draws, dtype=torch.float64)
    legal = torch.rand(30, 4, generator=draws) < 0.5
    legal[:, 1] = True
    poisoned = torch.where(legal, q, torch.nan)
    for row, which, value in zip(q, legal, state_value(poisoned, legal, over), strict=True):
        own = row[which]
        want = {"mean": own.mean(), "max": own.max(), "softmax": (own.softmax(0) * own).sum()}[over]
        torch.testing.assert_close(value, want)


@pytest.mark.parametrize("selector", ["optimistic", "conservative", "random", "next"])
def test_a_candidate_is_chosen_among_the_real_ones(selector: Selector) -> None:
    draws = torch.Generator().manual_seed(1)
    for _ in range(50):
        values = torch.randn(9, 5, generator=draws)
        real = torch.arange(5) < torch.randint(0, 6, (9, 1), generator=draws)
        values[~real] = garbage(values[~real], draws)  # which may be better than all, or NaN
        noise = torch.rand(9, 5, generator=draws)
        chosen = choose(values, real, selector, noise)
        for s, k in enumerate(chosen.tolist()):
            own = [i for i in range(5) if real[s, i]]
            if not own:
                assert k == 0
                continue
            key: Any = {
                "optimistic": lambda i, v=values[s]: (-float(v[i]), i),
                "conservative": lambda i, v=values[s]: (float(v[i]), i),
                "random": lambda i, v=noise[s]: (-float(v[i]), i),
                "next": lambda i: (i,),
            }[selector]
            assert k == min(own, key=key)


def test_a_random_candidate_is_uniform() -> None:
    real = torch.tensor([[True, True, True, False]]).expand(30_000, -1)
    noise = torch.rand(30_000, 4, generator=torch.Generator().manual_seed(2))
    chosen = choose(torch.zeros(30_000, 4), real, "random", noise)
    share = torch.bincount(chosen, minlength=4) / 30_000
    torch.testing.assert_close(share, torch.tensor([1 / 3, 1 / 3, 1 / 3, 0]), rtol=0, atol=0.01)


def test_divergences_are_those_of_torch() -> None:
    draws = torch.Generator().manual_seed(3)
    mean, log_var, other, other_log = (
        torch.randn(20, 6, generator=draws, dtype=torch.float64) for _ in range(4)
    )
    normal = torch.distributions.Normal
    one = normal(mean, (0.5 * log_var).exp())
    two = normal(other, (0.5 * other_log).exp())
    want = torch.distributions.kl_divergence(one, two).sum(1)
    torch.testing.assert_close(gaussian_kl(mean, log_var, other, other_log), want)
    standard = torch.distributions.kl_divergence(one, normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(standard_kl(mean, log_var), standard.double())


def test_the_share_of_selected_subgoals_falls_to_nothing() -> None:
    assert [mix_share(0.5, 100, u) for u in (0, 50, 100, 200)] == [0.5, 0.25, 0.0, 0.0]
    assert mix_share(0.5, 0, 0) == 0.0


def test_a_code_is_mixed_step_by_step() -> None:
    draws = torch.Generator().manual_seed(4)
    inferred, selected = torch.randn(2000, 3, generator=draws), torch.randn(2000, 3, generator=draws)
    has_one, uniform = torch.rand(2000, generator=draws) < 0.8, torch.rand(2000, generator=draws)
    code, told = mixed(inferred, selected, has_one, 0.3, uniform)
    for s in range(2000):
        is_told = bool(has_one[s]) and float(uniform[s]) <= 0.3
        assert bool(told[s]) == is_told
        assert torch.equal(code[s], selected[s] if is_told else inferred[s])
    nothing, none = mixed(inferred, selected, has_one, 0.0, torch.zeros(2000))
    assert torch.equal(nothing, inferred)
    assert not none.any()
