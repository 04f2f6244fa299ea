"""The command line. Each command is a file here, imported only when it is asked for.

No logic: the commands wire the pieces together, and every error becomes one line and exit status 2.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import NoReturn

COMMANDS = {
    "train": ("endmark.cli.train", "Train an algorithm on an environment, and leave a run directory behind."),
    "resume": ("endmark.cli.resume", "Go on with a run that was stopped or killed, bit for bit."),
    "eval": ("endmark.cli.eval", "Play a run's checkpoint greedily, and say how it does."),
    "envs": ("endmark.cli.envs", "Show which environments are installed, and how to install the others."),
    "check": ("endmark.cli.check", "Play an environment, and say whether it keeps to the contract."),
    "explain": (
        "endmark.cli.explain",
        "Run the usual three lines of masking one by one, and say where they are wrong.",
    ),
    "inspect": ("endmark.cli.inspect", "Say what a padded batch, a stored replay or a run holds."),
    "audit": ("endmark.cli.audit", "Disturb what must not matter to a loss, and report what moved."),
}
"""Each command's module, with a function `run(args)`, and a line on it."""


def main(args: Sequence[str] | None = None) -> None:
    """The program `endmark`."""
    args = sys.argv[1:] if args is None else list(args)
    if not args or args[0] in ("-h", "--help"):
        print(_help())
        return
    name, *rest = args
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        fail(
            f"no command '{name}': "
            + (f"did you mean {near[0]}?" if near else f"want one of {', '.join(COMMANDS)}")
        )
    try:
        with current_directory_importable():
            importlib.import_module(COMMANDS[name][0]).run(rest)
    except (ValueError, OSError) as error:
        fail(" ".join(str(error).split()))
    except KeyboardInterrupt:  # outside the training loop, or for the second time
        print("endmark: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


@contextmanager
def current_directory_importable() -> Iterator[None]:
    """Import from the current directory first, as `python -m` does, and as worker processes then do too.

    So environments, algorithms and losses are found in files of one's own.
    """
    here = None
    with suppress(FileNotFoundError):  # the directory was removed
        here = os.getcwd()
    if here is None or here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with suppress(ValueError):  # an imported module may have changed the path
            sys.path.remove(here)


def fail(message: str) -> NoReturn:
    """One line on stderr, and exit status 2."""
    print(f"endmark: {message}", file=sys.stderr)
    raise SystemExit(2)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {line}" for name, (_, line) in COMMANDS.items()]
    return "\n".join(
        ["usage: endmark COMMAND [options]", "", *lines, "", "endmark COMMAND --help says more."]
    )
