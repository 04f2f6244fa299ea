"""Environments that lie or fail end a rollout with an error that says where; also in workers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import torch

from endmark.envs import ContractError, EnvError, Environment, EnvWarning, make
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.policies import RandomPolicy
from endmark.rollout import InProcess, Lockstep, VectorEnv, WorkerError, Workers, WorkerWarning, play
from support.faulty import (
    FAULTS,
    IN_RESET,
    SEED,
    CannotBeClosed,
    ExitsInConstructor,
    Faulty,
    FaultyReset,
    Given,
    InEveryStep3,
    NothingLegalAtTheEnd,
    large_numbers,
)
from support.scripted import ByObservation, Scripted
from support.troubled import InReset, InStep, workers_alive

PLACES = ["here", "workers"]
LONG = range(SEED, 900, 9)  # seeds of episodes of 9 steps


def envs_of(
    place: str, make_env: Callable[[], Environment], n_envs: int = 1, spec: EpisodeSpec | None = None
) -> VectorEnv:
    """Environments in this process, or all of them in one worker."""
    if place == "here":
        return InProcess([make_env() for _ in range(n_envs)])
    return Workers(make_env, spec or Scripted().spec, workers=1, envs_per_worker=n_envs)


def play_all(envs: VectorEnv, seeds: Iterable[int]) -> EpisodeBatch:
    rollout = Lockstep(envs, seeds)
    policy = RandomPolicy(torch.Generator().manual_seed(0))
    episodes = []
    while rollout.running:
        episodes.append(rollout.collect(policy))
    return EpisodeBatch.cat(episodes)


# --- what breaks the contract ends the rollout at once ---


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_step_that_breaks_the_contract(fault: str, place: str) -> None:
    """Environment 1 of two; the other one plays on meanwhile."""
    said = f"environment 1, seed {SEED}, {FAULTS[fault][-1]}"
    envs = envs_of(place, partial(Faulty, fault), 2)
    with closing(envs), pytest.raises(ContractError, match=f"^{re.escape(said)}$"):
        play_all(envs, [2, SEED, 3, 4, 6])
    assert workers_alive() == []


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", IN_RESET)
def test_a_first_frame_that_breaks_the_contract(fault: str, place: str) -> None:
    said = f"environment 1, seed {SEED}, {IN_RESET[fault][-1]}"
    envs = envs_of(place, partial(FaultyReset, fault), 2)
    with closing(envs), pytest.raises(ContractError, match=f"^{re.escape(said)}$"):
        play_all(envs, [2, SEED, 3, 4, 6])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("where", ["obs, agent 0, number [0]", "reward"])
def test_large_numbers_of_a_gymnasium_environment(where: str, place: str) -> None:
    make_env = partial(large_numbers, where.partition(",")[0])
    said = f"environment 0, seed 5, step 2, {where}: given 1e+300, want a number that float32 can hold"
    envs = envs_of(place, make_env, spec=make_env().spec)
    with closing(envs), pytest.raises(ContractError, match=f"^{re.escape(said)}$"):
        play_all(envs, [5])


# --- what keeps to it passes ---


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make_env", [NothingLegalAtTheEnd, Given])
def test_what_is_sound_passes(make_env: Callable[[], Environment], place: str) -> None:
    seeds = range(3, 20)
    want = play(InProcess([Scripted()]), ByObservation(), seeds)
    with closing(envs_of(place, make_env, 2)) as envs:
        given = play(envs, ByObservation(), seeds)
    assert torch.equal(given.lengths, want.lengths)
    for name in ("obs", "state", "reward", "actions", "alive"):
        assert given[name].dtype == want[name].dtype
        assert torch.equal(given[name], want[name]), name
    if make_env is NothingLegalAtTheEnd:
        final = given["avail_actions"][given.first_frames + given.lengths]
        assert torch.equal(final.any(-1).any(-1), given.truncated)


# --- what fails ends the rollout after a bounded number of tries ---

EXITS = r"SystemExit: the game is gone \(.*troubled\.py:\d+, in get_into\)"
RAISES = r"RuntimeError: the game is broken \(.*troubled\.py:\d+, in get_into\)"
EVERY = frozenset(range(1000))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("make_env", "said"),
    [
        (InEveryStep3, rf"step 3: {RAISES}"),
        (partial(InStep, "exit", EVERY), rf"step 3: {EXITS}"),
        (partial(InReset, "raise", EVERY), rf"reset: {RAISES}"),
        (partial(InReset, "exit", EVERY), rf"reset: {EXITS}"),
    ],
    ids=["raise in step", "exit in step", "raise in reset", "exit in reset"],
)
def test_an_environment_that_fails_in_every_episode(
    make_env: Callable[[], Environment], said: str, place: str
) -> None:
    if place == "here":
        with (
            closing(envs_of(place, make_env)) as envs,
            pytest.raises(EnvError, match=r"^environment 0, ") as error,
        ):
            play_all(envs, LONG)
        assert re.fullmatch(f"environment 0, seed {LONG[0]}, {said}", str(error.value))
        return
    in_a_row = r"worker 0 \(environments 0 to 0\) failed 3 times without the end of an episode in between: "
    with (
        closing(envs_of(place, make_env)) as envs,
        pytest.warns(WorkerWarning) as warned,
        pytest.raises(WorkerError, match=f"^{in_a_row}environment 0, seed {LONG[2]}, {said}$"),
    ):
        play_all(envs, LONG)
    assert [LONG[0], LONG[1]] == [int(re.findall(r"seed (\d+)", str(w.message))[0]) for w in warned]
    assert workers_alive() == []


def test_an_episode_that_is_played_again_fails_a_bounded_number_of_times() -> None:
    """As in an evaluation, which drops no episode."""
    with (
        closing(envs_of("workers", InEveryStep3, 2)) as envs,
        pytest.warns(WorkerWarning),
        pytest.raises(WorkerError, match=r"^worker 0 .* failed 3 times .*: environment 0, seed 7, step 3: "),
    ):
        play(envs, ByObservation(), LONG[:5])


def test_a_constructor_that_exits() -> None:
    said = r"SystemExit: 0 \(.*faulty\.py:\d+, in __init__\)"
    with pytest.raises(EnvError, match=f"cannot be made: {said}$"):
        make("support.faulty:ExitsInConstructor")
    with (
        closing(envs_of("workers", ExitsInConstructor)) as envs,
        pytest.warns(WorkerWarning),
        pytest.raises(WorkerError, match=rf"^worker 0 .* failed 3 times .*: {said}$"),
    ):
        play_all(envs, LONG)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("exits", "said"),
    [(False, r"RuntimeError: the game stays open"), (True, "SystemExit: 0")],
    ids=["raise", "exit"],
)
def test_environments_that_cannot_be_closed(exits: bool, said: str, place: str, tmp_path: Path) -> None:
    """All of them are tried, and each says so."""
    envs = envs_of(place, partial(CannotBeClosed, tmp_path, exits=exits), 2)
    assert play_all(envs, range(3, 9)).n_episodes == 6
    with pytest.warns(EnvWarning) as warned:
        envs.close()
    for k, warning in enumerate(warned):
        assert re.fullmatch(rf"environment {k}, close\(\): {said} \(.*:\d+, in close\)", str(warning.message))
    assert len(warned) == 2
    assert [note.read_text() for note in tmp_path.iterdir()] == ["x", "x"]
    envs.close()
