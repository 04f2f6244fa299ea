"""`endmark resume`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.cli.train import train_and_report
from endmark.training import load_config


@dataclass(frozen=True)
class ResumeCommand:
    """Go on with a run that was stopped or killed, bit for bit from the state that it saved last."""

    run_dir: Positional[Path]
    """What `endmark train` left behind."""
    steps: int | None = None
    """Environment steps to train for in all; by default as many as the run was asked for."""

    def __call__(self, console: Console) -> int:
        """Run the command; its exit status."""
        config = load_config(self.run_dir)
        if self.steps is not None:
            config = dataclasses.replace(config, steps=self.steps)
        return train_and_report(config, self.run_dir, console, resume=True)


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    status: int = parse(ResumeCommand, "resume", args)(Terminal())
    return status
