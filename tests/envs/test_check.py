"""`check` lets a sound environment pass, and names what is wrong with a broken one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from endmark.envs import End, EnvError, Environment, Frame, Step, check, known, make
from endmark.episodes import EpisodeSpec

Actions = npt.NDArray[np.int64]


class Sound:
    """Two agents and three actions; agent 1 may leave; an episode ends after 2 to 4 steps, in either way."""

    reward_per_agent = False

    def __init__(self) -> None:
        self.rng = np.random.default_rng()
        self.spec: Any = EpisodeSpec.of(
            n_agents=2,
            n_actions=3,
            episode_limit=4,
            obs_shape=(2,),
            state_shape=(3,),
            reward_per_agent=self.reward_per_agent,
        )

    def reset(self, seed: int | None = None) -> Frame:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.t = 0
        self.length = int(self.rng.integers(2, 5))
        self.terminates = bool(self.rng.integers(2))
        self.place = self.rng.normal(size=(2, 2)).astype(np.float32)
        self.alive = np.array([True, True])
        return self.frame()

    def frame(self) -> Frame:
        obs = np.where(self.alive[:, None], self.place, np.float32(0))
        avail = np.array([[True, False, True], [True, True, False]])
        return Frame(obs, avail, self.alive, np.append(self.place[0], np.float32(self.t)))

    def move(self, actions: Actions) -> None:
        self.place[self.alive] += actions[self.alive, None].astype(np.float32)

    def step(self, actions: Actions) -> Step:
        self.t += 1
        self.move(actions)
        if actions[0] == 2 and self.t < self.length:
            self.alive[1] = False
        end: End | None = "terminated" if self.terminates else "truncated"
        return Step(self.frame(), self.reward(), end if self.t == self.length else None)

    def reward(self) -> npt.NDArray[np.float32]:
        return np.asarray(1.0, np.float32)

    def close(self) -> None:
        pass


def test_a_sound_environment_passes_and_is_summed_up() -> None:
    assert isinstance(Sound(), Environment)
    report = check(Sound, episodes=20, seed=1)
    assert report.episodes == 20 == report.terminated + report.truncated
    assert report.terminated > 0
    assert report.truncated > 0
    assert 40 <= report.steps <= 80
    assert report.mean_length == report.steps / 20 == report.mean_return
    assert check(Sound, episodes=20, seed=1) == report


def test_a_reward_for_each_agent_is_summed_over_agents() -> None:
    class Each(Sound):
        reward_per_agent = True

        def reward(self) -> npt.NDArray[np.float32]:
            return np.array([1.0, 2.0], np.float32)

    report = check(Each, episodes=1)
    assert 2 <= report.steps <= 4
    assert report.mean_return == 3.0 * report.steps


def test_arrays_may_be_reused() -> None:
    class Reusing(Sound):
        def __init__(self) -> None:
            super().__init__()
            self.buffer = np.zeros((2, 2), np.float32)

        def frame(self) -> Frame:
            frame = super().frame()
            self.buffer[:] = frame.obs
            return frame._replace(obs=self.buffer)

    assert check(Reusing, episodes=5).episodes == 5


# What breaks the protocol, and the words that tell.


class NoClose(Sound):
    close: Any = None


class UnseededReset(Sound):
    def reset(self) -> Frame:  # type: ignore[override]
        return super().reset()


class IdleStep(Sound):
    def step(self) -> Step:  # type: ignore[override]
        return super().step(np.zeros(2, np.int64))


class NoSpec(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.spec = {"n_agents": 2}


class TupleForFrame(Sound):
    def frame(self) -> tuple[object, ...]:  # type: ignore[override]
        return tuple(super().frame())


class DoubleObs(Sound):
    def frame(self) -> Frame:
        frame = super().frame()
        return frame._replace(obs=frame.obs.astype(np.float64))


class NarrowMask(Sound):
    def frame(self) -> Frame:
        frame = super().frame()
        return frame._replace(avail_actions=frame.legal[:, :2])


class NoState(Sound):
    def frame(self) -> Frame:
        return super().frame()._replace(state=None)


class UnannouncedState(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.spec = EpisodeSpec.of(n_agents=2, n_actions=3, episode_limit=4, obs_shape=(2,))


class NanObs(Sound):
    def move(self, actions: Actions) -> None:
        self.place[1, 0] = np.nan


class InfiniteReward(Sound):
    def reward(self) -> npt.NDArray[np.float32]:
        return np.asarray(np.inf, np.float32)


class FloatReward(Sound):
    def reward(self) -> float:  # type: ignore[override]
        return 1.0


class RewardOfWrongShape(Sound):
    def reward(self) -> npt.NDArray[np.float32]:
        return np.ones(2, np.float32)


class NothingLegal(Sound):
    def frame(self) -> Frame:
        frame = super().frame()
        frame.legal[1] = self.t == 0
        return frame


class Unseeded(Sound):
    def reset(self, seed: int | None = None) -> Frame:
        return super().reset()


class Drifting(Sound):
    moves = 0

    def move(self, actions: Actions) -> None:
        self.moves += 1
        self.place[0, 1] += self.moves


class FickleReward(Sound):
    paid = 0

    def reward(self) -> npt.NDArray[np.float32]:
        self.paid += 1
        return np.asarray(self.paid, np.float32)


class EndsByFlag(Sound):
    def step(self, actions: Actions) -> Step:
        return super().step(actions)._replace(end=self.t == self.length)  # type: ignore[arg-type]


class EndsInAnotherWord(Sound):
    def step(self, actions: Actions) -> Step:
        return super().step(actions)._replace(end="done")  # type: ignore[arg-type]


class NeverEnds(Sound):
    def step(self, actions: Actions) -> Step:
        return super().step(actions)._replace(end=None)


class Undead(Sound):
    def step(self, actions: Actions) -> Step:
        self.t += 1
        self.alive[1] = self.t != 1
        return Step(self.frame(), self.reward(), "truncated" if self.t == 4 else None)


class SeeingDead(Sound):
    def frame(self) -> Frame:
        self.alive[1] = False
        return super().frame()._replace(obs=self.place)


class DeadCrew(Sound):
    def move(self, actions: Actions) -> None:
        self.alive[:] = False


class CutWithNobodyThere(Sound):
    def step(self, actions: Actions) -> Step:
        self.alive[:] = False
        return Step(self.frame(), self.reward(), "truncated")


class HearsTheDead(Sound):
    def move(self, actions: Actions) -> None:
        self.place[0] += actions[1]
        self.alive[1] = False


class Accumulating(Sound):
    """Its rewards depend on the episodes before, but not on the steps before in the same episode."""

    episodes = 0

    def reset(self, seed: int | None = None) -> Frame:
        self.episodes += 1
        return super().reset(seed)

    def reward(self) -> npt.NDArray[np.float32]:
        return np.asarray(self.episodes, np.float32)


class OccupiedPlaces(Sound):
    """Draws a place again if it is where the last episode ended: rarely, and in the first frame alone."""

    last: int | None = None

    def reset(self, seed: int | None = None) -> Frame:
        frame = super().reset(seed)
        while (drawn := int(self.rng.integers(20))) == self.last:
            pass
        self.place[0, 0] = self.last = drawn
        return frame._replace(obs=self.place.copy(), state=np.zeros(3, np.float32))


class SharedState(Sound):
    """Not even two fresh environments are alike."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        SharedState.made += 1

    def reward(self) -> npt.NDArray[np.float32]:
        return np.asarray(self.made, np.float32)


