"""Does an environment keep to the protocol? Play it, and say where it does not."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from endmark.envs.errors import EnvError
from endmark.envs.protocol import End, Environment, Frame, Step
from endmark.episodes import EpisodeSpec
from endmark.episodes.spec import Field

Actions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CheckReport:
    """What was played.

    mean_length: steps an episode.
    mean_return: sum of the rewards of an episode, over agents too where each has its own.
    """

    episodes: int
    steps: int
    terminated: int
    truncated: int
    mean_length: float
    mean_return: float


@dataclass
class _Episode:
    """What was played, in arrays of its own."""

    first: Frame
    actions: list[Actions] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


def check(
    env: Any,
    *,
    episodes: int = 3,
    seed: int = 0,
) -> CheckReport:
    """Play random legal actions, twice from the same seed, and raise `EnvError` at the first fault.

    The message names the episode, the frame or step, the field and the agent, what was given and what was
    wanted. Frame t is what is seen before step t; both count from 0. Only what was played has been checked:
    let there be enough episodes to meet every kind of end.
    """
    if episodes < 1:
        raise _fault("check(episodes=...)", episodes, "at least 1")
    spec = _checked_spec(env)
    rng = np.random.default_rng(seed)
    played = [_play(env, spec, number, seed if number == 0 else None, rng) for number in range(episodes)]
    for number, model in enumerate(played):
        _play_again(env, spec, number, seed, model)
    lengths = [len(episode.steps) for episode in played]
    rewards = [sum(float(step.reward.sum()) for step in episode.steps) for episode in played]
    return CheckReport(
        episodes=episodes,
        steps=sum(lengths),
        terminated=sum(bool(episode.steps[-1].terminated) for episode in played),
        truncated=sum(bool(episode.steps[-1].truncated) for episode in played),
        mean_length=float(np.mean(lengths)),
        mean_return=float(np.mean(rewards)),
    )


def _checked_spec(env: object) -> EpisodeSpec:
    """The environment's spec, once its methods have been seen to be there."""
    calls: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = [
        ("reset", "reset(seed=None)", (), {}),
        ("reset", "reset(seed=None)", (), {"seed": 0}),
        ("step", "step(actions)", (None,), {}),
        ("close", "close()", (), {}),
    ]
    for name, want, args, kwargs in calls:
        if not callable(method := getattr(env, name, None)):
            raise _fault(_kind(env), f"no method '{name}'", want)
        try:
            inspect.signature(method).bind(*args, **kwargs)
        except TypeError as error:
            raise _fault(_kind(env), f"{name}{inspect.signature(method)}", want) from error
    spec = getattr(env, "spec", None)
    if not isinstance(spec, EpisodeSpec):
        raise _fault("spec", _kind(spec), "an EpisodeSpec")
    return spec


def _play(
    env: Environment, spec: EpisodeSpec, number: int, seed: int | None, rng: np.random.Generator
) -> _Episode:
    """Play and record an episode with random legal actions."""
    frame = env.reset() if seed is None else env.reset(seed=seed)
    _check_frame(frame, spec, f"episode {number}, frame 0")
    _check_agents(frame, None, f"episode {number}, frame 0")
    episode = _Episode(_copy(frame))
    frame = episode.first
    for t in range(spec.episode_limit):
        actions = _random_actions(frame, rng)
        step = env.step(actions.copy())
        _check_step(step, spec, f"episode {number}, step {t}")
        _check_frame(step.frame, spec, f"episode {number}, frame {t + 1}")
        _check_agents(step.frame, frame, f"episode {number}, frame {t + 1}", nothing_follows=step.terminated)
        step = step._replace(frame=_copy(step.frame), reward=np.array(step.reward))
        episode.actions.append(actions)
        episode.steps.append(step)
        if step.terminated or step.truncated:
            return episode
        frame = step.frame
    raise _fault(
        f"episode {number}, step {spec.episode_limit - 1}",
        "an episode that goes on",
        f"an end: spec.episode_limit is {spec.episode_limit}",
    )


def _play_again(env: Environment, spec: EpisodeSpec, number: int, seed: int, model: _Episode) -> None:
    """Play an episode as recorded, except for agents that have left, whose actions must not matter."""
    why = f"as the first time: reset(seed={seed}) and the same actions must give the same"
    leavers = ", whatever the actions of agents that have left"
    again = f"episode {number} played again"
    frame = env.reset(seed=seed) if number == 0 else env.reset()
    _check_frame(frame, spec, f"{again}, frame 0")
    _check_same(frame, model.first, f"{again}, frame 0", why)
    alive = model.first.alive
    for t, (actions, want) in enumerate(zip(model.actions, model.steps, strict=True)):
        if not alive.all() and leavers not in why:
            why += leavers
        step = env.step(np.where(alive, actions, (actions + 1) % spec.n_actions))
        _check_step(step, spec, f"{again}, step {t}")
        _check_frame(step.frame, spec, f"{again}, frame {t + 1}")
        _check_same(step.frame, want.frame, f"{again}, frame {t + 1}", why)
        _check_same(step, want, f"{again}, step {t}", why)
        alive = want.frame.alive


