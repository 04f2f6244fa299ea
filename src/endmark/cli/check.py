"""`endmark check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import tyro
from rich.console import Console
from tyro.conf import Positional

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.envs import arguments, check, make


@dataclass(frozen=True)
class CheckCommand:
    """Play an environment with random legal actions, and say whether it keeps to the contract."""

    env: Positional[str]
    """An id as `endmark envs` shows them, or module:Class for one of your own."""
    env_arg: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An argument of the environment's constructor, as key=value; the value is JSON, or else a string."""
    episode_limit: int | None = None
    """Cut episodes after this many steps; needed only for an environment without a limit of its own."""
    episodes: int = 3
    """Whole episodes to play."""
    resets: int = 100
    """Resets of a used environment to compare with a fresh one from the same seed."""
    seed: int = 0
    """What actions and episodes are drawn from."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        make_env = partial(make, self.env, episode_limit=self.episode_limit, **arguments(self.env_arg))
        with console.status("playing"):
            report = check(make_env, episodes=self.episodes, resets=self.resets, seed=self.seed)
        console.print(
            f"{self.env} keeps to the contract: {report.episodes} episodes of {report.mean_length:.1f} "
            f"steps, {report.terminated} terminated and {report.truncated} truncated, mean return "
            f"{report.mean_return:.3f}; {self.resets} resets as in a fresh environment",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    parse(CheckCommand, "check", args)(Terminal())
    return 0
