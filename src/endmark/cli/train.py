"""`endmark train`."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Generic, Literal

import tyro
from rich.console import Console
from rich.markup import escape

from endmark.algorithms import ALGORITHMS
from endmark.algorithms.named import AlgorithmError, config_class
from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.report import TrainingDisplay, draw_runs, read_run, summary_table
from endmark.rollout import Summary
from endmark.training import TrainConfig, final_evaluation, load_config, pinned, train
from endmark.training.config import A

PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    "gorsane2022": {"eval_every": 10_000, "eval_episodes": 32, "final_episodes": 320},
}
"""What each protocol sets."""
STOPPED = 3
"""Exit status of a run that a signal stopped before its end: resume it."""


@dataclass(frozen=True)
class TrainCommand(Generic[A]):
    """Train on an environment, with a live display, and leave a run directory behind."""

    config: Annotated[TrainConfig[A], tyro.conf.arg(name="")]
    run_dir: Path | None = None
    """Where to put the run; by default runs/ALGORITHM-ENV-seedSEED-TIME."""
    protocol: Literal["gorsane2022"] | None = None
    """When to evaluate, and on how many episodes, as a paper asks for. gorsane2022 (arXiv:2209.10485): every
    10,000 steps on 32 episodes, and at the end the best checkpoint on 320 further ones. With ten seeds."""
    like: Path | None = None
    """Start from the configuration of this run directory; further options change it."""


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    args = list(args)
    like = _value_of("--like", args)
    default = None if like is None else load_config(Path(like))
    protocol = _value_of("--protocol", args)
    named = bool(args) and not args[0].startswith("-")
    if not named and default is None:
        if args and args[0] not in ("-h", "--help"):
            raise AlgorithmError(
                f"train: given '{args[0]}' first, want an algorithm: {', '.join(ALGORITHMS)}"
            )
        print(_help())
        return 0
    name = args.pop(0) if named else default.name  # type: ignore[union-attr]
    kind = config_class(name)
    if default is not None and type(default.algorithm) is not kind:
        default = dataclasses.replace(default, algorithm=kind())
    settings = PROTOCOLS.get(protocol or "", {})  # an unknown one is refused below
    preset = [word for key, value in settings.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    command = parse(
        TrainCommand[kind],  # type: ignore[valid-type]
        f"train {name}",
        [*preset, *args],  # what is given counts, and is compared below
        default=None if default is None else TrainCommand(default, like=None if like is None else Path(like)),
        hint=lambda message: _whose_option(message, name),
    )
    config = command.config
    for setting, want in settings.items():
        if (given := getattr(config, setting)) != want:
            raise ValueError(f"{setting}: given {given} beside --protocol {protocol}, want {want}")
    with nullcontext(command.run_dir) if command.run_dir else _new_directory(config) as directory:
        return train_and_report(config, directory, Terminal())


def train_and_report(
    config: TrainConfig[Any], directory: Path, console: Console, *, resume: bool = False
) -> int:
    """Train with a live display, then evaluate, and say where everything is; the exit status.

    It is `STOPPED` for a run that a signal stopped.
    """
    config = pinned(config)  # so that the evaluation at the end has the partners of the training
    with TrainingDisplay(console, config.steps) as display:
        learner, counters, stopped = train(
            config, directory, display, resume=resume, preparing=display.preparing
        )
    if counters.updates == 0:
        console.print(
            f"nothing was learnt: {counters.env_steps} steps are {counters.episodes} episodes, too few for "
            f"one update",
            soft_wrap=True,
        )
    if stopped:
        console.print(f"stopped after {counters.env_steps} steps. To go on, or to evaluate the checkpoint:")
        console.print(f"  endmark resume {escape(str(directory))}", soft_wrap=True)
        console.print(f"  endmark eval {escape(str(directory))}", soft_wrap=True)
        _draw_curve(directory, console)
        return STOPPED
    summaries = final_evaluation(config, directory, learner)
    console.print(summary_table(f"{config.name} on {config.env}", summaries))
    _draw_curve(directory, console, {"random": summaries["random"]})
    console.print(f"run directory:  {escape(str(directory))}", soft_wrap=True)
    return 0


def _value_of(option: str, args: Sequence[str]) -> str | None:
    """The value of an option that is needed before the others can be parsed."""
    for i, arg in enumerate(args):
        if arg.startswith(f"{option}="):
            return arg.removeprefix(f"{option}=")
        if arg == option and i + 1 < len(args):
            return args[i + 1]
    return None


def _whose_option(message: str, name: str) -> str:
    """The message, and where an unknown option of it belongs."""
    if (option := re.search(r"--([a-z][\w-]*)", message)) is None or "nrecogni" not in message:
        return message
    field = option[1].replace("-", "_").removeprefix("no_")
    owners = [
        other
        for other, config in ALGORITHMS.items()
        if field in {f.name for f in dataclasses.fields(config)} and other != name  # type: ignore[arg-type]
    ]
    if not owners:
        return message
    return f"--{option[1]}: no option of {name}; it is one of {', '.join(owners)}"


def _help() -> str:
    width = max(map(len, ALGORITHMS))
    lines = [f"  {name:{width}}  {(kind.__doc__ or '').splitlines()[0]}" for name, kind in ALGORITHMS.items()]
    return "\n".join(
        [
            "usage: endmark train ALGORITHM --env ENV [options]",
            "       endmark train --like RUN_DIR [options]",
            "",
            *lines,
            f"  {'m:Config':{width}}  An algorithm of your own: the config class in module m.",
            "",
            "endmark train ALGORITHM --help shows the options of an algorithm.",
        ]
    )


@contextmanager
def _new_directory(config: TrainConfig[Any]) -> Iterator[Path]:
    """A directory for the run that no other process has; removed if nothing came to be in it."""
    name, env = (
        "".join(c if c.isalnum() or c in "-._" else "-" for c in text) for text in (config.name, config.env)
    )
    first = Path("runs") / f"{name}-{env}-seed{config.seed}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in itertools.count(1):
        directory = first if number == 1 else first.with_name(f"{first.name}-{number}")
        with suppress(FileExistsError):
            directory.mkdir(parents=True)
            break
    try:
        yield directory
    finally:
        with suppress(OSError):  # something is in it
            directory.rmdir()
            directory.parent.rmdir()


def _draw_curve(
    directory: Path, console: Console, levels: Mapping[str, Summary] = MappingProxyType({})
) -> None:
    run, path = read_run(directory), directory / "curve.png"
    if not run.curve:
        return
    try:
        draw_runs([run], path, levels=levels)
    except ImportError:
        console.print(escape('learning curve: not drawn: pip install "endmark[plot]"'), soft_wrap=True)
    else:
        console.print(f"learning curve: {escape(str(path))}", soft_wrap=True)