def _random_actions(frame: Frame, rng: np.random.Generator) -> Actions:
    """A legal action for everybody alive, any action for the rest."""
    legal = frame.avail_actions | ~frame.alive[:, None]
    return np.array([rng.choice(np.flatnonzero(row)) for row in legal], np.int64)


def _check_frame(frame: object, spec: EpisodeSpec, where: str) -> None:
    """Types, shapes, dtypes, finite numbers."""
    if not isinstance(frame, Frame):
        raise _fault(where, _kind(frame), "a Frame")
    for name, value in frame._asdict().items():
        if name in spec.fields:
            _check_array(value, spec.fields[name], f"{where}, {name}")
        elif value is not None:
            raise _fault(f"{where}, {name}", _kind(value), f"None: the spec has no field '{name}'")


def _check_agents(frame: Frame, before: Frame | None, where: str, *, nothing_follows: bool = False) -> None:
    """Who is alive, what they can do, and that those who have left see nothing."""
    if before is not None:
        for agent in np.flatnonzero(frame.alive & ~before.alive):
            raise _fault(f"{where}, alive, agent {agent}", True, "False: it had left, and cannot come back")
    for agent in np.flatnonzero(~frame.alive):
        if frame.obs[agent].any():
            raise _fault(
                f"{where}, obs, agent {agent}", "numbers other than 0", "zeros: it has left (alive is False)"
            )
    if nothing_follows:
        return
    if not frame.alive.any():
        raise _fault(
            f"{where}, alive", "False for everybody", "somebody alive as long as no step has terminated"
        )
    for agent in np.flatnonzero(frame.alive & ~frame.avail_actions.any(axis=1)):
        raise _fault(f"{where}, avail_actions, agent {agent}", "no legal action", "at least one: it is alive")


def _check_step(step: object, spec: EpisodeSpec, where: str) -> None:
    """The step itself; its frame is checked as the next frame."""
    if not isinstance(step, Step):
        raise _fault(where, _kind(step), "a Step")
    _check_array(step.reward, spec.fields["reward"], f"{where}, reward")
    end: object = step.end
    if end is not None and not (isinstance(end, str) and end in get_args(End)):
        raise _fault(f"{where}, end", repr(end), f"None or one of {', '.join(map(repr, get_args(End)))}")


def _check_array(value: object, want: Field, where: str) -> None:
    if not isinstance(value, np.ndarray | np.generic):
        raise _fault(where, _kind(value), "a numpy array")
    dtype = str(want.dtype).removeprefix("torch.")
    if value.dtype.name != dtype:
        raise _fault(where, f"dtype {value.dtype.name}", f"dtype {dtype}")
    if value.shape != want.shape:
        raise _fault(where, f"shape {value.shape}", f"shape {want.shape}, as in the spec")
    if value.dtype.kind == "f" and not (finite := np.isfinite(value)).all():
        place = _first(~finite)
        raise _fault(_at(where, place), np.asarray(value)[place], "finite numbers")


def _check_same(given: Frame | Step, want: Frame | Step, where: str, why: str) -> None:
    """Every field equal, bit for bit. Their shapes have been checked."""
    for name, first in want._asdict().items():
        if first is None or name == "frame":
            continue
        second = getattr(given, name)
        if (differs := np.asarray(second != first)).any():
            place = _first(differs)
            raise _fault(
                _at(f"{where}, {name}", place), np.asarray(second)[place], f"{np.asarray(first)[place]} {why}"
            )


def _first(where: Any) -> tuple[int, ...]:
    """The first place that is True."""
    return tuple(int(i) for i in np.argwhere(where)[0])


def _at(where: str, place: tuple[int, ...]) -> str:
    if not place:
        return where
    is_state = where.endswith("state")
    first = "number" if is_state else "agent"
    rest = f", number {list(place[1:])}" if place[1:] else ""
    return f"{where}, {first} {place[0]}{rest}"


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _copy(frame: Frame) -> Frame:
    """A frame of its own, since the environment may reuse its arrays."""
    return Frame(*(None if array is None else np.array(array) for array in frame))  # type: ignore[arg-type]


def _fault(where: str, given: object, want: str) -> EnvError:
    return EnvError(f"{where}: given {given}, want {want}")
