from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from endmark.episodes import EpisodeBatch, ragged
from support.helpers import (
    assert_same_episodes,
    batches,
    final_frames,
    make_batch,
    make_spec,
    random_batch,
    with_garbage,
)

Parts = dict[str, Any]


def parts_of(batch: EpisodeBatch) -> Parts:
    return {
        "spec": batch.spec,
        "fields": dict(batch.fields),
        "lengths": batch.lengths,
        "terminated": batch.terminated,
    }


def construct(**parts: Any) -> EpisodeBatch:
    """Without the check of the annotations, which only runs in tests and would speak first."""
    batch = object.__new__(EpisodeBatch)
    inspect.unwrap(EpisodeBatch.__init__)(batch, **parts)
    return batch


# Index arithmetic.


@given(batches())
def test_actions_at_frames_are_the_naive_loop(batch: EpisodeBatch) -> None:
    """What is done at a frame, and was done before it; whatever final frames hold is neither."""
    batch = with_garbage(batch, 7)
    nobody, taken, last = [-1] * batch.spec.n_agents, [], []
    for actions in torch.split(batch["actions"], (batch.lengths + 1).tolist()):
        done = actions[:-1].tolist()
        taken += [*done, nobody]
        last += [nobody, *done]
    assert batch.actions_taken.tolist() == taken
    assert batch.last_actions.tolist() == last


@given(batches())
def test_frames_and_steps_are_the_naive_loop(batch: EpisodeBatch) -> None:
    step_frames, first_frames, last_steps, steps_left, frame = [], [], [], [], 0
    for length in batch.lengths.tolist():
        first_frames.append(frame)
        for t in range(length):
            step_frames.append(frame + t)
            steps_left.append(length - 1 - t)
        frame += length + 1
        last_steps.append(len(step_frames) - 1)
    assert batch.step_frames.tolist() == step_frames
    assert batch.first_frames.tolist() == first_frames
    assert batch.last_steps.tolist() == last_steps
    assert ragged.steps_left(batch.lengths).tolist() == steps_left
    assert (batch.n_episodes, batch.n_steps, batch.n_frames) == (
        len(first_frames),
        len(step_frames),
        frame,
    )
    assert sorted([*step_frames, *final_frames(batch).tolist()]) == list(range(frame))
    assert batch.final_frames.tolist() == final_frames(batch).tolist()
    for name, tensor in batch.fields.items():
        assert batch[name] is tensor
        if batch.spec.fields[name].per == "end":
            assert torch.equal(batch.outcome(name), tensor[final_frames(batch) - 1])
        else:
            assert torch.equal(batch.steps(name), tensor[step_frames])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_time_major_is_the_naive_sort(lengths: list[int]) -> None:
    frames = []
    start = 0
    for e, length in enumerate(lengths):
        frames += [(t, -length, e, start + t) for t in range(length + 1)]
        start += length + 1
    packing = ragged.TimeMajor(torch.tensor(lengths))
    order, counts = packing.order, packing.counts
    assert order.tolist() == [frame for *_, frame in sorted(frames)]
    assert counts == [sum(length >= t for length in lengths) for t in range(max(lengths) + 1)]


def test_ramp() -> None:
    assert ragged.ramp(torch.tensor([2, 0, 3, 1])).tolist() == [0, 1, 0, 1, 2, 0]


# Discounts.