class FailsAtTheSecondClose(Sound):
    is_open = True

    def close(self) -> None:
        if not self.is_open:
            raise RuntimeError("closed already")
        self.is_open = False


HISTORY = "an episode must depend on its seed and actions alone"
BROKEN = [
    (NoClose, r"a NoClose: given no method 'close', want close\(\)"),
    (UnseededReset, r"given reset\(\) -> 'Frame', want reset\(seed=None\)"),
    (IdleStep, r"a IdleStep: given step\(\) -> 'Step', want step\(actions\)"),
    (NoSpec, r"spec: given a dict, want an EpisodeSpec"),
    (TupleForFrame, r"seed 0, frame 0: given a tuple, want a Frame"),
    (DoubleObs, r"seed 0, frame 0, obs: given dtype float64, want dtype float32"),
    (NarrowMask, r"frame 0, avail_actions: given shape \(2, 2\), want shape \(2, 3\), as in the spec"),
    (NoState, r"frame 0, state: given None, want a numpy array"),
    (UnannouncedState, r"frame 0, state: given a ndarray, want None: the spec has no field 'state'"),
    (NanObs, r"seed \d, frame 1, obs, agent 1, number \[0\]: given nan, want finite numbers"),
    (InfiniteReward, r"seed 0, step 0, reward: given inf, want finite numbers"),
    (FloatReward, r"seed 0, step 0, reward: given a float, want a numpy array"),
    (RewardOfWrongShape, r"seed 0, step 0, reward: given shape \(2,\), want shape \(\)"),
    (NothingLegal, r"seed \d, frame 1, avail_actions, agent 1: given no legal action, want at least one"),
    (EndsByFlag, r"seed 0, step 0, end: given False, want None or one of 'terminated', 'truncated'"),
    (EndsInAnotherWord, r"seed 0, step 0, end: given 'done', want None or one of 'terminated'"),
    (NeverEnds, r"seed 0, step 3: given an episode that goes on, want an end: spec.episode_limit is 4"),
    (Undead, r"seed 0, frame 2, alive, agent 1: given True, want False: the agent left earlier"),
    (
        SeeingDead,
        r"seed 0, frame 0, obs, agent 1: given numbers other than 0, want zeros: the agent has left",
    ),
    (DeadCrew, r"seed \d, frame 1, alive: given False for all agents, want at least one agent alive"),
    (
        CutWithNobodyThere,
        r"seed 0, frame 1, alive: given False for all agents, want at least one agent alive",
    ),
    (HearsTheDead, r"frame 2, obs, agent 0.*whatever the actions of agents that have left"),
    (Unseeded, r"seed 0, frame 0, obs, agent 0.*, as the first time: reset\(seed=0\) and the same actions"),
    (SharedState, r"seed 0, step 0, reward: given \d+\.0, want \d+\.0, as the first time: reset\(seed=0\)"),
    (Drifting, rf"seed \d, frame 1, obs, agent 0, number \[1\]: given .* in a used environment.*: {HISTORY}"),
    (
        FickleReward,
        rf"seed \d, step 0, reward: given \d+\.0 in a used environment, want 1\.0, as in a fresh.*{HISTORY}",
    ),
    (
        Accumulating,
        r"seed 1, step 0, reward: given \d\.0 in a used environment, want 1\.0, as in a fresh one",
    ),
    (
        OccupiedPlaces,
        rf"seed \d+, frame 0, obs, agent 0, number \[0\]: given .* in a used environment, want .*: {HISTORY}",
    ),
    (FailsAtTheSecondClose, r"close\(\) called twice: given RuntimeError, want no effect the second time"),
]


