"""What an environment says of an episode at its end is stored with it, here and by way of workers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from endmark.envs import ContractError, EnvError, Environment, Step, check
from endmark.episodes import EpisodeBatch, EpisodeReplay, Field
from endmark.episodes.files import load_episodes, save_episodes
from endmark.rollout import EpisodeSeeds, InProcess, Lockstep, VectorEnv, Workers, play
from support.helpers import assert_same_episodes
from support.scripted import ByObservation, Scripted, outcomes_of

Wins = partial(Scripted, outcomes=True)
SPEC = Wins().spec
SEEDS = range(3, 30)


def envs_of(place: str, make_env: Callable[[], Environment], n_envs: int = 2) -> VectorEnv:
    if place == "here":
        return InProcess([make_env() for _ in range(n_envs)])
    return Workers(make_env, SPEC, workers=1, envs_per_worker=n_envs)


def seeds_of(batch: EpisodeBatch) -> list[int]:
    return [int(seed) for seed in batch.state[batch.first_frames, 0]]


def assert_outcomes(batch: EpisodeBatch) -> None:
    for name in ("win", "score"):
        want = [outcomes_of(seed)[name] for seed in seeds_of(batch)]
        assert batch.outcome(name).tolist() == want


@pytest.mark.parametrize("place", ["here", "workers"])
def test_each_episode_has_its_own(place: str) -> None:
    with closing(envs_of(place, Wins, 4)) as envs:
        batch = play(envs, ByObservation(), SEEDS)
    assert seeds_of(batch) == [*SEEDS]
    assert_outcomes(batch)
    assert {*batch.outcome("win").tolist()} == {0.0, 1.0}
    elsewhere = torch.ones(batch.n_frames, dtype=torch.bool)
    elsewhere[batch.final_frames - 1] = False
    assert (batch["score"][elsewhere] == 0).all(), "nothing of an earlier episode"


def test_they_stay_with_their_episodes(tmp_path: Path) -> None:
    """Through a replay that overwrites, a learner's further fields, parts, files and the padded layout."""
    batch = play(InProcess([Wins()]), ByObservation(), SEEDS)
    replay = EpisodeReplay(SPEC, 60)
    replay.add(batch)
    held = replay.episodes()
    assert held.n_episodes < batch.n_episodes
    assert_outcomes(held)
    assert_outcomes(EpisodeBatch.cat(held.split()[::-1]))
    assert_outcomes(held.select([3, 0, 3]))
    assert_outcomes(held.with_steps(advantage=torch.zeros(held.n_steps)))
    assert_outcomes(EpisodeBatch.from_padded(held.to_padded(limit=20), SPEC))
    save_episodes(held, tmp_path / "episodes.safetensors")
    assert_same_episodes(load_episodes(tmp_path / "episodes.safetensors"), held)


def test_a_policy_does_not_give_them() -> None:
    spec = SPEC.extend(turn=Field((), torch.int64, per="step"))
    rollout = Lockstep(InProcess([Wins()]), SEEDS, spec)
    with pytest.raises(ValueError, match="gave no 'turn', want actions, turn"):
        rollout.collect(ByObservation())


@pytest.mark.parametrize("place", ["here", "workers"])
def test_a_rollout_that_goes_on_elsewhere_keeps_them(place: str) -> None:
    policy, first = ByObservation(), Lockstep(InProcess([Wins() for _ in range(3)]), EpisodeSeeds(0))
    for _ in range(4):
        first.collect(policy)
    state = first.state_dict()
    with closing(envs_of(place, Wins, 3)) as envs:
        second = Lockstep(envs, EpisodeSeeds(0))
        second.load_state_dict(state)
        assert second.exact
        for _ in range(3):
            assert_same_episodes(second.collect(policy), first.collect(policy))


