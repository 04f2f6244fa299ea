"""Environment steps a second in this process and in worker processes, with a slow environment.

    python -m benchmarks.workers [--sleep-ms 10] [--workers 1 2 4 8] [--n-envs 8] [--rounds 3]

Workers must first give the same episodes as this process. Rounds are interleaved. The output is the median
speed and the median ratio to this process. `--sleep-ms 0` shows the overhead of workers.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import closing
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from endmark.algorithms import QLearner, VDNConfig
from endmark.envs import Frame, Step, make
from endmark.policies import EpsilonGreedy
from endmark.rollout import EpisodeSeeds, InProcess, Lockstep, VectorEnv, Workers

ENV = "lbforaging:Foraging-8x8-2p-3f-v3"


class Slow:
    """Level-Based Foraging that sleeps at every step, like an environment that waits for a game."""

    def __init__(self, seconds: float) -> None:
        self._env, self._seconds = make(ENV), seconds
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


def envs_of(workers: int, n_envs: int, seconds: float) -> VectorEnv:
    """Environments in this many workers; with 0 in this process."""
    make_env = partial(Slow, seconds)
    if workers == 0:
        return InProcess([make_env() for _ in range(n_envs)])
    with closing(make_env()) as env:
        spec = env.spec
    return Workers(make_env, spec, workers=workers, envs_per_worker=n_envs // workers)


def policy_of(n_envs: int) -> EpsilonGreedy:
    """An ε-greedy policy with a fixed seed."""
    torch.manual_seed(0)
    learner = QLearner(make(ENV).spec, VDNConfig())
    policy = EpsilonGreedy(learner.actor, n_envs, torch.Generator().manual_seed(0))
    policy.epsilon = 0.3
    return policy


def check(workers: int, n_envs: int) -> None:
    """Check that workers collect the same first episodes as this process."""
    given = []
    for count in (0, workers):
        with closing(envs_of(count, n_envs, 0.0)) as envs:
            rollout, policy = Lockstep(envs, EpisodeSeeds(0)), policy_of(n_envs)
            given.append([rollout.collect(policy) for _ in range(20)])
    for one, other in zip(*given, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one.fields)


def speed(workers: int, n_envs: int, seconds: float, duration: float) -> float:
    """Environment steps a second over `duration` seconds; the environment sleeps `seconds` at every step."""
    with closing(envs_of(workers, n_envs, seconds)) as envs:
        rollout, policy = Lockstep(envs, EpisodeSeeds(0)), policy_of(n_envs)
        rollout.collect(policy)  # warm-up: starting is not measured
        steps, begin = rollout.env_steps, time.perf_counter()
        while time.perf_counter() - begin < duration:
            rollout.collect(policy)
        return (rollout.env_steps - steps) / (time.perf_counter() - begin)


def main() -> None:
    """Check, measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sleep-ms", type=float, default=10.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--n-envs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for workers in options.workers:
        check(workers, options.n_envs)
    counts = [0, *options.workers]
    rounds = [
        [speed(count, options.n_envs, options.sleep_ms / 1000, 3.0) for count in counts]
        for _ in range(options.rounds)
    ]
    for i, count in enumerate(counts):
        steps = statistics.median(each[i] for each in rounds)
        ratio = statistics.median(each[i] / each[0] for each in rounds)
        where = f"{count} workers" if count else "this process"
        print(f"{where:>12}  {steps:7.0f} env steps/s  {ratio:5.2f} x")


if __name__ == "__main__":
    main()
