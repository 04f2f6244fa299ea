"""`endmark eval`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from tyro.conf import Positional

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.report import summary_table
from endmark.run import BEST, WEIGHTS
from endmark.training import evaluate, load


@dataclass(frozen=True)
class EvalCommand:
    """Play a run's checkpoint greedily, and say how it does."""

    run_dir: Positional[Path]
    """What `endmark train` left behind."""
    checkpoint: Literal["last", "best"] = "last"
    """The last one, or that of the best greedy evaluation so far."""
    episodes: int = 100
    """Episodes to play, on seeds that training never used."""
    seed: int = 0
    """Which such episodes; the same seed means the same episodes for every run."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        if self.episodes < 1:
            raise ValueError(f"episodes: given {self.episodes}, want at least 1")
        if self.seed < 0:
            raise ValueError(f"seed: given {self.seed}, want at least 0")
        config, learner = load(self.run_dir, BEST if self.checkpoint == "best" else WEIGHTS)
        policy = learner.greedy_policy(config.n_envs)
        with console.status(f"playing {self.episodes} episodes"):
            summary = evaluate(config, policy, self.episodes, seed=self.seed)
        title = f"{config.name} on {config.env}, after {learner.updates} updates"
        console.print(summary_table(title, {"greedy": summary}))


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    parse(EvalCommand, "eval", args)(Terminal())
    return 0
