"""Opponent modelling on Foraging: `make omg` trains the methods and prints the table of docs/omg.md.

Every method learns beside the pool of `make pool`, one learner and one partner an episode. Then each run
plays every partner, seen and held out, on the same episodes. A run that is complete is kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.pool import ENV, ENV_ARGS
from endmark.training.crossplay import CrossplaySettings, crossplay
from endmark.training.matrix import TRAINING

SCRIPTED = {
    "training": "endmark.policies.scripted:nearest_food",
    "heldout": "endmark.policies.scripted:farthest_food",
}
METHODS = {
    "none": "--model none",
    "index": "--model index",
    "actions": "--model actions",
    "naive": "--model naive",
    "liam": "--model liam",
    "supervised": "--model supervised",
    "omg": "--model omg",
    "omg-conservative": "--model omg --selector conservative",
    "omg-h1": "--model omg --horizon 1",
    "omg-h3": "--model omg --horizon 3",
    "omg-h10": "--model omg --horizon 10",
    "omg-random": "--model omg --selector random",
    "omg-target": "--model omg --mix target",
    "omg-subgoal": "--model omg --reconstruct subgoal",
}
"""From a method's name to its options. What none of them can beat, "none" included, needs no model."""
COMMON = (
    "--steps 60000 --gamma 0.95 --lr 1e-3 --episodes-per-update 2 --epsilon-steps 20000 --mix-updates 1000 "
    "--eval-every 20000 --final-episodes 1 --no-store-replay"
)
EPISODES = 50

Cells = npt.NDArray[np.float64]
"""[seeds, partners, 2]: mean return of the learner, and steps an episode."""


def environment() -> list[str]:
    """The words of a command that name the environment."""
    return ["--env", ENV, *(word for argument in ENV_ARGS for word in ("--env-arg", argument))]


def partners(pool: Path, group: str) -> tuple[str, ...]:
    """A pool, and its scripted member."""
    return str(pool / group), SCRIPTED[group]


def run(*words: str) -> None:
    """`endmark` with these words."""
    subprocess.run([sys.executable, "-m", "endmark", *words], check=True)


def prior(directory: Path, pool: Path) -> Path:
    """The space of subgoals, fitted unless it is there."""
    out = directory / "prior"
    if not (out / "report.json").exists():
        run("fit-prior", *environment(), "--partners", *partners(pool, "training"), "--out", str(out))
    return out


def train(method: str, seed: int, directory: Path, pool: Path) -> Path:
    """The run's directory, trained unless it is complete."""
    out = directory / f"{method}-{seed}"
    if not (out / "curve.png").exists():
        shutil.rmtree(out, ignore_errors=True)
        words = ["train", "omg", *environment(), *METHODS[method].split(), *COMMON.split()]
        words += ["--partners", *partners(pool, "training"), "--prior", str(prior(directory, pool))]
        run(*words, "--seed", str(seed), "--run-dir", str(out))
    return out


def played(out: Path, pool: Path) -> dict[str, list[tuple[float, float]]]:
    """Return and length beside each partner of each group; worked out once, and kept beside the run."""
    kept = out / "crossplay.json"
    if not kept.exists():
        seen, unseen = (partners(pool, group) for group in SCRIPTED)
        matrix = crossplay([str(out)], seen, unseen, CrossplaySettings(episodes=EPISODES))
        means = zip(matrix.returns.mean(-1)[0].tolist(), matrix.lengths.mean(-1)[0].tolist(), strict=True)
        cells: dict[str, list[tuple[float, float]]] = {group: [] for group in SCRIPTED}
        for player, mean in zip(matrix.partners, means, strict=True):
            cells["training" if player.group == TRAINING else "heldout"].append(mean)
        kept.write_text(json.dumps(cells))
    found: dict[str, list[tuple[float, float]]] = json.loads(kept.read_text())
    return found


def interval(cells: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean of [seeds, partners], and its 95 % interval by bootstrap over both, as crossed factors."""
    draw = np.random.default_rng(0)
    n_seeds, n_partners = cells.shape
    means = [
        cells[np.ix_(draw.integers(n_seeds, size=n_seeds), draw.integers(n_partners, size=n_partners))].mean()
        for _ in range(2000)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(cells.mean()), float(low), float(high)


def table(cells: dict[str, dict[str, Cells]], methods: Sequence[str]) -> list[str]:
    """A row a method: return and steps beside each group of partners, and the gain over "none"."""
    lines = [
        "| method | return, seen | steps, seen | return, held out | steps, held out | gain, seen | unseen |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for method in methods:
        columns = []
        for group, value in itertools.product(SCRIPTED, (0, 1)):
            mean, low, high = interval(cells[method][group][..., value])
            columns.append(f"{mean:.3g} ({low:.3g} to {high:.3g})")
        for group in SCRIPTED:
            mine, none = cells[method][group], cells["none"][group]
            seeds = min(len(mine), len(none))
            mean, low, high = interval(mine[:seeds, :, 0] - none[:seeds, :, 0])
            columns.append(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" if method != "none" else "")
        lines.append(f"| `{method}` | {' | '.join(columns)} |")
    return lines


def main() -> None:
    """Train and play what is missing, seed by seed; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("runs/omg"))
    parser.add_argument("--pool", type=Path, default=Path("runs/pool"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    if "none" not in options.only:
        parser.error("--only: want none among them, which the others are compared with")
    for seed, method in itertools.product(range(options.seeds), options.only):
        train(method, seed, options.directory, options.pool)
    cells = {
        method: [
            played(options.directory / f"{method}-{seed}", options.pool) for seed in range(options.seeds)
        ]
        for method in options.only
    }
    arrays = {
        method: {group: np.array([run[group] for run in runs]) for group in SCRIPTED}
        for method, runs in cells.items()
    }
    print(*table(arrays, options.only), sep="\n")


if __name__ == "__main__":
    main()
