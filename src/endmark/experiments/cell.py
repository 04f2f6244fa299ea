"""One cell of a sweep, in whatever process: train, or go on, and say in one line how it ended."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from rich.console import Console

from endmark.disk import InUseError
from endmark.report import TrainingDisplay
from endmark.run import CONFIG
from endmark.training import TrainConfig, final_evaluation, pinned, train
from endmark.training.build import env_spec, make_learner
from endmark.training.final import FINAL
from endmark.wording import joined, one_line

Kind = Literal["finished", "stopped", "failed", "in use", "lost"]


class Outcome(NamedTuple):
    """How a cell ended. stopped: by a signal, with its state saved. in use: another process trains there.

    lost: with the machine that it ran on. line: of a failure, the last line of its error.
    """

    kind: Kind
    line: str = ""


def run_cell(config: TrainConfig[Any], directory: Path, log: Path) -> Outcome:
    """Train the cell in its directory, from the state that was saved there last if there is one.

    What it prints goes to the end of `log`. No error is raised.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as file, _printing_to(file):
        begins = "goes on" if (directory / CONFIG).exists() else "begins"
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {directory.name} {begins}")
        outcome = _trained(config, directory, file)
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {outcome.kind}{outcome.line and ': '}{outcome.line}")
    return outcome


def _trained(config: TrainConfig[Any], directory: Path, file: TextIO) -> Outcome:
    console = Console(file=file, force_terminal=False, width=110)
    try:
        with TrainingDisplay(console, config.steps) as display:
            learner, _, stopped = train(config, directory, display, resume=True, preparing=display.preparing)
        if not stopped:
            print(f"playing {config.final_episodes} episodes of each policy, for {FINAL}")
            final_evaluation(pinned(config), directory, learner)
    except InUseError as error:
        return Outcome("in use", joined(error))
    except (Exception, SystemExit) as error:  # of an environment or an algorithm, which may raise anything
        traceback.print_exc()
        return Outcome("failed", said(error))
    return Outcome("stopped" if stopped else "finished")


def problem_of(configs: Sequence[TrainConfig[Any]]) -> str | None:
    """What keeps these runs, all on one environment, from being made; None if nothing does."""
    try:
        spec = env_spec(configs[0])
        for config in configs:
            make_learner(config, spec)
    except (Exception, SystemExit) as error:
        return said(error)
    return None


def said(error: BaseException) -> str:
    """An error in one line, as the command line has it."""
    return joined(error) if isinstance(error, ValueError | OSError) and str(error) else one_line(error)


@contextmanager
def _printing_to(file: TextIO) -> Iterator[None]:
    with redirect_stdout(file), redirect_stderr(file):
        yield
    sys.stdout.flush()
