"""Whether what environments give is sound: each step as it comes, and numbers before they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from endmark.envs import Frame, Guarded, Step
from endmark.envs.contract import (
    check_end,
    check_finite,
    check_frame,
    check_legal,
    check_outcomes,
    fault,
    goes_on_too_long,
    kind,
    values_of,
)
from endmark.envs.errors import located
from endmark.envs.fitting import fitted
from endmark.envs.protocol import frame_of
from endmark.episodes import EpisodeSpec
from endmark.episodes.spec import NO_OUTCOMES, Field

Rows = Mapping[str, npt.NDArray[Any]]


class Checked(Guarded):
    """An environment of a rollout: its errors say where they happened, and what it gives fits its spec.

    Numbers of another kind, such as a list or float64, are converted where the spec's dtype holds them. A
    wrong shape, a number that overflows, an unknown end, other outcomes than those of the spec, or an episode
    without an end is a `ContractError`. Whether frames and rewards are finite is not tested here: see
    `SeenCheck` and `ended_soundly`.

    k: its number among the environments of the rollout.
    """

    def __init__(self, env: Any, k: int) -> None:
        super().__init__(env, f"environment {k}")
        self._spec = spec = self.spec
        self._limit = spec.episode_limit
        self._in_frame = {name: _layout(spec.fields[name]) for name in Frame._fields if name in spec.fields}
        self._wants = tuple(map(self._in_frame.get, Frame._fields))
        self._reward_shape, self._reward_dtype = _layout(spec.fields["reward"])
        self._known: Frame | None = None  # the last one that fitted

    def reset(self, seed: int | None = None) -> Frame:
        """Start an episode and return its first frame."""
        return self._fitted(super().reset(seed))

    def step(self, actions: npt.NDArray[Any]) -> Step:
        """Apply one action per agent and return the result."""
        try:  # as in `Guarded`, whose method would take another call
            step = self._env.step(actions)
        except (Exception, SystemExit) as error:
            raise located(error, f"{self.episode}, step {self._steps}") from error
        self._steps += 1
        try:
            frame, reward, end, outcomes = step
            is_fit = (  # as nearly every step, which takes the shortest way
                type(step) is Step
                and frame is self._known
                and reward.dtype is self._reward_dtype
                and reward.shape == self._reward_shape
                and end is None
                and outcomes is NO_OUTCOMES
                and self._steps < self._limit
            )
        except (TypeError, ValueError, AttributeError):  # it is no Step, or its reward is no array
            is_fit = False
        return step if is_fit else self._fitted_step(step)

    def _fitted_step(self, step: Any) -> Step:
        """A step that fits the spec, made of this one."""
        if not isinstance(step, Step):
            raise fault(self._last_step, kind(step), "a Step")
        frame, reward, end = self._fitted(step.frame), step.reward, step.end
        if not _fits(reward, self._reward_shape, self._reward_dtype):
            reward = fitted(reward, self._reward_shape, self._reward_dtype, f"{self._last_step}, reward")
        if end is not None:
            check_end(end, self._last_step)
        elif self._steps >= self._limit:
            raise goes_on_too_long(self._spec, self._last_step)
        outcomes = step.outcomes
        if end is not None or outcomes is not NO_OUTCOMES:
            check_outcomes(step, self._spec, self._last_step)
            outcomes = {name: float(value) for name, value in outcomes.items()}
        return Step(frame, reward, end, outcomes)

    @property
    def _last_step(self) -> str:
        return f"{self.episode}, step {self._steps - 1}"

    def _fitted(self, frame: Any) -> Frame:
        """The frame itself if it fits the spec, or else one that does."""
        known = self._known
        if (  # arrays that an environment uses again need no second look
            known is not None
            and type(frame) is Frame
            and frame.obs is known.obs
            and frame.avail_actions is known.avail_actions
            and frame.alive is known.alive
            and frame.state is known.state
        ):
            return frame
        if type(frame) is Frame:
            for value, want in zip(frame, self._wants, strict=True):
                if value is not None if want is None else not _fits(value, *want):
                    break
            else:
                self._known = frame
                return frame
        where = f"{self.episode}, frame {self._steps}"
        values = values_of(frame, self._spec, where)
        return frame_of({name: fitted(v, *self._in_frame[name], f"{where}, {name}") for name, v in values})


def _fits(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return getattr(value, "dtype", None) is dtype and value.shape == shape


class SeenCheck:
    """Tests what a policy is about to see in all environments at once: some microseconds, however many.

    That is: numbers are finite, and an agent that is alive has a legal action.

    rows: the frames, one row an environment, in the same memory at every step.
    """

    def __init__(self, spec: EpisodeSpec, rows: Rows) -> None:
        self._spec, self._rows = spec, rows
        self._numbers = [array for array in rows.values() if array.dtype.kind == "f"]

    def passes(self) -> bool:
        """Whether all is well."""
        avail_actions, alive = self._rows.get("avail_actions"), self._rows["alive"]
        return all(map(_all_finite, self._numbers)) and _all_can_act(avail_actions, alive)

    def check(self, k: int, where: str, *, legal: bool = True) -> None:
        """Raise the `ContractError` of environment k, if it has a fault.

        legal: whether its agents are about to act.
        """
        frame = frame_of({name: array[k] for name, array in self._rows.items()})
        check_frame(frame, self._spec, where)
        if legal:
            check_legal(frame, where)


def ended_soundly(rewards: npt.NDArray[Any], last: Step) -> bool:
    """Whether an episode's rewards [L] or [L, N] and its final frame, which no policy sees, are sound."""
    frame = last.frame
    return (
        _all_finite(rewards)
        and _all_finite(frame.obs)
        and (frame.state is None or _all_finite(frame.state))
        # The final frame of a truncated episode has a value, for which an action is chosen.
        and (not last.truncated or _all_can_act(frame.avail_actions, frame.alive))
    )


def check_ended(rewards: npt.NDArray[Any], last: Step, where: str) -> None:
    """Raise the `ContractError` of an episode that has not `ended_soundly`.

    where: the episode.
    """
    frame, at_the_end = last.frame, f"{where}, frame {len(rewards)}"
    for t, reward in enumerate(rewards):
        check_finite(reward, f"{where}, step {t}, reward")
    check_finite(frame.obs, f"{at_the_end}, obs")
    if frame.state is not None:
        check_finite(frame.state, f"{at_the_end}, state")
    if last.truncated:
        check_legal(frame, at_the_end)


def _all_finite(array: npt.NDArray[Any]) -> bool:
    """Whether no number is NaN or infinite. The fastest way for small arrays."""
    return b"\0" not in np.isfinite(array).tobytes()


def _all_can_act(avail_actions: npt.NDArray[np.bool_] | None, alive: npt.NDArray[np.bool_]) -> bool:
    """Whether each agent that is alive has a legal action. Often every action is legal."""
    if avail_actions is None:  # actions are vectors
        return True
    return b"\0" not in avail_actions.tobytes() or bool((alive <= avail_actions.any(-1)).all())


def _layout(field: Field) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and numpy dtype of a field."""
    return field.shape, torch.zeros((), dtype=field.dtype).numpy().dtype
