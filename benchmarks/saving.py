"""What saving a run's state costs: `make saving-cost` prints the table of docs/results.md.

A state whose replay holds 100,000 frames at the 8m shape is saved and loaded, in turn with writing as many
bytes to the same disk and flushing them. Then the README's training is run in turn with a save every second
and with none but the last.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.shapes import EIGHT_MARINES, episodes, uniform
from endmark.algorithms import QMIXConfig
from endmark.episodes import EpisodeReplay
from endmark.training import TrainConfig, train
from endmark.training.state_file import STATE, load_state, save_state

README = QMIXConfig(gamma=0.95, td_lambda=0.9, lr=1e-3, normalise_reward="scale", replay_frames=30_000)


def seconds_of(work: Callable[[], object]) -> float:
    """How long the work takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def filled_replay(n_frames: int) -> EpisodeReplay:
    """A replay of so many frames at the 8m shape, full."""
    spec = EIGHT_MARINES.spec()
    replay = EpisodeReplay(spec, n_frames)
    generator = torch.Generator().manual_seed(0)
    while replay.n_frames < n_frames - spec.episode_limit:
        lengths = uniform(64, spec.episode_limit, generator)
        replay.add(episodes(spec, lengths, seed=len(replay)))
    return replay


def write(n_bytes: int, path: Path) -> None:
    """Write so many bytes, and flush them to the disk."""
    with path.open("wb") as file:
        file.write(bytes(n_bytes))
        file.flush()
        os.fsync(file.fileno())


def state_of_a_large_replay(directory: Path, rounds: int) -> None:
    """Save, load and the disk itself, in turn."""
    replay = filled_replay(100_000)
    save_state({"store": replay.state_dict()}, directory)
    size = (directory / STATE).stat().st_size
    works: dict[str, Callable[[], object]] = {
        "copy the state, for which the run waits": replay.state_dict,
        "save the state": lambda: save_state({"store": replay.state_dict()}, directory),
        "write and flush as many bytes": lambda: write(size, directory / "bytes"),
        "load the state": lambda: load_state(directory),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(seconds_of(work))
    given = load_state(directory)["store"]
    for name, tensor in replay.state_dict()["fields"].items():
        assert torch.equal(given["fields"][name], tensor), name
    print(f"{replay.n_frames} frames at the 8m shape, a file of {size / 2**20:.0f} MiB, median of {rounds}:")
    for name, times in seconds.items():
        print(f"  {name}: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


def training(directory: Path, rounds: int, steps: int) -> None:
    """The README's training, with a save every second and with none but the last, in turn."""
    ratios, saved = [], 0.0
    for k in range(rounds):
        took = {}
        for period in (1.0, 1e9) if k % 2 else (1e9, 1.0):
            config = TrainConfig(
                README,
                "lbforaging:Foraging-5x5-2p-1f-v3",
                steps=steps,
                save_every=period,
                eval_every=10 * steps,
            )
            run = directory / f"{k}-{period:g}"
            took[period] = seconds_of(lambda config=config, run=run: train(config, run, lambda *_: None))  # type: ignore[misc]
        ratios.append(took[1.0] / took[1e9])
        saved = took[1e9]
        print(f"  round {k}: {took[1.0]:.2f} s with a save every second, {took[1e9]:.2f} s without")
    slower = statistics.median(ratios) - 1
    print(
        f"training for {saved:.0f} s with a save every second: {slower:.1%} slower; "
        f"with one every minute a sixtieth of that, {slower / 60:.2%}"
    )


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=".") as name:
        state_of_a_large_replay(Path(name), arguments.rounds)
        training(Path(name), arguments.rounds, arguments.steps)


if __name__ == "__main__":
    main()
