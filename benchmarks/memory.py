"""Peak memory of training, an audit and the page: `make memory-table` prints the table of docs/results.md.

Each case runs in a process of its own. Its figure is the most memory that was resident at any moment, less
what was resident once everything was imported.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from benchmarks.agree import Disagreement, check_update
from benchmarks.border import padded_replay, padded_row
from benchmarks.machine import environment
from benchmarks.setting import draw, make_learner
from benchmarks.shapes import EIGHT_MARINES, TINY, Shape, episodes, third, uniform
from endmark.audit import Case, audit
from endmark.episodes import EpisodeBatch, EpisodeReplay
from endmark.inspect.html import html_page
from endmark.inspect.inspection import inspect, page_data
from endmark.inspect.source import read

FRAMES = 100_000
UPDATES = 5


def peak() -> int:
    """The most bytes that were resident in this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def played(shape: Shape, frames: int) -> Iterator[EpisodeBatch]:
    """Episodes of a third of the limit, on average, with so many frames in all."""
    generator, count = torch.Generator().manual_seed(0), 0
    while count < frames:
        episode = episodes(shape.spec(), third(1, shape.limit, generator), seed=count)
        yield episode
        count += episode.n_frames


def training(shape: Shape, frames: int) -> None:
    """QMIX with a replay of so many frames, full: some updates."""
    learner, replay = make_learner(shape), EpisodeReplay(shape.spec(), frames)
    for episode in played(shape, frames):
        replay.add(episode)
    generator = torch.Generator().manual_seed(0)
    for _ in range(UPDATES):
        learner.update(replay.sample(shape.batch_size, generator))


def padded_training(shape: Shape, frames: int) -> None:
    """The same with the usual replay, which holds the same episodes, one padded row each."""
    baseline = check_update(make_learner(shape), draw(shape, uniform, 2))[0]
    store = padded_replay(shape.spec(), frames // (shape.limit // 3 + 1))
    for episode in played(shape, frames):
        store.add(padded_row(episode), terminated=bool(episode.terminated))
    generator = torch.Generator().manual_seed(0)
    for _ in range(UPDATES):
        baseline.update(store.sample(shape.batch_size, generator))


def auditing(shape: Shape, _: int) -> None:
    """A default audit of QMIX on a batch."""
    learner = make_learner(shape)
    report = audit(Case(learner.loss, draw(shape, uniform, shape.batch_size), learner.networks))
    if report.leaks:
        raise Disagreement(f"memory: the audit found a leak in a learner without any: {report.leaks[0].what}")


def one_gradient(shape: Shape, _: int) -> None:
    """The loss and its gradient once, on the same batch."""
    learner = make_learner(shape)
    loss = learner.loss(draw(shape, uniform, shape.batch_size))["loss"]
    torch.autograd.grad(loss, list(learner.actor.parameters()))


def write_padded(shape: Shape, frames: int, path: Path) -> None:
    """A padded batch of so many frames, its padding included."""
    padded = draw(shape, uniform, max(1, frames // (shape.limit + 1))).to_padded(shape.limit)
    np.savez(path, allow_pickle=False, **{name: tensor.numpy() for name, tensor in padded.items()})


def page(shape: Shape, frames: int) -> None:
    """`endmark inspect --html` of a file that another process wrote."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "batch.npz"
        writer = get_context("spawn").Process(target=write_padded, args=(shape, frames, path))
        writer.start()
        writer.join()
        source = read(path)
        html_page(page_data(source, inspect(source)))


Work = Callable[[Shape, int], None]
CASES: Mapping[str, tuple[str, Work, Work | None]] = {
    "training": ("training: a replay of 100,000 frames, updates of 32 episodes", training, padded_training),
    "audit": ("a default audit of 32 episodes, beside one gradient", auditing, one_gradient),
    "page": ("the page of 826 padded episodes, 100,000 frames in a file of 340 MB", page, None),
}
"""From a case's name to what it is, and how endmark and what it is compared with do it."""


def measured(case: str, *, baseline: bool, quick: bool) -> int:
    """Bytes of a case, in another process."""
    words = [sys.executable, "-m", "benchmarks.memory", "--case", case]
    words += ["--baseline"] * baseline + ["--quick"] * quick
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the table; with `--case`, the bytes of one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--baseline", action="store_true")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, whose figures mean nothing")
    options = parser.parse_args()
    if options.case:
        _, ours, other = CASES[options.case]
        work = other if options.baseline and other else ours
        make_learner(TINY)  # the first optimiser imports much of torch
        before = peak()
        work(*((TINY, 200) if options.quick else (EIGHT_MARINES, FRAMES)))
        print(peak() - before)
        return
    print(", ".join(f"{key} {value}" for key, value in environment().items()))
    print("\n| | endmark | beside | share |\n|---|---:|---:|---:|")
    for name, (what, _, other) in CASES.items():
        mine = measured(name, baseline=False, quick=options.quick)
        row = f"| {what} | {mine / 2**20:,.0f} MiB |"
        if other is not None:
            beside = measured(name, baseline=True, quick=options.quick)
            row += f" {beside / 2**20:,.0f} MiB | {mine / beside:.2f} |"
        print(row)


if __name__ == "__main__":
    main()