@pytest.mark.parametrize(("broken", "words"), BROKEN, ids=[broken.__name__ for broken, _ in BROKEN])
def test_what_is_wrong_is_named(broken: type[Sound], words: str) -> None:
    with pytest.raises(EnvError, match=words) as caught:
        check(broken, episodes=10)
    assert "\n" not in str(caught.value)


def test_a_terminated_end_needs_no_legal_action_and_nobody_alive() -> None:
    class Gone(Sound):
        def step(self, actions: Actions) -> Step:
            step = super().step(actions)
            if step.truncated or step.terminated:
                step.frame.legal[:] = False
                step.frame.alive[:] = False
                step.frame.obs[:] = 0
                return step._replace(end="terminated")
            return step

    assert check(Gone, episodes=5).terminated == 5


def test_no_episodes_are_no_check() -> None:
    with pytest.raises(EnvError, match="given 0, want at least 1"):
        check(Sound, episodes=0)
    with pytest.raises(EnvError, match="given 0, want at least 1"):
        check(Sound, resets=0)


def test_few_episodes_are_enough_to_find_a_history() -> None:
    for broken in (Drifting, FickleReward, Accumulating):
        with pytest.raises(EnvError, match=HISTORY):
            check(broken, episodes=1, resets=2)


def test_an_environment_that_was_made_already_is_refused() -> None:
    unchecked: Any = getattr(
        check, "__wrapped__", check
    )  # without the types that the tests check at run time
    with pytest.raises(EnvError, match=r"check\(make_env\): given a Sound, want a callable that makes an"):
        unchecked(Sound())
    env = Sound()
    with pytest.raises(EnvError, match=r"make_env\(\): given the same environment twice, want a fresh one"):
        check(lambda: env)


def test_environments_of_one_maker_have_one_spec() -> None:
    sizes = iter(range(4, 100))

    class Growing(Sound):
        def __init__(self) -> None:
            super().__init__()
            self.spec = replace(self.spec, episode_limit=next(sizes))

    with pytest.raises(EnvError, match=r"make_env\(\): given environments whose specs differ"):
        check(Growing)


def test_level_based_foraging_with_its_players_left_standing_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(known, "FAMILIES", [replace(family, clear=None) for family in known.FAMILIES])
    make_env = partial(make, "lbforaging:Foraging-5x5-2p-1f-v3")
    with pytest.raises(EnvError, match=rf"seed \d+, frame 0, obs, agent 0, number \[\d\].*{HISTORY}"):
        check(make_env)


def counted(broken: type[Sound]) -> tuple[Callable[[], Sound], list[int]]:
    """A maker of these environments, and the number that it made and that are open."""
    counts = [0, 0]

    class Counted(broken):  # type: ignore[valid-type, misc]
        is_counted = False

        def __init__(self) -> None:
            super().__init__()
            self.is_counted = True
            counts[0] += 1
            counts[1] += 1

        def close(self) -> None:
            counts[1] -= self.is_counted
            self.is_counted = False
            super().close()

    return Counted, counts


@pytest.mark.parametrize(
    "kind",
    [Sound, *(broken for broken, _ in BROKEN if broken is not NoClose)],
    ids=lambda kind: kind.__name__,
)
def test_everything_made_is_closed(kind: type[Sound]) -> None:
    make_env, counts = counted(kind)
    with nullcontext() if kind is Sound else pytest.raises(EnvError):
        check(make_env, episodes=4)
    assert counts[0] > 0
    assert counts[1] == 0


def test_an_error_of_the_environment_itself_arrives_and_everything_is_closed() -> None:
    class Failing(Sound):
        def step(self, actions: Actions) -> Step:
            raise KeyError("no such map")

        def close(self) -> None:
            raise RuntimeError("and it cannot be closed")

    make_env, counts = counted(Failing)
    with pytest.raises(
        EnvError, match=r"^seed 0, step 0: KeyError: 'no such map' \(.*:\d+, in step\)$"
    ) as error:
        check(make_env)
    assert isinstance(error.value.__cause__, KeyError)
    assert counts[0] > 0
    assert counts[1] == 0
