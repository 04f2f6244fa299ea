"""The commands. No logic: they wire the pieces together and turn errors into one line and exit status 2."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tyro.conf import FlagCreatePairsOff, Positional

from endmark.audit import audit_target, report_html, report_text
from endmark.bench.display import BenchDisplay
from endmark.bench.picture import check_picture
from endmark.bench.picture import picture as bench_picture
from endmark.bench.run import SECTIONS, section_names
from endmark.bench.run import run as run_bench
from endmark.bench.table import markdown, terminal
from endmark.envs import installed
from endmark.report import ProbeDisplay, TrainingDisplay, learning_curve, summary_table
from endmark.report.explain import explain
from endmark.report.explain_text import explanation_text
from endmark.report.html import html_page
from endmark.report.inspection import inspect, page_data
from endmark.report.inspection_text import inspection_table
from endmark.report.source import read
from endmark.run import read_metrics
from endmark.train import TrainConfig, evaluate, greedy_policy, load, random_policy, train


@dataclass(frozen=True)
class TrainCommand:
    """Train on an environment, with a live display, and leave a run directory behind."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    run_dir: Path | None = None
    """Where to put the run; by default runs/ALGORITHM-ENV-seedSEED-TIME."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        directory = self.run_dir or _run_directory(self.config)
        with TrainingDisplay(console, self.config.steps) as display:
            learner, counters = train(self.config, directory, display)
        if counters.env_steps < self.config.steps:
            console.print(f"stopped after {counters.env_steps} steps; the checkpoint can be evaluated:")
            console.print(f"  endmark eval {escape(str(directory))}", soft_wrap=True)
            return
        config, episodes = self.config, self.config.final_episodes
        summaries = {
            "greedy": evaluate(config, greedy_policy(config, learner), episodes),
            "random": evaluate(config, random_policy(), episodes),
        }
        console.print(summary_table(f"{self.config.algorithm} on {self.config.env}", summaries))
        curve = _draw_curve(directory, self.config, {"random": summaries["random"].return_mean})
        console.print(f"learning curve: {escape(curve)}", soft_wrap=True)
        console.print(f"run directory:  {escape(str(directory))}", soft_wrap=True)


@dataclass(frozen=True)
class EvalCommand:
    """Play a run's checkpoint greedily, and say how it does."""

    run_dir: Positional[Path]
    """What `endmark train` left behind."""
    episodes: int = 100
    """Episodes to play, on seeds that training never used."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        if self.episodes < 1:
            raise ValueError(f"episodes: given {self.episodes}, want at least 1")
        config, learner = load(self.run_dir)
        summary = evaluate(config, greedy_policy(config, learner), self.episodes)
        title = f"{config.algorithm} on {config.env}, after {learner.updates} updates"
        console.print(summary_table(title, {"greedy": summary}))


@dataclass(frozen=True)
class EnvsCommand:
    """Show which environments are installed, and how to install the others."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        table = Table("environments", "version", "ids for --env, such as")
        for family in installed():
            how = "\n".join(family.examples) if family.is_installed else f"not installed: {family.install}"
            table.add_row(family.name, family.version or "-", escape(how))
        console.print(table)
        console.print("Any discrete Gymnasium id or PettingZoo parallel module of yours works too.")


@dataclass(frozen=True)
class ExplainCommand:
    """Run the usual three lines of masking one by one on one episode, and say where they are wrong."""

    filled: str | None = None
    """Which frames hold data, such as 1111111."""
    terminated: str | None = None
    """Which steps ended the episode, such as 0001000."""
    file: Path | None = None
    """A stored batch, as `endmark inspect` reads it, instead of the flags."""
    episode: int = 0
    """Which of its rows, from 0."""
    json: FlagCreatePairsOff[bool] = False
    """Print everything as JSON."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        explanation = explain(self.filled, self.terminated, self.file, self.episode)
        if self.json:
            print(json.dumps(explanation.to_json()))
        else:
            console.print(explanation_text(explanation, console.width), soft_wrap=True)


@dataclass(frozen=True)
class InspectCommand:
    """Say what a padded batch, a stored replay or a run holds; exit status 1 if its real steps are broken."""

    path: Positional[Path]
    """A .npz, .safetensors, .pt or .pth file, or what `endmark train` left behind."""
    html: Path | None = None
    """Write a page that shows the batch, too."""
    json: FlagCreatePairsOff[bool] = False
    """Print the findings as JSON."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        source = read(self.path)
        inspection = inspect(source)
        if self.html is not None:
            self.html.write_text(html_page(page_data(source, inspection)), encoding="utf-8")
        if self.json:
            print(json.dumps(inspection.to_json()))
        else:
            console.print(inspection_table(source, inspection, ascii_only=console.options.ascii_only))
        if inspection.broken:
            raise SystemExit(1)


