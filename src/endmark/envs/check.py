"""Test an environment against the contract in `endmark.envs.protocol`, by playing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from endmark.envs.contract import (
    check_agents,
    check_first_frame,
    check_frame,
    check_step,
    checked_spec,
    fault,
    first_index,
    goes_on_too_long,
    kind,
    place,
)
from endmark.envs.errors import EnvError, located
from endmark.envs.guarded import Guarded
from endmark.envs.protocol import Environment, Frame, Step
from endmark.episodes import EpisodeSpec

Actions = npt.NDArray[np.int64] | npt.NDArray[np.float32]

FEW_STEPS = 3
RESETS_PER_SEED = 5


@dataclass(frozen=True)
class CheckReport:
    """Statistics of the whole episodes that `check` played.

    mean_length: steps per episode.
    mean_return: sum of an episode's rewards, also over agents where each has its own.
    """

    episodes: int
    steps: int
    terminated: int
    truncated: int
    mean_length: float
    mean_return: float


@dataclass
class _Episode:
    """An episode of a fresh environment, or its first steps. The arrays are copies."""

    seed: int
    first: Frame
    actions: list[Actions] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


class _Difference(NamedTuple):
    """The first value in which an episode differs from the same episode in a fresh environment."""

    where: str
    given: object
    want: object


def check(
    make_env: Callable[[], Any],
    *,
    episodes: int = 3,
    resets: int = 100,
    seed: int = 0,
) -> CheckReport:
    """Play random legal actions, or random vectors, and raise `EnvError` at the first breach of the contract.

    An episode must be a function of its seed and the actions. So one environment is used again and again,
    and each of its episodes is compared with the same episode in a fresh environment.

    make_env: makes an environment: its class, or `partial(make, "CartPole-v1")`. Everything that it makes is
        closed.
    episodes: number of whole episodes, with the seeds `seed`, `seed + 1` and so on. Choose enough of them to
        meet every way in which an episode can end: what is not played is not tested.
    resets: number of further resets of the used environment, each followed by three steps. Five resets
        share a seed, and so a fresh environment. Lower it if an environment is slow to make or to reset.

    The error names the seed, the frame or step, the field and the agent, the value given and the value
    wanted. Frames and steps count from 0; frame t is the observation before step t.
    """
    for name, number in (("episodes", episodes), ("resets", resets)):
        if number < 1:
            raise fault(f"check({name}=...)", number, "at least 1")
    if not callable(cast("object", make_env)):
        want = "a callable that makes an environment: its class, or partial(make, env_id)"
        raise fault("check(make_env)", kind(make_env), want)
    rng = np.random.default_rng(seed)
    with _made(make_env) as used:
        spec = used.spec
        fresh = _Fresh(make_env, used, spec)
        whole = [fresh.record(seed + k, rng, spec.episode_limit) for k in range(episodes)]
        for episode in whole:
            _compare(used, episode, fresh)
            _check_that_leavers_are_ignored(episode, fresh)
        n_seeds = -(-resets // RESETS_PER_SEED)
        few_steps = min(FEW_STEPS, spec.episode_limit)
        few = [fresh.record(seed + episodes + k, rng, few_steps) for k in range(n_seeds)]
        # Each round has another order, so that a seed follows another one each time.
        order = chain.from_iterable(rng.permutation(n_seeds) for _ in range(RESETS_PER_SEED))
        for k in islice(order, resets):
            _compare(used, few[k], fresh)
        _compare(used, whole[0], fresh)  # at its first comparison, the environment had no history yet
        check_first_frame(used.reset(), spec, "reset() without a seed")
    try:
        used.close()
    except EnvError as error:
        given = type(error.__cause__).__name__
        raise fault("close() called twice", given, "no effect the second time") from error
    return _report(whole)


class _Fresh:
    """Makes, plays and closes environments that were never used before."""

    def __init__(self, make_env: Callable[[], Any], used: Guarded, spec: EpisodeSpec) -> None:
        self.make_env, self.used, self.spec = make_env, used, spec

    @contextmanager
    def made(self) -> Iterator[Guarded]:
        """A fresh environment, closed at the end."""
        with _made(self.make_env, self.used) as env:
            if env.spec != self.spec:
                raise fault("make_env()", "environments whose specs differ", "the same spec each time")
            yield env

    def record(self, seed: int, rng: np.random.Generator, max_steps: int) -> _Episode:
        """Play at most this many steps with random legal actions, and test each of them."""
        with self.made() as env:
            return _play(env, self.spec, seed, rng, max_steps)

    def difference(self, episode: _Episode, actions: list[Actions]) -> _Difference | None:
        """Play the episode's seed with these actions in another fresh environment."""
        with self.made() as env:
            return _first_difference(env, self.spec, episode, actions)


def _compare(used: Environment, episode: _Episode, fresh: _Fresh) -> None:
    """Play the episode in the used environment, and raise `EnvError` if it differs from the recorded one.

    Another fresh environment tells the cause: history, or a seed that does not decide everything.
    """
    found = _first_difference(used, fresh.spec, episode, episode.actions)
    if found is None:
        return
    if other := fresh.difference(episode, episode.actions):
        raise fault(
            other.where,
            other.given,
            f"{other.want}, as the first time: reset(seed={episode.seed}) and the same actions must give the "
            f"same episode",
        )
    raise fault(
        found.where,
        f"{found.given} in a used environment",
        f"{found.want}, as in a fresh one: an episode must depend on its seed and actions alone",
    )


