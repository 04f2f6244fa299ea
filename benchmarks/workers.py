"""Environment steps a second in this process, in worker processes and by Ray actors, with a slow environment.

    python -m benchmarks.workers [--env ENV] [--sleep-ms 10] [--workers 1 2 4 8] [--actors 1 2 4] [--n-envs 8]

Workers must first give the same episodes as this process, and so must each actor. Rounds are interleaved. The
output is the median speed and the median ratio to this process. `--sleep-ms 0` shows what is spent beside
the environment.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from endmark.algorithms import QLearner, VDNConfig
from endmark.envs import Frame, Step, make
from endmark.episodes import EpisodeBatch
from endmark.nets import Actor
from endmark.policies import EpsilonGreedy
from endmark.rollout import (
    Actors,
    ByActors,
    EpisodeSeeds,
    InProcess,
    Lockstep,
    Player,
    Rollout,
    VectorEnv,
    Workers,
)

FORAGING = "lbforaging:Foraging-8x8-2p-3f-v3"


class Task(NamedTuple):
    """What is played: an environment that sleeps so many seconds at every step."""

    env: str = FORAGING
    seconds: float = 0.0


class Slow:
    """An environment that sleeps at every step, like one that waits for a game."""

    def __init__(self, task: Task) -> None:
        self._env, self._seconds = make(task.env), task.seconds
        self.spec = self._env.spec

    def reset(self, seed: int | None = None) -> Frame:
        """Start an episode."""
        return self._env.reset(seed)

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Sleep and act."""
        if self._seconds > 0:
            time.sleep(self._seconds)
        return self._env.step(actions)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def envs_of(task: Task, workers: int, n_envs: int) -> VectorEnv:
    """Environments in this many workers; with 0 in this process."""
    make_env = partial(Slow, task)
    if workers == 0:
        return InProcess([make_env() for _ in range(n_envs)])
    with closing(make_env()) as env:
        spec = env.spec
    return Workers(make_env, spec, workers=workers, envs_per_worker=n_envs // workers)


def actor_of(task: Task) -> Actor:
    """A recurrent agent with a fixed seed."""
    torch.manual_seed(0)
    return QLearner(make(task.env).spec, VDNConfig()).actor


def policy_of(actor: Actor, n_envs: int) -> EpsilonGreedy:
    """An ε-greedy policy with a fixed seed."""
    policy = EpsilonGreedy(actor, n_envs, torch.Generator().manual_seed(0))
    policy.epsilon = 0.3
    return policy


def player_of(task: Task, n_envs: int, number: int) -> Player:
    """What an actor plays with."""
    envs, actor = envs_of(task, 0, n_envs), actor_of(task)
    rollout = Lockstep(envs, EpisodeSeeds(number))
    return Player(rollout, policy_of(actor, n_envs), actor, n_envs, envs.close)


@contextmanager
def played(task: Task, place: str, count: int, n_envs: int) -> Iterator[tuple[Rollout, EpsilonGreedy]]:
    """A rollout in so many `workers` or by so many `actors`, or here with 0, and a policy for it."""
    actor = actor_of(task)
    policy = policy_of(actor, n_envs)
    if place == "actors":
        make_player = partial(player_of, task, n_envs // count)
        with closing(Slow(task)) as env:
            spec = env.spec
        with closing(Actors(make_player, spec, actors=count, n_envs=n_envs)) as actors:
            yield ByActors(actors, spec, actor.state_dict, lambda: 0), policy
        return
    with closing(envs_of(task, count, n_envs)) as envs:
        yield Lockstep(envs, EpisodeSeeds(0)), policy


def check(task: Task, place: str, count: int, n_envs: int) -> None:
    """Check that they collect the same first episodes as this process; for actors, the first of them."""
    here = n_envs if place == "workers" else n_envs // count
    given = []
    for who, number, envs in [("workers", 0, here), (place, count, n_envs)]:
        with played(task, who, number, envs) as (rollout, policy):
            episodes: list[EpisodeBatch] = []
            while len(episodes) < here:
                episodes += rollout.collect(policy).split()
            given.append(episodes[:here])
    for one, other in zip(*given, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one.fields)


def speed(task: Task, place: str, count: int, n_envs: int, duration: float) -> float:
    """Environment steps a second over `duration` seconds."""
    with played(task, place, count, n_envs) as (rollout, policy):
        for _ in range(count or 1):
            rollout.collect(policy)  # warm-up: starting is not measured
        steps, begin = rollout.env_steps, time.perf_counter()
        while time.perf_counter() - begin < duration:
            rollout.collect(policy)
        return (rollout.env_steps - steps) / (time.perf_counter() - begin)


def main() -> None:
    """Check, measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--env", default=FORAGING)
    parser.add_argument("--sleep-ms", type=float, default=10.0)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--actors", type=int, nargs="*", default=[])
    parser.add_argument("--n-envs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    options = parser.parse_args()
    torch.set_num_threads(1)
    places = [("workers", count) for count in options.workers]
    places += [("actors", count) for count in options.actors]
    for place, count in places:
        check(Task(options.env), place, count, options.n_envs)
    task, places = Task(options.env, options.sleep_ms / 1000), [("workers", 0), *places]
    rounds = [
        [speed(task, place, count, options.n_envs, options.seconds) for place, count in places]
        for _ in range(options.rounds)
    ]
    for i, (place, count) in enumerate(places):
        steps = statistics.median(each[i] for each in rounds)
        ratio = statistics.median(each[i] / each[0] for each in rounds)
        where = f"{count} {place}" if count else "this process"
        print(f"{where:>12}  {steps:7.0f} env steps/s  {ratio:5.2f} x")


if __name__ == "__main__":
    main()
