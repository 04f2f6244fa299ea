"""Environment steps a second of acting and learning: in turn, and overlapped.

    python -m benchmarks.overlap [--sleep-ms 5] [--workers 8] [--n-envs 8] [--steps 3000] [--rounds 3]

QMIX on Level-Based Foraging with a sleep at every step. As in `endmark train`, every new episode is followed
by an update of 32 episodes. Two overlapped runs must first give the same weights. Rounds are interleaved.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import closing

import torch

from benchmarks.workers import Slow, Task, envs_of
from endmark.algorithms import QLearner, QMIXConfig
from endmark.episodes import EpisodeReplay
from endmark.policies import EpsilonGreedy
from endmark.rollout import EpisodeSeeds, Lockstep
from endmark.training.updates import InTurn, Overlapped

BATCH_SIZE = 32


def train(
    overlap: bool, workers: int, n_envs: int, seconds: float, steps: int
) -> tuple[float, dict[str, torch.Tensor]]:
    """Train for `steps` from the first update on; returns environment steps a second and the weights."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    learner = QLearner(Slow(Task()).spec, QMIXConfig())
    replay = EpisodeReplay(learner.spec, 20_000)
    updates = Overlapped(learner, 1) if overlap else InTurn(learner)
    policy = EpsilonGreedy(updates.actor, n_envs, generator)
    policy.epsilon = 0.3
    begin, first_steps = 0.0, 0
    with closing(envs_of(Task(seconds=seconds), workers, n_envs)) as envs:
        rollout = Lockstep(envs, EpisodeSeeds(0))
        while not begin or rollout.env_steps - first_steps < steps:
            episodes = rollout.collect(policy)
            updates.finish()
            for episode in episodes.split():
                replay.add(episode)
                if len(replay) >= BATCH_SIZE:
                    if not begin:
                        begin, first_steps = time.perf_counter(), rollout.env_steps
                    updates.begin(replay.sample(BATCH_SIZE, generator))
        updates.finish()
        speed = (rollout.env_steps - first_steps) / (time.perf_counter() - begin)
    return speed, learner.networks.state_dict()


def main() -> None:
    """Check, measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sleep-ms", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--n-envs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    given, want = (train(True, options.workers, options.n_envs, 0.0, 1000)[1] for _ in range(2))
    assert all(torch.equal(given[name], want[name]) for name in want)
    rounds = [
        [
            train(overlap, options.workers, options.n_envs, options.sleep_ms / 1000, options.steps)[0]
            for overlap in (False, True)
        ]
        for _ in range(options.rounds)
    ]
    in_turn, overlapped = (statistics.median(each[i] for each in rounds) for i in range(2))
    ratios = ", ".join(f"{each[1] / each[0]:.2f}" for each in rounds)
    print(f"in turn {in_turn:.0f}, overlapped {overlapped:.0f} env steps/s; ratios {ratios}")


if __name__ == "__main__":
    main()
