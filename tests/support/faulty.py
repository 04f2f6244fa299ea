"""Environments that break their contract in one place: workers import them from here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from endmark.envs import Environment, Frame, GymAdapter, Step
from support.scripted import Scripted, length_of
from support.troubled import InStep, LeavesANote

SEED = 7  # of an episode of 9 steps, at whose end the environment terminates
NAN, INF, LARGE = float("nan"), float("inf"), 1e300


def put(field: str, index: tuple[int, ...], value: float, dtype: str = "") -> Callable[[Step], Any]:
    """One number of the frame is another one, perhaps in another dtype."""

    def change(step: Step) -> Any:
        array = np.array(getattr(step.frame, field))
        array = array.astype(dtype or array.dtype)
        array[index] = value
        return of_frame(**{field: array})(step)

    return change


def of_frame(**fields: Any) -> Callable[[Step], Any]:
    """These fields of the frame are others."""
    return lambda step: step._replace(frame=step.frame._replace(**fields))


def of_step(**fields: Any) -> Callable[[Step], Any]:
    """These fields of the step are others."""
    return lambda step: step._replace(**fields)


def no_legal_action(step: Step) -> Step:
    """Nothing is legal for anybody."""
    return step._replace(frame=step.frame._replace(avail_actions=np.zeros((2, 4), np.bool_)))


# Step of the episode, what becomes of its result, and what the error says after the episode.
FAULTS: dict[str, tuple[int, Callable[[Step], Any], str]] = {
    "NaN in obs": (
        2,
        put("obs", (1, 2), NAN),
        "frame 3, obs, agent 1, number [2]: given nan, want finite numbers",
    ),
    "infinite state": (
        2,
        put("state", (1,), INF),
        "frame 3, state, number 1: given inf, want finite numbers",
    ),
    "NaN as reward": (2, of_step(reward=np.float32(NAN)), "step 2, reward: given nan, want finite numbers"),
    "large reward": (
        2,
        of_step(reward=LARGE),
        "step 2, reward: given 1e+300, want a number that float32 can hold",
    ),
    "large obs": (
        2,
        put("obs", (0, 1), -LARGE, "float64"),
        "frame 3, obs, agent 0, number [1]: given -1e+300, want a number that float32 can hold",
    ),
    "no reward": (2, of_step(reward=None), "step 2, reward: given None, want a number"),
    "no obs": (2, of_frame(obs=None), "frame 3, obs: given None, want a number"),
    "too few obs": (2, of_frame(obs=np.ones((1, 3))), "frame 3, obs: given shape (1, 3), want shape (2, 3)"),
    "too many obs": (2, of_frame(obs=np.ones((3, 3))), "frame 3, obs: given shape (3, 3), want shape (2, 3)"),
    "small state": (
        2,
        of_frame(state=np.ones(1, np.float32)),
        "frame 3, state: given shape (1,), want shape (2,)",
    ),
    "no state": (2, of_frame(state=None), "frame 3, state: given None, want a number"),
    "2 in the mask": (
        2,
        put("avail_actions", (0, 3), 2, "int64"),
        "frame 3, avail_actions, agent 0, number [3]: given 2, want 0 or 1",
    ),
    "NaN in the mask": (
        2,
        put("avail_actions", (1, 0), NAN, "float32"),
        "frame 3, avail_actions, agent 1, number [0]: given nan, want 0 or 1",
    ),
    "wide mask": (
        2,
        of_frame(avail_actions=np.ones((2, 5), np.bool_)),
        "frame 3, avail_actions: given shape (2, 5), want shape (2, 4)",
    ),
    "no legal action": (
        2,
        no_legal_action,
        "frame 3, avail_actions, agent 0: given no legal action, want at least one: the agent is alive",
    ),
    "unknown end": (
        2,
        of_step(end="done"),
        "step 2, end: given 'done', want None or one of 'terminated', 'truncated'",
    ),
    "outcomes that the spec lacks": (
        8,
        of_step(outcomes={"win": 1.0}),
        "step 8, outcomes: given 'win', want none, as in the spec",
    ),
    "outcomes before the end": (
        2,
        of_step(outcomes={"win": 1.0}),
        "step 2, outcomes: given 'win', want none before the end",
    ),
    "a flag as outcomes": (
        8,
        of_step(outcomes=True),
        "step 8, outcomes: given a bool, want a mapping from names to numbers",
    ),
    "no step": (2, lambda step: (step.frame, 0.0, False), "step 2: given a tuple, want a Step"),
    "no frame": (2, of_step(frame=None), "frame 3: given None, want a Frame"),
    "no end": (
        8,
        of_step(end=None),
        "step 8: given an episode that goes on, want an end: spec.episode_limit is 9",
    ),
    "NaN in the final obs": (
        8,
        put("obs", (0, 0), NAN),
        "frame 9, obs, agent 0, number [0]: given nan, want finite numbers",
    ),
    "infinite final state": (
        8,
        put("state", (0,), -INF),
        "frame 9, state, number 0: given -inf, want finite numbers",
    ),
    "NaN as last reward": (8, of_step(reward=NAN), "step 8, reward: given nan, want finite numbers"),
    "no legal action where truncated": (
        8,
        lambda step: no_legal_action(step)._replace(end="truncated"),
        "frame 9, avail_actions, agent 0: given no legal action, want at least one: the agent is alive",
    ),
}
IN_RESET: dict[str, tuple[Callable[[Step], Any], str]] = {
    "NaN": (put("obs", (1, 2), NAN), "frame 0, obs, agent 1, number [2]: given nan, want finite numbers"),
    "no frame": (of_step(frame=None), "frame 0: given None, want a Frame"),
    "no legal action": (
        no_legal_action,
        "frame 0, avail_actions, agent 0: given no legal action, want at least one: the agent is alive",
    ),
}


class Faulty(Scripted):
    """Has the fault of this name in the episode with `SEED`."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.at, self.change, _ = FAULTS[fault]

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        step = super().step(actions)
        here = self.logs[-1].seed == SEED and len(self.logs[-1].actions) == self.at + 1
        return self.change(step) if here else step