def test_a_field_that_is_no_outcome() -> None:
    batch = play(InProcess([Wins()]), ByObservation(), [3])
    with pytest.raises(KeyError, match="no outcome 'reward'; this batch has win, score"):
        batch.outcome("reward")
    with pytest.raises(KeyError, match="no outcome 'win'; this batch has none"):
        play(InProcess([Scripted()]), ByObservation(), [3]).outcome("win")


# --- what breaks the contract ---


class Gives(Scripted):
    """These outcomes at step 2, where its episodes may end or not."""

    def __init__(self, outcomes: Any, end: str | None = "terminated") -> None:
        super().__init__(outcomes=True)
        self.given, self.end = outcomes, end

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        step = super().step(actions)
        if len(self.logs[-1].actions) == 3:
            return step._replace(end=self.end, outcomes=self.given)  # type: ignore[arg-type]
        return step


WIN = {"win": 1.0}
FAULTS: dict[str, tuple[Any, str | None, str]] = {
    "one missing": (WIN, "terminated", "outcomes: given no 'score', want a number for each of win, score"),
    "all missing": ({}, "truncated", "outcomes: given no 'win', want a number for each of win, score"),
    "unknown": (
        {**WIN, "score": 1.0, "draw": 0.0},
        "terminated",
        "outcomes: given 'draw', want win, score, as in the spec",
    ),
    "NaN": (
        {**WIN, "score": float("nan")},
        "terminated",
        "outcomes, 'score': given nan, want a finite int, float or numpy number",
    ),
    "infinite in float32": (
        {**WIN, "score": 1e39},
        "terminated",
        "outcomes, 'score': given 1e+39, want a finite int, float or numpy number",
    ),
    "a word": (
        {**WIN, "score": "high"},
        "terminated",
        "outcomes, 'score': given 'high', want a finite int, float or numpy number",
    ),
    "before the end": (WIN, None, "outcomes: given 'win', want none before the end"),
    "none at all": (None, "terminated", "outcomes: given None, want a mapping from names to numbers"),
}


@pytest.mark.parametrize("place", ["here", "workers"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_said_with_its_place(fault: str, place: str) -> None:
    given, end, said = FAULTS[fault]
    with (
        closing(envs_of(place, partial(Gives, given, end))) as envs,
        pytest.raises(ContractError, match=rf"^environment 0, seed 7, step 2, {re.escape(said)}"),
    ):
        play(envs, ByObservation(), [7, 16])


@pytest.mark.parametrize("fault", FAULTS)
def test_check_finds_it(fault: str) -> None:
    given, end, said = FAULTS[fault]
    with pytest.raises(EnvError, match=rf"^seed 7, step 2, {re.escape(said)}"):
        check(partial(Checkable, given, end), seed=7)


def test_check_compares_outcomes() -> None:
    with pytest.raises(EnvError, match=r"step 7, outcomes: given \{.win.: 2.0.* in a used environment"):
        check(Counting, seed=4)


@pytest.mark.parametrize("number", [1, True, np.float32(1), np.float16(1), np.int8(1), np.True_])
def test_any_kind_of_number_will_do(number: Any) -> None:
    batch = play(InProcess([Gives({"win": number, "score": 0})]), ByObservation(), [7])
    assert batch.outcome("win").tolist() == [1.0]


class Checkable(Gives):
    """Legal for `check`, which looks at agents that have left and resets without a seed."""

    def reset(self, seed: int | None = None) -> Any:
        super().reset(0 if seed is None else seed)
        return self._see()

    def _see(self) -> Any:
        frame = super()._see()
        frame.legal[:] = True
        frame.alive[:] = True
        return frame


class Counting(Checkable):
    """Its outcomes depend on how many episodes it has played."""

    def __init__(self) -> None:
        super().__init__({})

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        step = Scripted.step(self, actions)
        outcomes: Mapping[str, float] = {"win": float(len(self.logs)), "score": 0.0}
        return step._replace(outcomes=outcomes) if step.end else step