def _check_that_leavers_are_ignored(episode: _Episode, fresh: _Fresh) -> None:
    """Play the episode again with other actions of the agents that have left."""
    frames = [episode.first, *(step.frame for step in episode.steps)]
    alive = [frame.alive for frame in frames[:-1]]
    if np.all(alive):
        return
    actions = [
        _other_actions(chosen, here, fresh.spec) for here, chosen in zip(alive, episode.actions, strict=True)
    ]
    if found := fresh.difference(episode, actions):
        raise fault(
            found.where,
            found.given,
            f"{found.want}, whatever the actions of agents that have left",
        )


@contextmanager
def _made(make_env: Callable[[], Any], used: Guarded | None = None) -> Iterator[Guarded]:
    """An environment with a sound spec, closed at the end; it may not be the used one.

    An error of the body takes precedence over one of `close`.
    """
    try:
        made = make_env()
    except EnvError:
        raise
    except (Exception, SystemExit) as error:
        raise located(error, "make_env()") from error
    if used is not None and used.is_of(made):
        raise fault("make_env()", "the same environment twice", "a fresh one at each call")
    env = Guarded(made)
    try:
        checked_spec(made)
        yield env
    except BaseException:
        with suppress(Exception):
            env.close()
        raise
    env.close()


def _play(
    env: Environment, spec: EpisodeSpec, seed: int, rng: np.random.Generator, max_steps: int
) -> _Episode:
    """Play and record an episode with random legal actions, and test each frame and step."""
    frame = env.reset(seed=seed)
    check_first_frame(frame, spec, f"seed {seed}, frame 0")
    episode = _Episode(seed, _copy(frame))
    frame = episode.first
    for t in range(max_steps):
        actions = _random_actions(frame, spec, rng)
        step = env.step(actions.copy())
        where = f"seed {seed}, frame {t + 1}"
        check_step(step, spec, f"seed {seed}, step {t}")
        check_frame(step.frame, spec, where)
        check_agents(step.frame, frame, where, terminated=step.terminated)
        step = step._replace(
            frame=_copy(step.frame), reward=np.array(step.reward), outcomes=dict(step.outcomes)
        )
        episode.actions.append(actions)
        episode.steps.append(step)
        if step.end is not None:
            return episode
        frame = step.frame
    if max_steps == spec.episode_limit:
        raise goes_on_too_long(spec, f"seed {seed}, step {max_steps - 1}")
    return episode


def _first_difference(
    env: Environment, spec: EpisodeSpec, episode: _Episode, actions: list[Actions]
) -> _Difference | None:
    """Play the episode's seed with these actions, up to the first value that is not as recorded."""
    seed = episode.seed
    frame = env.reset(seed=seed)
    check_frame(frame, spec, f"seed {seed}, frame 0")
    if found := _differs(frame, episode.first, f"seed {seed}, frame 0"):
        return found
    for t, (chosen, want) in enumerate(zip(actions, episode.steps, strict=True)):
        step = env.step(chosen.copy())
        check_step(step, spec, f"seed {seed}, step {t}")
        check_frame(step.frame, spec, f"seed {seed}, frame {t + 1}")
        found = _differs(step.frame, want.frame, f"seed {seed}, frame {t + 1}")
        if found := found or _differs(step, want, f"seed {seed}, step {t}"):
            return found
    return None


def _random_actions(frame: Frame, spec: EpisodeSpec, rng: np.random.Generator) -> Actions:
    """A legal action for each agent that is alive, any action for the others."""
    if spec.bounds is not None:
        low, high = np.array(spec.bounds.low), np.array(spec.bounds.high)
        return rng.uniform(low, high).astype(np.float32).clip(low, high, dtype=np.float32)
    legal = frame.legal | ~frame.alive[:, None]
    return np.array([rng.choice(np.flatnonzero(row)) for row in legal], np.int64)


def _other_actions(actions: Actions, keep: npt.NDArray[np.bool_], spec: EpisodeSpec) -> Actions:
    """These actions, and others for the agents that are not to keep theirs."""
    if spec.bounds is None:
        return np.where(keep, actions, (actions + 1) % spec.n_actions)
    low, high = np.array(spec.bounds.low, np.float32), np.array(spec.bounds.high, np.float32)
    return np.where(keep[:, None], actions, np.where(actions > low, low, high))


def _differs(given: Frame | Step, want: Frame | Step, where: str) -> _Difference | None:
    """The first value that is not equal. Shapes and dtypes are equal: they were tested before."""
    for name, wanted in want._asdict().items():
        value = getattr(given, name)
        if name != "frame" and (unequal := np.asarray(value != wanted)).any():
            index = first_index(unequal)
            at = place(f"{where}, {name}", index)
            return _Difference(at, np.asarray(value)[index], np.asarray(wanted)[index])
    return None


def _copy(frame: Frame) -> Frame:
    """A frame with its own arrays: the environment may overwrite those that it gave."""
    return Frame(*(None if array is None else np.array(array) for array in frame))  # type: ignore[arg-type]


def _report(episodes: list[_Episode]) -> CheckReport:
    lengths = [len(episode.steps) for episode in episodes]
    rewards = [sum(float(step.reward.sum()) for step in episode.steps) for episode in episodes]
    return CheckReport(
        episodes=len(episodes),
        steps=sum(lengths),
        terminated=sum(episode.steps[-1].terminated for episode in episodes),
        truncated=sum(episode.steps[-1].truncated for episode in episodes),
        mean_length=float(np.mean(lengths)),
        mean_return=float(np.mean(rewards)),
    )
