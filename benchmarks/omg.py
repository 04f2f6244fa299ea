"""Opponent modelling beside frozen partners: `make omg` trains the methods and prints tables of docs/omg.md.

Every method learns beside a pool of `make pool`. Then each run plays every partner, seen and held out, on the
same episodes. A run that is complete is kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.pool import GAMES, SEEDS
from endmark.training.crossplay import CrossplaySettings, crossplay
from endmark.training.matrix import TRAINING

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
REST = "omg-random", "omg-target", "omg-subgoal"
"""Variants that no table has; `--only` trains them."""
EPISODES = 50

Cells = npt.NDArray[np.float64]
"""[seeds, partners, 2]: mean score of the learner, and steps an episode."""


@dataclass(frozen=True)
class Task:
    """How one learner learns beside the pool of a game of the same name.

    training: words of `endmark train`. prior: words of `endmark fit-prior`. score: `return`, or the outcome
    that the game names. tried: the methods that a table of this task has.
    """

    training: str
    score: str = "return"
    prior: str = ""
    tried: tuple[str, ...] = tuple(METHODS)


TASKS = {
    "foraging": Task(
        training=(
            "omg --steps 60000 --gamma 0.95 --lr 1e-3 --episodes-per-update 2 --epsilon-steps 20000 "
            "--mix-updates 1000 --eval-every 20000"
        ),
        tried=tuple(method for method in METHODS if method not in REST),
    ),
    # The learner is a predator. The other two and the prey follow one run, which was trained as all four.
    "tag": Task(
        training=(
            "omg-ppo --steps 100000 --n-envs 8 --epochs 10 --mix-updates 200 --learner-agents 0 1 2 "
            "--eval-every 50000"
        ),
        tried=("none", "index", "actions", "naive", "liam", "omg"),
    ),
    # Seven that follow one run, and one learner among them, who may be any unit.
    "smax": Task(
        training=(
            "omg --steps 100000 --horizon 10 --episodes-per-update 8 --replay-frames 150000 "
            "--mix-updates 200 --eval-every 50000"
        ),
        score="win",
        prior="--episodes 300",
        tried=("none", "index", "naive", "omg"),
    ),
}


def run(*words: str) -> None:
    """`endmark` with these words."""
    subprocess.run([sys.executable, "-m", "endmark", *words], check=True)


def prior(task: str, directory: Path, pool: Path) -> Path:
    """The space of subgoals, fitted unless it is there."""
    out, game = directory / "prior", GAMES[task]
    if not (out / "report.json").exists():
        words = [*game.env.split(), *TASKS[task].prior.split()]
        run("fit-prior", *words, "--partners", *game.partners(pool, "training"), "--out", str(out))
    return out


def train(task: str, method: str, seed: int, directory: Path, pool: Path) -> Path:
    """The run's directory, trained unless it is complete."""
    out, game = directory / f"{method}-{seed}", GAMES[task]
    if not (out / "curve.png").exists():
        shutil.rmtree(out, ignore_errors=True)
        words = [*TASKS[task].training.split(), *game.env.split(), *METHODS[method].split()]
        words += ["--partners", *game.partners(pool, "training")]
        words += ["--prior", str(prior(task, directory, pool)), "--final-episodes", "1", "--no-store-replay"]
        run("train", *words, "--seed", str(seed), "--run-dir", str(out))
    return out


def played(task: str, out: Path, pool: Path) -> dict[str, list[tuple[float, float]]]:
    """Score and length beside each partner of each group; worked out once, and kept beside the run."""
    kept, score = out / "crossplay.json", TASKS[task].score
    if not kept.exists():
        seen, unseen = (GAMES[task].partners(pool, group) for group in SEEDS)
        matrix = crossplay([str(out)], seen, unseen, CrossplaySettings(episodes=EPISODES))
        scores = matrix.returns if score == "return" else matrix.outcomes[score]
        means = zip(scores.mean(-1)[0].tolist(), matrix.lengths.mean(-1)[0].tolist(), strict=True)
        cells: dict[str, list[tuple[float, float]]] = {group: [] for group in SEEDS}
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


def table(cells: dict[str, dict[str, Cells]], score: str) -> list[str]:
    """A row a method: score and steps beside each group of partners, and the gain over "none"."""
    lines = [
        f"| method | seeds | {score}, seen | steps, seen | {score}, held out | steps, held out | gain, seen "
        "| unseen |",
        "|---|" + "---:|" * 7,
    ]
    for method, mine in cells.items():
        columns = []
        for group, value in itertools.product(SEEDS, (0, 1)):
            mean, low, high = interval(mine[group][..., value])
            columns.append(f"{mean:.3g} ({low:.3g} to {high:.3g})")
        for group in SEEDS:
            none = cells["none"][group]
            seeds = min(len(mine[group]), len(none))
            mean, low, high = interval(mine[group][:seeds, :, 0] - none[:seeds, :, 0])
            columns.append(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" if method != "none" else "")
        lines.append(f"| `{method}` | {len(mine['training'])} | {' | '.join(columns)} |")
    return lines


def main() -> None:
    """Train and play what is missing, seed by seed; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=TASKS, default="foraging")
    parser.add_argument("--directory", type=Path, default=Path("runs/omg"))
    parser.add_argument("--pool", type=Path, default=Path("runs/pool"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--only", nargs="+", choices=METHODS, help="these methods, and `none`")
    parser.add_argument("--no-train", action="store_true", help="print the table of what is complete")
    options = parser.parse_args()
    directory, pool = options.directory / options.task, options.pool / options.task
    methods: Sequence[str] = list(dict.fromkeys(["none", *(options.only or TASKS[options.task].tried)]))
    if not options.no_train:
        prior(options.task, directory, pool)  # before the trainings, which all read it
        cases = list(itertools.product(range(options.seeds), methods))
        with ThreadPoolExecutor(options.jobs) as jobs:
            list(jobs.map(lambda case: train(options.task, case[1], case[0], directory, pool), cases))
    cells = {}
    for method in methods:
        runs = [out for seed in range(options.seeds) if (out := directory / f"{method}-{seed}").exists()]
        done = [played(options.task, out, pool) for out in runs if (out / "curve.png").exists()]
        if done:
            cells[method] = {group: np.array([run[group] for run in done]) for group in SEEDS}
    print(*table(cells, TASKS[options.task].score), sep="\n")


if __name__ == "__main__":
    main()
