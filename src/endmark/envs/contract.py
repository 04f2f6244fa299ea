"""The tests of one environment, frame or step, and the wording of their errors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import gymnasium as gym
import numpy as np

from endmark.envs.errors import ContractError
from endmark.envs.protocol import End, Frame, Step
from endmark.episodes import EpisodeSpec
from endmark.episodes.spec import Field
from endmark.wording import shown

LARGEST = float(np.finfo(np.float32).max)


def checked_spec(env: object) -> EpisodeSpec:
    """Test that the methods exist and take the right arguments; return the spec."""
    calls: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = [
        ("reset", "reset(seed=None)", (), {}),
        ("reset", "reset(seed=None)", (), {"seed": 0}),
        ("step", "step(actions)", (None,), {}),
        ("close", "close()", (), {}),
    ]
    for name, want, args, kwargs in calls:
        if not callable(method := getattr(env, name, None)):
            raise fault(kind(env), f"no method '{name}'", want)
        try:
            inspect.signature(method).bind(*args, **kwargs)
        except TypeError as error:
            raise fault(kind(env), f"{name}{inspect.signature(method)}", want) from error
    spec = getattr(env, "spec", None)
    if not isinstance(spec, EpisodeSpec):
        hint = ", as a GymAdapter gives to a Gymnasium environment" if isinstance(env, gym.Env) else ""
        raise fault("spec", kind(spec), f"an EpisodeSpec{hint}")
    return spec


def check_first_frame(frame: Any, spec: EpisodeSpec, where: str) -> None:
    """Test a frame that `reset` gave."""
    check_frame(frame, spec, where)
    check_agents(frame, None, where)


def check_frame(frame: object, spec: EpisodeSpec, where: str) -> None:
    """Test every field of a frame, and that it has no others than the spec."""
    for name, value in values_of(frame, spec, where):
        _check_array(value, spec.fields[name], f"{where}, {name}")


def values_of(frame: object, spec: EpisodeSpec, where: str) -> Iterator[tuple[str, Any]]:
    """The fields of a frame that the spec has; it has no others."""
    if not isinstance(frame, Frame):
        raise fault(where, kind(frame), "a Frame")
    for name, value in frame._asdict().items():
        if name in spec.fields:
            yield name, value
        elif value is not None:
            raise fault(f"{where}, {name}", kind(value), f"None: the spec has no field '{name}'")


def check_agents(frame: Frame, before: Frame | None, where: str, *, terminated: bool = False) -> None:
    """Test `alive`, the legal actions of agents that are alive, and the observations of those that left."""
    if before is not None:
        for agent in np.flatnonzero(frame.alive & ~before.alive):
            raise fault(f"{where}, alive, agent {agent}", True, "False: the agent left earlier")
    for agent in np.flatnonzero(~frame.alive):
        if frame.obs[agent].any():
            want = "zeros: the agent has left (alive is False)"
            raise fault(f"{where}, obs, agent {agent}", "numbers other than 0", want)
    if terminated:  # nothing is bootstrapped from this frame
        return
    if not frame.alive.any():
        want = "at least one agent alive, unless the step before terminated"
        raise fault(f"{where}, alive", "False for all agents", want)
    check_legal(frame, where)


def check_legal(frame: Frame, where: str) -> None:
    """Test that each agent that is alive has a legal action. Where actions are vectors, it has."""
    if frame.avail_actions is None:
        return
    for agent in np.flatnonzero(frame.alive & ~frame.avail_actions.any(axis=1)):
        want = "at least one: the agent is alive"
        raise fault(f"{where}, avail_actions, agent {agent}", "no legal action", want)


def check_step(step: object, spec: EpisodeSpec, where: str) -> None:
    """Test the reward, the end and the outcomes. The step's frame is tested as the next frame."""
    if not isinstance(step, Step):
        raise fault(where, kind(step), "a Step")
    _check_array(step.reward, spec.fields["reward"], f"{where}, reward")
    check_end(step.end, where)
    check_outcomes(step, spec, where)


def check_end(end: object, where: str) -> None:
    """Test that a step's end is one."""
    if end is not None and not (isinstance(end, str) and end in get_args(End)):
        raise fault(f"{where}, end", repr(end), f"None or one of {', '.join(map(repr, get_args(End)))}")


def check_outcomes(step: Step, spec: EpisodeSpec, where: str) -> None:
    """Test the outcomes: with an end one number for each of the spec, finite in float32; none before."""
    where, outcomes, wanted = f"{where}, outcomes", step.outcomes, spec.outcomes if step.end else ()
    if not isinstance(outcomes, Mapping):
        raise fault(where, kind(outcomes), "a mapping from names to numbers")
    for name in wanted:
        if name not in outcomes:
            raise fault(where, f"no '{name}'", f"a number for each of {', '.join(wanted)}, as in the spec")
        if not _is_finite(outcomes[name]):
            want = "a finite int, float or numpy number"
            raise fault(f"{where}, '{name}'", shown(outcomes[name]), want)
    for name in outcomes:
        if name not in wanted:
            names = ", ".join(spec.outcomes) or "none"
            raise fault(where, shown(name), f"{names}, as in the spec" if step.end else "none before the end")


def _is_finite(value: object) -> bool:
    """Whether it is a number that float32 holds."""
    if isinstance(value, np.floating | np.integer | np.bool_):
        value = float(value)
    return isinstance(value, int | float) and abs(value) <= LARGEST


def _check_array(value: object, want: Field, where: str) -> None:
    """Test type, shape and dtype, and that numbers are finite."""
    if not isinstance(value, np.ndarray | np.generic):
        raise fault(where, kind(value), "a numpy array")
    dtype = str(want.dtype).removeprefix("torch.")
    if value.dtype.name != dtype:
        raise fault(where, f"dtype {value.dtype.name}", f"dtype {dtype}")
    if value.shape != want.shape:
        raise fault(where, f"shape {value.shape}", f"shape {want.shape}, as in the spec")
    check_finite(value, where)


def check_finite(value: Any, where: str) -> None:
    """Test an array for NaN and infinities, if it can have them."""
    if value.dtype.kind == "f" and not (finite := np.isfinite(value)).all():
        index = first_index(~finite)
        raise fault(place(where, index), np.asarray(value)[index], "finite numbers")


def goes_on_too_long(spec: EpisodeSpec, where: str) -> ContractError:
    """The error for a step that is the last one allowed, and does not end the episode."""
    return fault(where, "an episode that goes on", f"an end: spec.episode_limit is {spec.episode_limit}")


def fault(where: str, given: object, want: str) -> ContractError:
    """The one-line error: the place, what the environment gave, and what the contract wants."""
    return ContractError(f"{where}: given {given}, want {want}")


def kind(value: object) -> str:
    """The type of a value, in words."""
    return "None" if value is None else f"a {type(value).__name__}"


def first_index(where: Any) -> tuple[int, ...]:
    """The first index at which the array is True."""
    return tuple(int(i) for i in np.argwhere(where)[0])


def place(where: str, index: tuple[int, ...]) -> str:
    """A field and an index in it, in words. The first axis of every field but the state is over agents.

    where: may end in the agent, whose field it is then.
    """
    if not index:
        return where
    if where.rpartition(", ")[2].startswith("agent "):
        return f"{where}, number {list(index)}"
    first = "number" if where.endswith("state") else "agent"
    rest = f", number {list(index[1:])}" if index[1:] else ""
    return f"{where}, {first} {index[0]}{rest}"
