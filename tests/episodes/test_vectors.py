"""Actions that are vectors: in specs, batches, replays, files and padded tensors."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from endmark.episodes import Bounds, EpisodeBatch, EpisodeReplay, EpisodeSpec, Field, Seen
from endmark.episodes.files import FORMAT, FileError, load_episodes, save_episodes
from support.helpers import assert_same_episodes, final_frames, make_bounds, make_spec, random_batch

SPEC = make_spec(vectors=True, reward_per_agent=True)


def test_the_spec_has_vectors_and_no_legal_actions() -> None:
    assert SPEC.fields["actions"] == Field((3, 3), torch.float32, per="step")
    assert "avail_actions" not in SPEC.fields
    assert (SPEC.n_actions, SPEC.action_size) == (0, 3)
    assert make_spec().action_size == 0
    longer = SPEC.extend(log_prob=Field((3,), torch.float32, per="step"))
    assert longer.bounds == SPEC.bounds
    assert copy.deepcopy(SPEC) == pickle.loads(pickle.dumps(SPEC)) == SPEC
    assert hash(SPEC) == hash(copy.deepcopy(SPEC))
    wider = replace(SPEC, bounds=Bounds.of([-9.0] * 3, [9.0] * 3, 3))
    assert wider != SPEC
    assert SPEC.bounds is not None
    one = SPEC.agent(2)
    assert one.bounds == Bounds(SPEC.bounds.low[2:], SPEC.bounds.high[2:])
    assert one.fields["actions"].shape == (1, 3)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([[0.0, 1.0]], [[1.0, 0.5]], "bounds: agent 0, number 1: given 1.0 to 0.5, want low <= high"),
        ([[0.0]], [[math.inf]], "given 0.0 to inf, want low <= high, both finite in float32"),
        ([[math.nan]], [[1.0]], "given nan to 1.0"),
        ([[0.0]], [[1e300]], r"given 0.0 to 1e\+300"),
        ([[0.0], [0.0, 0.0]], [[1.0], [1.0]], "want as many for each agent"),
        ([[]], [[]], "want as many for each agent"),
        ([[0.0]], [[1.0], [1.0]], "want as many for each agent"),
    ],
)
def test_bounds_that_are_none(low: list[list[float]], high: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bounds(tuple(map(tuple, low)), tuple(map(tuple, high)))


def test_bounds_are_exact_in_float32() -> None:
    bounds = Bounds.of([-0.1], [0.1], 2)
    low, high = bounds.tensors()
    assert low.tolist() == [[x] for (x,) in bounds.low]
    assert Bounds(bounds.low, bounds.high) == bounds
    assert high.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_actions": 4}, "n_actions: given 4, want 0: with bounds, actions are vectors"),
        ({"bounds": make_bounds(2)}, "bounds: given 2 agents, want 3"),
        ({"bounds": None}, "n_actions: given 0, want at least 1"),
        ({"bounds": make_bounds(3, size=2)}, r"field 'actions': given Field\(shape=\(3, 3\)"),
        (
            {"fields": {**SPEC.fields, "avail_actions": Field((3, 4), torch.bool)}},
            "field 'avail_actions': given .*, want None",
        ),
    ],
)
def test_specs_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **changes)


def test_last_actions_are_zeros_at_first_frames_and_taken_ones_at_final_frames() -> None:
    batch = random_batch(3, spec=SPEC)
    start = 0
    for length in batch.lengths.tolist():
        assert (batch.last_actions[start] == 0).all()
        assert torch.equal(
            batch.last_actions[start + 1 : start + length + 1], batch["actions"][start:][:length]
        )
        assert torch.equal(batch.actions_taken[start : start + length], batch["actions"][start:][:length])
        assert (batch.actions_taken[start + length] == 0).all()
        start += length + 1
    assert batch.last_actions.isfinite().all(), "what is undefined, and garbage here, is left out"
    with pytest.raises(KeyError, match="no field 'avail_actions'"):
        assert batch.avail_actions is None


@pytest.mark.parametrize("value", [math.nan, math.inf, 2.0001, -1.5])
def test_an_action_out_of_bounds_is_named(value: float) -> None:
    batch = random_batch(1, spec=SPEC)
    fields = {**batch.fields, "actions": batch["actions"].clone()}
    frame = int(batch.first_frames[2])
    fields["actions"][frame, 0, 0] = value
    want = r"field 'actions': episode 2, step 0, agent 0, number 0: given .*, want -1 to 2"
    with pytest.raises(ValueError, match=want):
        EpisodeBatch(SPEC, fields, batch.lengths, batch.terminated)
    fields["actions"][frame, 0, 0] = 2.0
    EpisodeBatch(SPEC, fields, batch.lengths, batch.terminated)


def test_an_agent_alone_has_its_own_bounds() -> None:
    batch = random_batch(2, spec=SPEC)
    for n in range(3):
        alone = batch.agent(n)
        assert alone.spec == SPEC.agent(n)
        assert torch.equal(alone.steps("actions"), batch.steps("actions")[:, n : n + 1])
        EpisodeBatch(alone.spec, alone.fields, alone.lengths, alone.terminated)  # validates


def test_padded_vectors_need_a_spec() -> None:
    padded = random_batch(0, spec=SPEC).to_padded()
    assert padded["actions"].shape[2:] == (3, 3)
    with pytest.raises(
        ValueError, match=r"field 'actions': given torch.float32, want .*EpisodeSpec.of\(bounds"
    ):
        EpisodeBatch.from_padded(padded)
    with pytest.raises(ValueError, match="field 'actions': given shape"):
        EpisodeBatch.from_padded({**padded, "actions": padded["actions"][..., 0]}, SPEC)


def test_a_replay_holds_them() -> None:
    batch = random_batch(4, spec=SPEC)
    replay = EpisodeReplay(SPEC, 200)
    replay.add(batch)
    assert_same_episodes(replay.episodes(), batch)
    other = EpisodeReplay(SPEC, 200)
    other.load_state_dict(replay.state_dict())
    draws = [torch.Generator().manual_seed(1) for _ in range(2)]
    assert_same_episodes(other.sample(3, draws[0]), replay.sample(3, draws[1]))
    with pytest.raises(ValueError, match="another spec"):
        EpisodeReplay(make_spec(reward_per_agent=True), 200).add(batch)


def test_a_file_keeps_the_bounds(tmp_path: Path) -> None:
    path = tmp_path / "episodes.safetensors"
    batch = random_batch(5, spec=SPEC)
    save_episodes(batch, path)
    assert_same_episodes(load_episodes(path), batch)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (None, "'bounds': given None, want dict"),
        ({"low": [[0]]}, "'high': given None, want list"),
        ({"low": [["a"]], "high": [[1]]}, "'low': given 'a', want numbers"),
        ({"low": [[True]], "high": [[1]]}, "'low': given True, want numbers"),
        ({"low": [0], "high": [1]}, "damaged"),
        ({"low": [[2]], "high": [[1]]}, "bounds: agent 0, number 0: given 2.0 to 1.0"),
        ({"low": [[-1, -1, -1]] * 2, "high": [[1, 1, 1]] * 2}, "bounds: given 2 agents, want 3"),
        ({"low": [[0, 0, 0]] * 3, "high": [[0, 0, 0]] * 3}, "field 'actions': episode 0"),
    ],
)
def test_damaged_bounds_are_one_line(tmp_path: Path, bounds: Any, message: str) -> None:
    path = tmp_path / "episodes.safetensors"
    save_episodes(random_batch(5, spec=SPEC), path)
    with safetensors.safe_open(path, framework="pt") as file:
        described = json.loads(file.metadata()[FORMAT])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    described["bounds"] = bounds
    safetensors.torch.save_file(tensors, path, metadata={FORMAT: json.dumps(described)})
    with pytest.raises(FileError, match=message) as caught:
        load_episodes(path)
    assert "\n" not in str(caught.value)
    del described["bounds"]
    safetensors.torch.save_file(tensors, path, metadata={FORMAT: json.dumps(described)})
    with pytest.raises(FileError, match="n_actions: given 0, want at least 1"):
        load_episodes(path)


def test_who_asks_for_legal_actions_is_told_that_there_are_none() -> None:
    seen = Seen(
        torch.zeros(1, 3, 5),
        None,
        torch.ones(1, 3, dtype=torch.bool),
        None,
        torch.tensor([True]),
        torch.zeros(1, 3, 3),
        torch.tensor([0]),
    )
    with pytest.raises(ValueError, match="avail_actions: given none, as actions are vectors"):
        assert seen.legal is None
    assert seen.agents((1,)).avail_actions is None
    assert seen.to(torch.device("cpu")).avail_actions is None


def test_garbage_on_final_frames_is_there_in_these_tests() -> None:
    batch = random_batch(0, n_episodes=12, spec=SPEC)
    assert not batch["actions"][final_frames(batch)].isfinite().all()


def test_a_spec_made_by_name_has_either_kind() -> None:
    options: dict[str, Any] = {"n_agents": 2, "episode_limit": 5, "obs_shape": (3,)}
    assert EpisodeSpec.of(bounds=Bounds.of([0.0], [1.0], 2), **options).action_size == 1
    with pytest.raises(ValueError, match="n_actions: given 0, want at least 1"):
        EpisodeSpec.of(**options)
