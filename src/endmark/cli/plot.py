"""`endmark plot`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.report import draw_runs, points_table, read_run


@dataclass(frozen=True)
class PlotCommand:
    """Draw the curves of runs, also while they go on or after they were stopped or killed."""

    run_dirs: Positional[tuple[Path, ...]]
    """What `endmark train` left behind. Runs that differ in their seed alone get one colour and a mean."""
    out: Path | None = None
    """The picture, .png, .svg or .pdf; by default curve.png in the run directory; curves.png for several."""
    metric: str = "greedy_return"
    """What to draw: a key of the runs' metrics.jsonl."""
    title: str | None = None
    """By default the environment."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        directories = list(dict.fromkeys(self.run_dirs))
        if not directories:
            raise ValueError("plot: given no run directory, want one or several")
        runs = [read_run(directory, self.metric) for directory in directories]
        without = [str(run.directory) for run in runs if not run.curve]
        if len(without) == len(runs):
            raise ValueError(f"{', '.join(without)}: no {self.metric} yet, so nothing to draw")
        path = self.out or (runs[0].directory / "curve.png" if len(runs) == 1 else Path("curves.png"))
        said = str(path)
        try:
            draw_runs(runs, path, metric=self.metric, title=self.title)
        except ImportError:
            said = 'no picture: pip install "endmark[plot]"'
        console.print(points_table(runs))
        for directory in without:
            console.print(Text(f"left out, for it has no {self.metric} yet: {directory}"), soft_wrap=True)
        console.print(Text(said), soft_wrap=True)


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    parse(PlotCommand, "plot", args)(Terminal())
    return 0