@dataclass(frozen=True)
class AuditCommand:
    """Disturb what must not matter to a loss, and report what moved; exit status 1 if something leaks."""

    target: Positional[str]
    """module:function or file.py:function; the function returns a Case, or the Report of audit_learner."""
    quick: FlagCreatePairsOff[bool] = False
    """Look at fewer steps one by one."""
    seed: int = 0
    """What the disturbances are drawn from."""
    html: Path | None = None
    """Write the report as a page, too."""
    json: FlagCreatePairsOff[bool] = False
    """Print the report as JSON."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        with ProbeDisplay(Console(stderr=True)) as display:
            report = audit_target(self.target, seed=self.seed, quick=self.quick, on_progress=display)
        if self.html is not None:
            self.html.write_text(report_html(report, self.target), encoding="utf-8")
        if self.json:
            print(json.dumps(report.to_json()))
        else:
            console.print(report_text(report))
        if report.leaks:
            raise SystemExit(1)


@dataclass(frozen=True)
class BenchCommand:
    """Measure endmark beside the usual padded way, in one process; first see that both compute the same."""

    only: str = ",".join(SECTIONS)
    """The sections to run, with commas between them."""
    threads: int = 1
    """Threads of torch on the CPU."""
    quick: FlagCreatePairsOff[bool] = False
    """Tiny shapes, a few seconds: see that all results agree, and print times that mean nothing."""
    json: Path | None = None
    """Write everything that was measured as JSON, too."""
    picture: Path | None = None
    """Draw a picture, too: a .png or .svg file."""
    markdown: FlagCreatePairsOff[bool] = False
    """Print the tables as Markdown."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        names = section_names(self.only)
        for path in (self.json, self.picture):  # better known now than when all has been measured
            if path is not None and not path.parent.is_dir():
                raise ValueError(f"{path}: there is no directory {path.parent}")
        if self.picture is not None:
            check_picture(names)
        with BenchDisplay(Console(stderr=True)) as display:
            results = run_bench(names, threads=self.threads, quick=self.quick, observe=display)
        if self.json is not None:
            self.json.write_text(json.dumps(results.to_json(), indent=1) + "\n", encoding="utf-8")
        if self.picture is not None:
            bench_picture(results, self.picture)
        if self.markdown:
            print(markdown(results))
        else:
            console.print(terminal(results))


Command = (
    TrainCommand | EvalCommand | EnvsCommand | ExplainCommand | InspectCommand | AuditCommand | BenchCommand
)
COMMANDS: dict[str, Callable[..., Command]] = {
    "train": TrainCommand,
    "eval": EvalCommand,
    "envs": EnvsCommand,
    "explain": ExplainCommand,
    "inspect": InspectCommand,
    "audit": AuditCommand,
    "bench": BenchCommand,
}


def main(args: Sequence[str] | None = None) -> None:
    """The program `endmark`."""
    console = Console()
    try:
        command = _parse(sys.argv[1:] if args is None else args)
        command(console)
    except (ValueError, OSError) as error:
        _fail(" ".join(str(error).split()))
    except KeyboardInterrupt:  # outside the training loop, or for the second time
        print("endmark: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _parse(args: Sequence[str]) -> Command:
    """The command that the arguments ask for; tyro's boxed errors become one line."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            command: Command = tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="endmark", args=list(args) or ["--help"], config=[tyro.conf.OmitArgPrefixes]
            )
            return command
    except SystemExit as stop:
        if not stop.code:
            raise
        box = [line.strip(" │") for line in errors.getvalue().splitlines()]
        words = itertools.takewhile(lambda line: not line.startswith("──"), box[1:])
        message = " ".join(" ".join(words).split())
        _fail(re.sub(r"^Error parsing __tyro\S*: ", "", message) or "these arguments do not fit")


def _fail(message: str) -> NoReturn:
    print(f"endmark: {message}", file=sys.stderr)
    raise SystemExit(2)


def _run_directory(config: TrainConfig) -> Path:
    env = "".join(c if c.isalnum() or c in "-._" else "-" for c in config.env)
    return Path("runs") / f"{config.algorithm}-{env}-seed{config.seed}-{datetime.now():%Y%m%d-%H%M%S}"


def _draw_curve(directory: Path, config: TrainConfig, levels: dict[str, float]) -> str:
    points = [
        (float(env_steps), greedy_return)
        for line in read_metrics(directory)
        if (env_steps := line["env_steps"]) is not None
        and (greedy_return := line.get("greedy_return")) is not None
    ]
    path = directory / "curve.png"
    try:
        learning_curve({config.algorithm: [points]}, path, title=config.env, levels=levels)
    except ImportError:
        return 'not drawn: pip install "endmark[plot]"'
    return str(path)
