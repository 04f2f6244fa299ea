"""`endmark crossplay`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.text import Text

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.disk import replacing
from endmark.report import (
    CountsDisplay,
    crossplay_json,
    crossplay_page,
    crossplay_tables,
    draw_crossplay,
    writable,
)
from endmark.training import CrossplaySettings, crossplay, sheets


@dataclass(frozen=True)
class CrossplayCommand:
    """Play every learner with every partner, greedily, on the same episodes, and show the matrix.

    A learner or partner is a run directory, a checkpoint in one, a folder of runs, or module:function.
    """

    learners: tuple[str, ...]
    """The rows: each acts for its agents of an episode, by its run's configuration or --learner-seats."""
    partners: tuple[str, ...] = ()
    """The columns: each acts for all other agents. Partners that the learners saw in training."""
    held_out: tuple[str, ...] = ()
    """More columns: partners that they did not see."""
    episodes: int = 100
    """Episodes of each pair, on seeds that training never used."""
    seed: int = 0
    """Which such episodes; those of `endmark eval` with the same seed."""
    normalise: Literal["none", "best-response"] = "none"
    """best-response: show returns also divided by the best that any learner here got with that partner."""
    env: str | None = None
    """The environment; by default that of the learners' runs, or else of the partners'."""
    env_arg: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An argument of its constructor, as key=value; by default those of the runs."""
    learner_seats: int | None = None
    """Agents that a learner acts for; by default as it was trained with partners, and otherwise one."""
    learner_agents: tuple[int, ...] | None = None
    """Agents that a learner may act for; by default as it was trained with partners, and otherwise any."""
    device: str = "auto"
    """Where the networks are: auto (a GPU if torch sees one), cpu, cuda, ..."""
    json: Path | None = None
    """Write all numbers, also of every episode."""
    png: Path | None = None
    """Write a picture, a heat map; .png, .svg or .pdf."""
    html: Path | None = None
    """Write a page."""

    def __call__(self, console: Console, command: str) -> None:
        """Run the command. command: how it was called."""
        outputs = {"json": self.json, "png": self.png, "html": self.html}
        asked = {option: path for option, path in outputs.items() if path is not None}
        for option, path in asked.items():
            writable(f"--{option}", path, picture=option == "png")
        settings = CrossplaySettings(
            self.episodes,
            self.seed,
            self.env,
            self.env_arg or None,
            self.learner_seats,
            self.learner_agents,
            self.device,
        )
        with CountsDisplay(console) as display:
            shown = partial(display, "cells")
            matrix = crossplay(self.learners, self.partners, self.held_out, settings, progress=shown)
        made = sheets(matrix, normalise=self.normalise == "best-response")
        for part in crossplay_tables(matrix, made, console):
            console.print(part)
        if self.json:
            with replacing(self.json) as path:
                path.write_text(json.dumps(crossplay_json(matrix, made, command)), encoding="utf-8")
        if self.png:
            draw_crossplay(matrix, made, self.png)
        if self.html:
            with replacing(self.html) as path:
                path.write_text(crossplay_page(matrix, made, command), encoding="ascii")
        for path in asked.values():
            console.print(Text(str(path)), soft_wrap=True)


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    parse(CrossplayCommand, "crossplay", args)(Terminal(), shlex.join(["endmark", "crossplay", *args]))
    return 0
