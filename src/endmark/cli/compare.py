"""`endmark compare`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
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
from endmark.experiments.comparison import Settings, compare
from endmark.experiments.comparison_groups import in_cells, renamed
from endmark.experiments.comparison_json import comparison_json
from endmark.experiments.comparison_page import comparison_page
from endmark.experiments.comparison_picture import draw_comparison
from endmark.experiments.comparison_text import comparison_csv, comparison_latex, comparison_tables
from endmark.experiments.comparison_warnings import warnings_of
from endmark.experiments.marl_eval import marl_eval_json, read_marl_eval
from endmark.experiments.sacred import read_sacred
from endmark.experiments.scores import Found, read_runs
from endmark.report import writable


@dataclass(frozen=True)
class CompareCommand:
    """Compare variants of algorithms over seeds and over tasks, with 95 % intervals."""

    runs: Positional[tuple[Path, ...]]
    """Run directories, folders with run directories below them, and results of others: JSON of
    marl-eval, and what EPyMARL leaves in results/sacred."""
    metric: str = "greedy_return"
    """What to compare: a metric of evaluations, such as greedy_win."""
    score: Literal["final", "best", "absolute"] = "final"
    """Of a run: its last evaluation, its highest one, or the further episodes of its best checkpoint."""
    threshold: float = 0.9
    """A normalised score; the steps to it are shown."""
    bounds: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """What counts as 0 and 1 on a task, as TASK=low,high; by default random play and the best."""
    rename: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Call a task otherwise, as TASK=NAME, so that runs from elsewhere stand beside others of it."""
    samples: int = 2000
    """Samples of the bootstrap."""
    seed: int = 0
    """Seed of the bootstrap."""
    picture: Path | None = None
    """Write a picture of the curves and the profile; .png, .svg or .pdf."""
    html: Path | None = None
    """Write a page."""
    json: Path | None = None
    """Write all figures."""
    csv: Path | None = None
    """Write all figures as a table, a line a figure."""
    latex: Path | None = None
    """Write a table for a paper."""
    marl_eval: Path | None = None
    """Write the runs as marl-eval reads them."""

    def __call__(self, console: Console, command: str) -> None:
        """Run the command. command: how it was called."""
        names = ("picture", "html", "json", "csv", "latex", "marl_eval")
        asked = {name: path for name in names if (path := getattr(self, name)) is not None}
        for name, path in asked.items():
            writable(f"--{name.replace('_', '-')}", path, picture=name == "picture")
        if not self.runs:
            raise ValueError("compare: given no directory, want one or several")
        if self.samples < 100:
            raise ValueError(f"samples: given {self.samples}, want at least 100")
        settings = Settings(
            self.metric, self.score, self.threshold, _bounds(self.bounds), self.samples, self.seed
        )
        cells, left_out = in_cells(self._found(), self.metric if self.score == "absolute" else None)
        if not cells:
            raise ValueError(f"compare: no run is left: {'; '.join(left_out)}")
        with console.status("resampling"):
            comparison = compare(cells, settings)
        warnings = warnings_of(comparison)
        for part in comparison_tables(comparison, console.width):
            console.print(part)
        for line in left_out:
            console.print(Text(f"left out: {line}"), soft_wrap=True)
        for line in warnings:
            console.print(Text(f"warning: {line}."), soft_wrap=True)
        raw = comparison_json(comparison, warnings, left_out, command)
        texts: Mapping[str, Callable[[], str]] = {
            "html": lambda: comparison_page(comparison, warnings, left_out, command),
            "json": lambda: json.dumps(raw, indent=1) + "\n",
            "csv": lambda: comparison_csv(comparison),
            "latex": lambda: comparison_latex(comparison, command),
            "marl_eval": lambda: json.dumps(marl_eval_json(cells), indent=1) + "\n",
        }
        for name, path in asked.items():
            if name == "picture":
                draw_comparison(comparison, path)
            else:
                with replacing(path) as unfinished:
                    unfinished.write_text(texts[name](), encoding="utf-8")
            console.print(Text(str(path)), soft_wrap=True)

    def _found(self) -> Found:
        """The runs of the directories, then those of files."""
        files = [path for path in dict.fromkeys(self.runs) if path.is_file()]
        found = read_runs(
            [path for path in dict.fromkeys(self.runs) if path not in files], self.metric, read_sacred
        )
        every = [*found.runs, *(run for path in files for run in read_marl_eval(path, self.metric))]
        return Found(renamed(every, _names(self.rename)), found.left_out)


def _bounds(given: Sequence[str]) -> dict[str, tuple[float, float]]:
    made = {}
    for text in given:
        task, _, bounds = text.rpartition("=")  # a task's name may have more of them
        try:
            low, high = map(float, bounds.split(","))
        except ValueError:
            raise ValueError(f"bounds: given '{text}', want TASK=low,high") from None
        if not task or not -1e300 < low < high < 1e300:
            raise ValueError(f"bounds: given '{text}', want TASK=low,high with low < high, both finite")
        made[task] = low, high
    return made


def _names(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.rpartition("=") for text in given]
    for text, (task, _, name) in zip(given, pairs, strict=True):
        if not task or not name:
            raise ValueError(f"rename: given '{text}', want TASK=NAME")
    return {task: name for task, _, name in pairs}


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    parse(CompareCommand, "compare", args)(Terminal(), shlex.join(["endmark", "compare", *args]))
    return 0
