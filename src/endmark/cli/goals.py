"""`endmark goals`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.text import Text
from tyro.conf import Positional

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.disk import replacing
from endmark.report.goal_boards import draw_episode
from endmark.report.goals import draw_goals, goals_json, goals_tables, log_table, logged_curves
from endmark.report.picture import check_suffix
from endmark.run import BEST, WEIGHTS
from endmark.training.goals import given_places, infer, known_places, load_inferring, measure


@dataclass(frozen=True)
class GoalsCommand:
    """Play a run of opponent modelling greedily, and compare the subgoals that it infers with what comes."""

    run_dir: Positional[Path]
    """What `endmark train omg` left behind, with model omg or supervised."""
    checkpoint: Literal["last", "best"] = "last"
    """The last one, or that of the best greedy evaluation so far."""
    episodes: int = 100
    """Episodes to play: those of `endmark eval`."""
    seed: int = 0
    """Which such episodes; the same seed means the same episodes for every run."""
    positions: tuple[int, ...] = ()
    """Features of a frame that are places of the others, in pairs; known for Level-Based Foraging."""
    cell: float = 1.0
    """Width of a cell: places in one cell are the same."""
    json: Path | None = None
    """Write the figures there, as JSON."""
    png: Path | None = None
    """Draw errors, hits and the run's log there; also .svg or .pdf."""
    episode_png: Path | None = None
    """Draw an episode there, with the subgoals on its grid: for Level-Based Foraging seen whole."""
    episode: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Which one, from 1."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        self._check()
        config, learner, model = load_inferring(self.run_dir, BEST if self.checkpoint == "best" else WEIGHTS)
        curves = logged_curves(self.run_dir)
        with console.status(f"playing {self.episodes} episodes"):
            subgoals = infer(config, learner, model, self.episodes, seed=self.seed)
            places = (
                given_places(self.positions, self.cell, subgoals)
                if self.positions
                else known_places(config, self.cell, subgoals)
            )
            if self.episode_png and (places is None or places.layout is None):
                why = "positions are given" if self.positions else f"the grid of {config.env} is not known"
                raise ValueError(f"episode_png: {why}, want Level-Based Foraging seen whole")
            measured = measure(subgoals, places)
        name = f"{config.algorithm.model} on {config.env}"
        for table in goals_tables(f"subgoals of {name}", measured):
            console.print(table)
        if curves:
            console.print(log_table(curves))
        if self.json is not None:
            about = {"run": str(self.run_dir), "env": config.env, "model": config.algorithm.model}
            about |= {"updates": learner.updates, "seed": self.seed}
            with replacing(self.json) as unfinished:
                report = goals_json(about, measured, curves)
                unfinished.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            console.print(Text(str(self.json)), soft_wrap=True)
        if self.png is not None:
            _draw(console, self.png, lambda path: draw_goals(name, measured, curves, path))
        if self.episode_png is not None:
            assert places is not None
            beside = ", ".join(Path(who).name for who in subgoals.beside[self.episode - 1])
            title = f"{name}, episode {self.episode}, beside {beside}"
            _draw(
                console,
                self.episode_png,
                lambda path: draw_episode(title, subgoals, places, self.episode - 1, path),
            )

    def _check(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"episodes: given {self.episodes}, want at least 1")
        if self.seed < 0:
            raise ValueError(f"seed: given {self.seed}, want at least 0")
        if not 1 <= self.episode <= self.episodes:
            raise ValueError(f"episode: given {self.episode}, want 1 <= episode <= {self.episodes}")
        if len(self.positions) % 2:
            raise ValueError(f"positions: given {len(self.positions)}, want pairs of features")
        if not 0 < self.cell < math.inf:
            raise ValueError(f"cell: given {self.cell}, want more than 0, and finite")
        for path in filter(None, (self.json, self.png, self.episode_png)):
            if not path.parent.is_dir():
                raise ValueError(f"{path}: there is no directory {path.parent}")
        with suppress(ImportError):  # which is said when the rest is done
            for path in filter(None, (self.png, self.episode_png)):
                check_suffix(path)


def _draw(console: Console, path: Path, draw: Callable[[Path], None]) -> None:
    """Draw it, and say where."""
    said = str(path)
    try:
        draw(path)
    except ImportError:
        said = 'no picture: pip install "endmark[plot]"'
    console.print(Text(said), soft_wrap=True)


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    parse(GoalsCommand, "goals", args)(Terminal())
    return 0