@given(batches(), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_discounts_are_the_naive_loop(batch: EpisodeBatch, gamma: float) -> None:
    discount, agent_discount, frame = [], [], 0
    for length, terminated in zip(batch.lengths.tolist(), batch.terminated.tolist(), strict=True):
        for t in range(length):
            over = terminated and t == length - 1
            discount.append(0.0 if over else gamma)
            alive_after = batch.alive[frame + t + 1].tolist()
            agent_discount.append([gamma if stays and not over else 0.0 for stays in alive_after])
        frame += length + 1
    assert torch.equal(batch.discount(gamma), torch.tensor(discount))
    assert torch.equal(batch.agent_discount(gamma), torch.tensor(agent_discount))


def test_discounts_by_hand() -> None:
    """Agent 1 leaves with step 0 of an episode that is cut; it then has an end of its own."""
    batch = make_batch(make_spec(n_agents=2), [2, 1], [False, True])
    batch.alive[:] = torch.tensor([[1, 1], [1, 0], [1, 0], [1, 1], [1, 1]]).bool()
    assert batch.discount(0.5).tolist() == [0.5, 0.5, 0.0]
    assert batch.agent_discount(0.5).tolist() == [[0.5, 0.0], [0.5, 0.0], [0.0, 0.0]]
    assert batch.truncated.tolist() == [True, False]


def test_the_random_batches_show_every_kind_of_end() -> None:
    """What the other tests are worth depends on it."""
    for seed in range(5):
        batch = random_batch(seed, n_episodes=5)
        limit = batch.spec.episode_limit
        ends = set(zip(batch.lengths.tolist(), batch.terminated.tolist(), strict=True))
        assert {(limit, True), (limit, False)} <= ends
        assert 1 in batch.lengths
        assert any(length < limit and terminated for length, terminated in ends)
        assert any(length < limit and not terminated for length, terminated in ends)
        final = final_frames(batch)
        assert not batch["reward"][final].isfinite().all()
        assert ((batch["actions"][final] < 0) | (batch["actions"][final] > 3)).all()
        leaves = ~batch.alive[batch.step_frames + 1] & batch.steps("alive")
        assert leaves.any()
        assert batch.alive.any(1).all()
        assert batch.avail_actions.any(-1).all()
        assert not batch.avail_actions.all()


# In parts and together.


@given(
    st.lists(
        batches(n_agents=2, n_actions=3, limit=5, state=True, reward_per_agent=False, extra=True),
        min_size=1,
        max_size=4,
    )
)
def test_cat_and_split_are_inverse(parts: list[EpisodeBatch]) -> None:
    whole = EpisodeBatch.cat(parts)
    assert whole.n_episodes == sum(part.n_episodes for part in parts)
    episodes = whole.split()
    assert [episode.n_episodes for episode in episodes] == [1] * whole.n_episodes
    assert_same_episodes(EpisodeBatch.cat(episodes), whole)
    singles = [episode for part in parts for episode in part.split()]
    for given_, want in zip(episodes, singles, strict=True):
        assert_same_episodes(given_, want)


def test_split_shares_memory() -> None:
    batch = random_batch(0)
    batch.split()[1].obs.fill_(7)
    first, second = batch.first_frames[1:3].tolist()
    assert (batch.obs[first:second] == 7).all()
    assert (batch.obs[:first] != 7).all()
    assert (batch.obs[second:] != 7).all()


def test_cat_refuses() -> None:
    with pytest.raises(ValueError, match="cat: given no batch, want at least one"):
        EpisodeBatch.cat([])
    with pytest.raises(ValueError, match="cat: batch 1 has another spec than batch 0"):
        EpisodeBatch.cat([random_batch(0), random_batch(0, limit=9)])


def test_state_is_all_observations_where_none_is_stored() -> None:
    batch = random_batch(0, state=False)
    shown = [
        batch.obs[i, n] if batch.alive[i, n] else torch.zeros(5)
        for i in range(batch.n_frames)
        for n in range(3)
    ]
    assert not batch.alive.all()  # or else nothing is shown of agents that have left
    assert torch.equal(batch.state, torch.stack(shown).view(batch.n_frames, 15))
    assert batch.state[2].tolist() == [x for agent in batch.obs[2].tolist() for x in agent]
    stored = random_batch(0)
    assert torch.equal(stored.state, stored["state"])


def test_to_device() -> None:
    batch = random_batch(0)
    _ = batch.step_frames  # a cached index must not stay behind on the old device
    there = batch.to("meta")
    assert there.device.type == "meta"
    assert all(tensor.device.type == "meta" for tensor in there.fields.values())
    assert there.lengths.device.type == "cpu"
    assert there.step_frames.device.type == "meta"
    assert batch.device.type == "cpu"
    assert_same_episodes(batch.to("cpu"), batch)


def test_frozen() -> None:
    batch = random_batch(0)
    with pytest.raises(FrozenInstanceError):
        batch.lengths = batch.lengths  # type: ignore[misc]
    with pytest.raises(TypeError):
        batch.fields["obs"] = batch.obs  # type: ignore[index]
    fields = dict(batch.fields)
    mine = replace(batch, fields=fields, checked=True)
    fields.clear()
    assert mine.fields.keys() == batch.fields.keys()


def test_copies_and_pickles() -> None:
    batch = random_batch(0, extra=True)
    for other in (copy.deepcopy(batch), pickle.loads(pickle.dumps(batch))):
        assert_same_episodes(other, batch)
        other.obs.fill_(7)
        assert not (batch.obs == 7).any()


def test_a_name_that_is_no_field() -> None:
    with pytest.raises(KeyError, match=r"no field 'observation'; this batch has obs, avail_actions"):
        random_batch(0)["observation"]


# What is refused. Episodes of 2, 3 and 1 steps, 9 frames.


def put(name: str, index: Any, value: float) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts["fields"][name] = parts["fields"][name].clone()
        parts["fields"][name][index] = value

    return change


def field(name: str, change: Callable[[torch.Tensor], object]) -> Callable[[Parts], None]:
    return lambda parts: parts["fields"].update({name: change(parts["fields"][name])})


def part(name: str, value: object) -> Callable[[Parts], None]:
    return lambda parts: parts.update({name: value})


WRONG: dict[str, tuple[Callable[[Parts], Any], type[Exception], str]] = {
    "lengths dtype": (
        part("lengths", torch.tensor([2, 3, 1], dtype=torch.int32)),
        TypeError,
        r"lengths: given torch.int32 of shape \(3,\), want int64 of shape \(E,\)",
    ),
    "lengths shape": (
        part("lengths", torch.tensor([[2, 3, 1]])),
        TypeError,
        r"lengths: given torch.int64 of shape \(1, 3\), want int64 of shape \(E,\)",
    ),
    "lengths list": (part("lengths", [2, 3, 1]), TypeError, "lengths: given list, want int64"),
    "lengths device": (
        part("lengths", torch.zeros(3, dtype=torch.int64, device="meta")),
        ValueError,
        "lengths: given on meta, want on cpu",
    ),
    "no episode": (
        part("lengths", torch.zeros(0, dtype=torch.int64)),
        ValueError,
        "lengths: given no episode, want at least one",
    ),
    "no step": (
        part("lengths", torch.tensor([2, 0, 4])),
        ValueError,
        "lengths: episode 1: given 0 steps, want at least 1",
    ),
    "negative": (
        part("lengths", torch.tensor([2, 5, -1])),
        ValueError,
        "lengths: episode 2: given -1 steps, want at least 1",
    ),
    "too long": (
        part("lengths", torch.tensor([2, 8, 1])),
        ValueError,
        "lengths: episode 1: given 8 steps, want at most 7",
    ),
    "lengths that do not sum up": (
        part("lengths", torch.tensor([2, 3, 2])),
        ValueError,
        r"field 'obs': given shape \(9, 3, 5\), want \(10, 3, 5\): sum\(lengths \+ 1\) = 10 frames",
    ),
    "terminated dtype": (
        part("terminated", torch.zeros(3)),
        TypeError,
        r"terminated: given torch.float32 of shape \(3,\), want bool of shape \(3,\)",
    ),
    "terminated shape": (
        part("terminated", torch.zeros(2).bool()),
        TypeError,
        r"terminated: given torch.bool of shape \(2,\), want bool of shape \(3,\)",
    ),
    "terminated list": (part("terminated", [True] * 3), TypeError, "terminated: given list, want bool"),
    "missing": (lambda parts: parts["fields"].pop("alive"), ValueError, "field 'alive': missing; given obs"),
    "unknown": (
        lambda parts: parts["fields"].update(done=torch.zeros(9)),
        ValueError,
        "field 'done': not in the spec, which has obs",
    ),
    "field dtype": (
        field("avail_actions", lambda x: x.long()),
        TypeError,
        r"field 'avail_actions': given torch.int64 of shape \(9, 3, 4\), want torch.bool",
    ),
    "field float64": (
        field("state", lambda x: x.double()),
        TypeError,
        r"field 'state': given torch.float64 of shape \(9, 4\), want torch.float32",
    ),
    "field array": (field("obs", lambda x: x.numpy()), TypeError, "field 'obs': given ndarray, want torch"),
    "field frames": (
        field("reward", lambda x: x[:-1]),
        ValueError,
        r"field 'reward': given shape \(8,\), want \(9,\)",
    ),
    "field shape": (
        field("reward", lambda x: x[:, None]),
        ValueError,
        r"field 'reward': given shape \(9, 1\), want \(9,\)",
    ),
    "field scalar": (
        field("reward", lambda x: x[0]),
        ValueError,
        r"field 'reward': given shape \(\), want \(9,\)",
    ),
    "field device": (
        field("state", lambda x: x.to("meta")),
        ValueError,
        "field 'state': given on meta, want on cpu",
    ),
    "reward NaN": (
        put("reward", 5, float("nan")),
        ValueError,
        "field 'reward': episode 1, step 2: given nan, want a finite number",
    ),
    "reward inf": (
        put("reward", 7, float("-inf")),
        ValueError,
        "field 'reward': episode 2, step 0: given -inf, want a finite number",
    ),
    "action negative": (
        put("actions", (1, 2), -1),
        ValueError,
        "field 'actions': episode 0, step 1, agent 2: given -1, want 0 <= action < 4",
    ),
    "action too high": (
        put("actions", (3, 0), 4),
        ValueError,
        "field 'actions': episode 1, step 0, agent 0: given 4, want 0 <= action < 4",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_named(case: str) -> None:
    change, error, message = WRONG[case]
    batch = make_batch(make_spec(), [2, 3, 1], [True, False, True])
    parts = parts_of(batch)
    construct(**parts)
    change(parts)
    with pytest.raises(error, match=message):
        construct(**parts)


def test_wrong_reward_of_an_agent_is_named() -> None:
    parts = parts_of(make_batch(make_spec(reward_per_agent=True), [2, 3], [True, False]))
    put("reward", (4, 1), float("inf"))(parts)
    with pytest.raises(ValueError, match="field 'reward': episode 1, step 1, agent 1: given inf"):
        EpisodeBatch(**parts)


@given(batches())
def test_final_frames_are_not_validated_and_steps_all_are(batch: EpisodeBatch) -> None:
    parts = parts_of(batch)
    EpisodeBatch(**parts)
    for frame in range(batch.n_frames):
        wrong: Mapping[str, Any] = parts | {"fields": dict(parts["fields"])}
        put("reward", frame, float("nan"))(dict(wrong))
        if frame in final_frames(batch).tolist():
            EpisodeBatch(**wrong)
        else:
            with pytest.raises(ValueError, match="field 'reward'"):
                EpisodeBatch(**wrong)


def test_checked_skips_the_validation() -> None:
    parts = parts_of(random_batch(0))
    put("reward", 0, float("nan"))(parts)
    assert EpisodeBatch(**parts, checked=True)["reward"][0].isnan()