class FaultyReset(Scripted):
    """Has the fault of this name at the first frame of the episode with `SEED`."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.change, _ = IN_RESET[fault]

    def reset(self, seed: int | None = None) -> Frame:
        frame = super().reset(seed)
        return self.change(Step(frame, np.float32(0))).frame if seed == SEED else frame


class NothingLegalAtTheEnd(Scripted):
    """Sound: a final frame needs no legal action where the episode terminated."""

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        step = super().step(actions)
        return no_legal_action(step) if step.terminated else step


class Given(Scripted):
    """Sound: gives lists and other dtypes, whose numbers are those of the spec."""

    def reset(self, seed: int | None = None) -> Any:
        return self._given(super().reset(seed))

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        step = super().step(actions)
        return Step(self._given(step.frame), float(step.reward), step.end)  # type: ignore[arg-type]

    def _given(self, frame: Frame) -> Any:
        assert frame.state is not None
        return Frame(
            frame.obs.astype(np.float64),
            frame.legal.astype(np.int8),
            frame.alive.tolist(),
            frame.state.tolist(),
        )


class InEveryStep3(InStep):
    """Raises at step 3 of each episode that has one."""

    def __init__(self) -> None:
        super().__init__("raise", frozenset(range(1000)))


class ExitsInConstructor(Scripted):
    """Cannot be made, and would end the program."""

    def __init__(self) -> None:
        sys.exit(0)


class CannotBeClosed(LeavesANote):
    """Raises when it is closed, or ends the program."""

    def __init__(self, directory: Path, *, exits: bool = False) -> None:
        super().__init__(directory)
        self.exits = exits

    def close(self) -> None:
        super().close()
        if self.exits:
            sys.exit(0)
        raise RuntimeError("the game\nstays open")


class LargeNumbers(gym.Env[Any, Any]):
    """A Gymnasium environment with a float64 that float32 does not hold, at step 2."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = gym.spaces.Discrete(4)

    def __init__(self, where: str) -> None:
        self.where = where

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.t = 0
        return np.ones(3), {}

    def step(self, action: int) -> Any:
        obs = np.full(3, LARGE) if self.where == "obs" and self.t == 2 else np.ones(3)
        reward = LARGE if self.where == "reward" and self.t == 2 else 1.0
        self.t += 1
        return obs, reward, self.t == 9, False, {}


def large_numbers(where: str) -> Environment:
    """Inside its adapter."""
    return GymAdapter(LargeNumbers(where), episode_limit=9)


assert length_of(SEED) == 9
