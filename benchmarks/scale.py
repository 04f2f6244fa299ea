"""What bounds one learner with 1 to 10,000 actors: `make scale` prints the tables of docs/scale.md.

The costs of one process are measured here: an update, taking an answer, handing out weights, the bytes of an
episode and of weights. The actors are simulated, in turn, as `endmark.rollout.ByActors` has them, with an
environment of a given time a step. Nothing of a network but its bytes is counted.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.machine import environment
from benchmarks.setting import draw, make_learner
from benchmarks.shapes import EIGHT_MARINES, TINY, Shape, uniform
from endmark.episodes import EpisodeBatch, EpisodeReplay


@dataclass(frozen=True)
class Costs:
    """Of the learner's process, in seconds and bytes.

    update: one, of a batch. take: to load an answer's bytes and add its episodes to the replay, an episode.
    put: weights into bytes. steps: of an episode, their mean.
    """

    update: float
    take: float
    put: float
    episode_bytes: float
    weights_bytes: int
    steps: float


@dataclass(frozen=True)
class Outcome:
    """Of a simulated run, once every actor has answered.

    busy: the learner's share of the time. waits: the actors' share. staleness: updates between the weights
    that an answer was played with and the moment at which it is taken, in the mean.
    """

    steps_a_second: float
    updates_a_second: float
    busy: float
    waits: float
    bytes_in: float
    bytes_out: float
    staleness: float


def seconds(work: Callable[[], object], rounds: int = 15) -> float:
    """The median time of one call."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def measure(shape: Shape) -> Costs:
    """The costs here, for QMIX on episodes of uniform lengths."""
    learner, batch = make_learner(shape), draw(shape, uniform, shape.batch_size)
    replay = EpisodeReplay(shape.spec(), 100 * shape.batch_size * shape.limit)
    answer = pickle.dumps(batch)
    weights = {name: tensor.clone() for name, tensor in learner.actor.state_dict().items()}

    def take() -> None:
        episodes: EpisodeBatch = pickle.loads(answer)
        replay.add(episodes)

    for _ in range(3):
        learner.update(batch)
    return Costs(
        update=seconds(lambda: learner.update(batch)),
        take=seconds(take) / batch.n_episodes,
        put=seconds(lambda: pickle.dumps(weights)),
        episode_bytes=len(answer) / batch.n_episodes,
        weights_bytes=sum(tensor.nbytes for tensor in weights.values()),
        steps=batch.n_steps / batch.n_episodes,
    )


def simulate(
    costs: Costs, actors: int, *, n_envs: int, step: float, episodes_per_update: int, every: int
) -> Outcome:
    """Some turns of so many actors with `n_envs` environments each, whose step takes `step` seconds.

    An answer has `n_envs` episodes, whose lengths are drawn. every: updates until an actor gets new weights.
    """
    draws = np.random.default_rng(0)
    mean = costs.steps * n_envs * step
    ready, has = draws.uniform(0.5, 1.5, actors) * mean, np.zeros(actors, np.int64)
    now = busy = waited = bytes_out = 0.0
    updates = since = put = 0
    ages: list[int] = []
    taken, begin = 0, (0.0, 0.0, 0.0, 0)
    turns = max(3 * actors, 300)
    for turn in range(turns):
        if turn == turns // 3:  # by then every actor has answered
            begin, ages, taken, waited = (now, busy, bytes_out, updates), [], 0, 0.0
        i = turn % actors
        waited += max(now - ready[i], 0.0)
        now = max(now, ready[i])
        ages.append(updates - has[i])
        taken += n_envs
        since += n_envs
        due, since = divmod(since, episodes_per_update)
        work = n_envs * costs.take + due * costs.update
        updates += due
        if updates - has[i] >= every:
            work += costs.put if put != updates else 0.0
            has[i], put = updates, updates
            bytes_out += costs.weights_bytes
        now, busy = now + work, busy + work
        ready[i] = now + draws.uniform(0.5, 1.5) * mean
    span = now - begin[0]
    return Outcome(
        steps_a_second=taken * costs.steps / span,
        updates_a_second=(updates - begin[3]) / span,
        busy=(busy - begin[1]) / span,
        waits=waited / (actors * span),
        bytes_in=taken * costs.episode_bytes / span,
        bytes_out=(bytes_out - begin[2]) / span,
        staleness=float(np.mean(ages)),
    )


def table(costs: Costs, counts: list[int], **settings: float) -> list[str]:
    """A row for each number of actors. `replay lasts`: until a million frames have made way for new ones."""
    lines = [
        "| actors | steps/s | updates/s | learner busy | actors wait | in | out | staleness | replay lasts |",
        "|---:|" + "---:|" * 8,
    ]
    for count in counts:
        run = simulate(costs, count, **settings)  # type: ignore[arg-type]
        frames = run.steps_a_second * (1 + 1 / costs.steps)
        lines.append(
            f"| {count:,} | {run.steps_a_second:,.0f} | {run.updates_a_second:.1f} | {run.busy:.0%} "
            f"| {run.waits:.0%} | {run.bytes_in / 1e6:,.1f} MB/s | {run.bytes_out / 1e6:,.2f} MB/s "
            f"| {run.staleness:,.1f} | {1e6 / frames:,.0f} s |"
        )
    return lines


def main() -> None:
    """Measure, simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step-ms", type=float, default=5.0, help="of the environment")
    parser.add_argument("--n-envs", type=int, default=1, help="of each actor")
    parser.add_argument("--weights-every", type=int, default=1)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 10, 100, 1000, 10_000])
    parser.add_argument("--quick", action="store_true", help="a tiny shape, for a smoke test")
    options = parser.parse_args()
    torch.set_num_threads(1)
    costs = measure(TINY if options.quick else EIGHT_MARINES)
    print(f"{environment()['cpu']}, kernels {environment()['kernels']}, one thread")
    print(
        f"an update {1e3 * costs.update:.1f} ms; to take an episode {1e6 * costs.take:.0f} µs; "
        f"weights into bytes {1e6 * costs.put:.0f} µs; an episode of {costs.steps:.0f} steps "
        f"{costs.episode_bytes / 1e3:.0f} kB; weights {costs.weights_bytes / 1e3:.0f} kB"
    )
    for episodes in (1, 32):
        print(f"\nAn update every {episodes} episodes:\n")
        print(
            *table(
                costs,
                options.actors,
                n_envs=options.n_envs,
                step=options.step_ms / 1e3,
                episodes_per_update=episodes,
                every=options.weights_every,
            ),
            sep="\n",
        )


if __name__ == "__main__":
    main()
