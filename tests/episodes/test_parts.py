"""Parts of a batch: some episodes, one agent, and steps that a learner adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from endmark.episodes import EpisodeBatch, Field, ragged
from support.helpers import assert_same_episodes, batches, make_batch, make_spec, random_batch


def select_naive(batch: EpisodeBatch, episodes: Sequence[int]) -> EpisodeBatch:
    parts = batch.split()
    return EpisodeBatch.cat([parts[e] for e in episodes])


def same_bits(given_: EpisodeBatch, want: EpisodeBatch) -> bool:
    """Final frames' garbage, too."""
    return all(torch.equal(given_[name].nan_to_num(7), want[name].nan_to_num(7)) for name in want.fields)


# Some episodes.


@given(batches(vectors=None), st.lists(st.integers(0, 99), min_size=1, max_size=8))
def test_select_is_the_naive_loop(batch: EpisodeBatch, numbers: list[int]) -> None:
    """In any order, some several times, given as a list or as a tensor."""
    episodes = [number % batch.n_episodes for number in numbers]
    want = select_naive(batch, episodes)
    for chosen in (batch.select(episodes), batch.select(torch.tensor(episodes, dtype=torch.int32))):
        assert_same_episodes(chosen, want)
        assert same_bits(chosen, want)


def test_what_is_selected_is_a_copy() -> None:
    batch = random_batch(0)
    want = batch.obs.clone()
    batch.select([0, 1]).obs.fill_(7)
    assert torch.equal(batch.obs, want)


@pytest.mark.parametrize("wrong", [-1, 3, 99])
def test_select_refuses_an_episode_that_there_is_not(wrong: int) -> None:
    batch = make_batch(make_spec(), [1, 2, 3], [True, True, False])
    with pytest.raises(IndexError, match=f"select: given episode {wrong}, want 0 <= episode < 3"):
        batch.select([0, wrong, 1])


def test_select_refuses_nothing() -> None:
    with pytest.raises(IndexError, match="select: given no episode, want at least one"):
        random_batch(0).select([])


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=6))
def test_frames_from_is_the_naive_loop(episodes: list[tuple[int, int]]) -> None:
    starts, lengths = (torch.tensor(numbers) for numbers in zip(*episodes, strict=True))
    want = [start + t for start, length in episodes for t in range(length + 1)]
    assert ragged.frames_from(starts, lengths).tolist() == want


# Steps that are added.


@given(batches(vectors=None), st.integers(0, 99))
def test_added_steps_are_read_back(batch: EpisodeBatch, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    advantage = torch.randn(batch.n_steps, batch.spec.n_agents, generator=generator)
    order = torch.randperm(batch.n_steps, generator=generator)
    more = batch.with_steps(advantage=advantage, order=order)
    assert torch.equal(more.steps("advantage"), advantage)
    assert torch.equal(more.steps("order"), order)
    assert more.spec.fields["advantage"] == Field((batch.spec.n_agents,), torch.float32, per="step")
    assert more.spec.fields["order"] == Field((), torch.int64, per="step")
    assert {name: more[name] for name in batch.fields}.items() >= batch.fields.items()
    assert batch.fields.keys() == batch.spec.fields.keys()  # as it was
    # They go where their episodes go.
    for e, part in enumerate(more.split()):
        before = int(batch.lengths[:e].sum())
        assert torch.equal(part.steps("order"), order[before : before + part.n_steps])


@pytest.mark.parametrize("name", ["reward", "obs", "log_prob", "terminated"])
def test_added_steps_need_a_name_of_their_own(name: str) -> None:
    batch = random_batch(0, extra=True)
    with pytest.raises(ValueError, match=f"field '{name}': "):
        batch.with_steps(**{name: torch.zeros(batch.n_steps)})


@pytest.mark.parametrize("wrong", [-1, 1])
def test_added_steps_are_as_many_as_the_steps(wrong: int) -> None:
    """One is not spread over all."""
    batch = make_batch(make_spec(), [2, 3], [True, False])
    n = 5 + wrong if wrong < 0 else 1
    with pytest.raises(ValueError, match=rf"field 'advantage': given shape \({n}, 3\), want 5 steps"):
        batch.with_steps(advantage=torch.zeros(n, 3))


# One agent.


@pytest.mark.parametrize("reward_per_agent", [False, True])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("n_agents", [1, 3])
def test_one_agent_alone(n_agents: int, state: bool, reward_per_agent: bool) -> None:
    batch = random_batch(3, n_agents=n_agents, state=state, reward_per_agent=reward_per_agent, extra=True)
    of_the_team = {"state"} if reward_per_agent else {"state", "reward"}
    for n in range(n_agents):
        alone = batch.agent(n)
        assert alone.spec == batch.spec.agent()
        assert alone.fields.keys() == batch.fields.keys() - {"goal", "log_prob", "win"}
        for name, tensor in alone.fields.items():
            want = batch[name] if name in of_the_team else batch[name][:, [n]]
            assert tensor.dtype == want.dtype
            assert torch.equal(tensor.nan_to_num(7), want.nan_to_num(7)), name
        assert torch.equal(alone.lengths, batch.lengths)
        assert torch.equal(alone.terminated, batch.terminated)
        assert torch.equal(alone.time_major.order, batch.time_major.order)
        EpisodeBatch(alone.spec, alone.fields, alone.lengths, alone.terminated)  # it is a valid one


def test_one_agent_is_a_view() -> None:
    batch = random_batch(0)
    batch.agent(1).obs.fill_(7)
    assert (batch.obs[:, 1] == 7).all()
    assert (batch.obs[:, 0] != 7).all()


def test_one_agent_keeps_every_dtype() -> None:
    """Also of a state and of a shared reward, which are not sliced."""
    spec = make_spec(n_agents=2, obs_dtype=torch.float64)
    double = {name: replace(spec.fields[name], dtype=torch.float64) for name in ("state", "reward")}
    spec = replace(spec, fields={**spec.fields, **double})
    batch = random_batch(0, spec=spec)
    alone = batch.agent(1)
    for name in ("obs", "state", "reward"):
        assert alone.spec.fields[name].dtype == torch.float64
        assert alone[name].dtype == torch.float64
    assert torch.equal(alone.state, batch.state)
    assert torch.equal(alone.steps("reward"), batch.steps("reward"))


@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_agent_that_there_is_not(wrong: int) -> None:
    with pytest.raises(IndexError, match=f"agents: given {wrong}, want 0 <= agent < 3"):
        random_batch(0).agent(wrong)
