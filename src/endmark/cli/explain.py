"""`endmark explain`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import FlagCreatePairsOff

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.inspect.explain import explain
from endmark.inspect.explain_text import explanation_text


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


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    parse(ExplainCommand, "explain", args)(Terminal())
    return 0
