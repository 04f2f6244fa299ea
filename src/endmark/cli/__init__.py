"""The command line. Each command is a file here, imported only when it is asked for.

No logic: the commands wire the pieces together, and every error becomes one line and exit status 2.
"""

from __future__ import annotations

import importlib
import io
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib.metadata import version
from typing import NoReturn

from endmark import __version__
from endmark.wording import one_line, printable

COMMANDS = {
    "train": ("endmark.cli.train", "Train an algorithm on an environment, and leave a run directory behind."),
    "resume": ("endmark.cli.resume", "Go on with a run that was stopped or killed, bit for bit."),
    "sweep": (
        "endmark.cli.sweep",
        "Run a grid of runs, here or on a cluster; it can be killed and goes on.",
    ),
    "eval": ("endmark.cli.eval", "Play a run's checkpoint greedily, and say how it does."),
    "play": ("endmark.cli.play", "Play a run's checkpoint greedily, and film it."),
    "crossplay": ("endmark.cli.crossplay", "Play every learner with every partner, and show the matrix."),
    "fit-prior": ("endmark.cli.fit_prior", "Fit the space of subgoals that opponent modelling infers."),
    "goals": ("endmark.cli.goals", "Compare the subgoals that a run infers with what its partners do."),
    "plot": ("endmark.cli.plot", "Draw the curves of runs, also of runs that go on or were killed."),
    "compare": ("endmark.cli.compare", "Compare variants over seeds and tasks, with intervals."),
    "envs": ("endmark.cli.envs", "Show which environments are installed, and how to install the others."),
    "check": ("endmark.cli.check", "Play an environment, and say whether it keeps to the contract."),
    "explain": (
        "endmark.cli.explain",
        "Run the usual three lines of masking one by one, and say where they are wrong.",
    ),
    "inspect": ("endmark.cli.inspect", "Say what a padded batch, a stored replay or a run holds."),
    "audit": ("endmark.cli.audit", "Disturb what must not matter to a loss, and report what moved."),
}
"""Each command's module, with a function `run(args)` that returns the exit status, and a line on it."""
PIPE_CLOSED = 141
"""Exit status where the reader of the output has gone: that of a program which SIGPIPE ended."""


class Shown(Exception):
    """Help was asked for, and has been printed."""


def main(args: Sequence[str] | None = None) -> None:
    """The program `endmark`. Raises SystemExit with the exit status, unless that is 0."""
    for stream in (sys.stdout, sys.stderr):  # a name may hold what the terminal's encoding has not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(sys.argv[1:] if args is None else list(args))
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads any more, as in `endmark envs | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the very end
        status = PIPE_CLOSED
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    if status:
        raise SystemExit(status)


def _run(args: Sequence[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(_help())
        return 0
    if args[0] in ("-V", "--version"):
        print(f"endmark {__version__} (torch {version('torch')}, Python {platform.python_version()})")
        return 0
    name, *rest = args
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"want one of {', '.join(COMMANDS)}"
        fail(f"no command '{name}': {hint}")
    try:
        with current_directory_importable():
            status: int = importlib.import_module(COMMANDS[name][0]).run(rest)
            return status
    except Shown:
        return 0
    except ValueError as error:
        fail(str(error))
    except SystemExit as stop:
        # Commands return their status, so this is the environment's, the algorithm's or the loss's.
        fail(f"{one_line(stop)}: given code that ends the program, want code that returns")
    except KeyboardInterrupt:  # outside the training loop, or for the second time
        print("endmark: interrupted", file=sys.stderr)
        return 130


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
    print(f"endmark: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(2)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {line}" for name, (_, line) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: endmark COMMAND [options]",
            "       endmark --version",
            "",
            *lines,
            "",
            "endmark COMMAND --help says more.",
        ]
    )
