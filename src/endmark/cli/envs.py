"""`endmark envs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.envs import installed


@dataclass(frozen=True)
class EnvsCommand:
    """Show which environments are installed, and how to install the others."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        names = Column("environments", max_width=19)  # leaves room for ids, which are not to be broken
        table = Table(names, "version", "ids for --env, such as")
        for family in installed():
            how = "\n".join(family.examples) if family.is_installed else f"not installed: {family.install}"
            table.add_row(family.name, family.version or "-", escape(how))
        console.print(table)
        console.print(
            "Any discrete Gymnasium id or PettingZoo parallel module of yours works too, and as "
            "pymarl:module:Class any environment with PyMARL's methods."
        )


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    parse(EnvsCommand, "envs", args)(Terminal())
    return 0
