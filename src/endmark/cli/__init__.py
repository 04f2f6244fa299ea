"""The command line. Each command is a file here, imported only when it is asked for.

No logic: the commands wire the pieces together, and every error becomes one line and exit status 2.
"""

from __future__ import annotations

import importlib
import io
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import NamedTuple, NoReturn

from endmark import __version__
from endmark.wording import one_line, printable


class Command(NamedTuple):
    """What the front page says of a command, and where it is."""

    module: str
    """Its module, with a function `run(args)` that returns the exit status, and the class NAMECommand."""
    group: str
    line: str
    example: str


COMMANDS = {
    "train": Command(
        "endmark.cli.train",
        "train",
        "Train an algorithm on an environment, and leave a run directory.",
        "train qmix --env lbforaging:Foraging-5x5-2p-1f-v3",
    ),
    "resume": Command(
        "endmark.cli.resume",
        "train",
        "Go on with a run that was stopped or killed, bit for bit.",
        "resume runs/RUN",
    ),
    "sweep": Command(
        "endmark.cli.sweep",
        "train",
        "Run a grid of runs, here or on a cluster; killed, it goes on.",
        "sweep qmix,mappo --env matrix:climbing --seeds 0:5",
    ),
    "fit-prior": Command(
        "endmark.cli.fit_prior",
        "train",
        "Fit the space of subgoals that opponent modelling infers.",
        "fit-prior --env ENV --partners pool/ --out runs/prior",
    ),
    "eval": Command(
        "endmark.cli.eval",
        "look",
        "Play a run's checkpoint greedily, and say how it does.",
        "eval runs/RUN --checkpoint best",
    ),
    "play": Command(
        "endmark.cli.play",
        "look",
        "Play a run's checkpoint greedily, and film it.",
        "play runs/RUN --values",
    ),
    "plot": Command(
        "endmark.cli.plot",
        "look",
        "Draw the curves of runs, also of runs that go on or were killed.",
        "plot runs/RUN runs/OTHER",
    ),
    "inspect": Command(
        "endmark.cli.inspect",
        "look",
        "Say what a padded batch, a stored replay or a run holds.",
        "inspect batch.npz --html page.html",
    ),
    "goals": Command(
        "endmark.cli.goals",
        "look",
        "Compare the subgoals that a run infers with what partners do.",
        "goals runs/RUN --png goals.png",
    ),
    "compare": Command(
        "endmark.cli.compare",
        "compare",
        "Compare variants over seeds and tasks, with intervals.",
        "compare runs/ --html compare.html",
    ),
    "crossplay": Command(
        "endmark.cli.crossplay",
        "compare",
        "Play every learner with every partner, and show the matrix.",
        "crossplay --learners runs/RUN --partners pool/",
    ),
    "audit": Command(
        "endmark.cli.audit",
        "check",
        "Disturb what must not matter to a loss, and report what moved.",
        "audit my_tests.py:case",
    ),
    "explain": Command(
        "endmark.cli.explain",
        "check",
        "Run the usual three lines of masking one by one.",
        "explain --filled 1111111 --terminated 0001000",
    ),
    "check": Command(
        "endmark.cli.check",
        "check",
        "Play an environment, and say whether it keeps to the contract.",
        "check my_game:MyEnv",
    ),
    "envs": Command(
        "endmark.cli.envs",
        "this machine",
        "Show which environments are installed, and how to get others.",
        "envs",
    ),
    "doctor": Command(
        "endmark.cli.doctor",
        "this machine",
        "Say whether training works here; the paste for a bug report.",
        "doctor",
    ),
    "completion": Command(
        "endmark.cli.completion",
        "this machine",
        "Print a script with which the Tab key completes commands.",
        "completion bash",
    ),
}
"""All commands, by group in the order in which the front page shows them."""
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
        import platform
        from importlib.metadata import version

        print(f"endmark {__version__} (torch {version('torch')}, Python {platform.python_version()})")
        return 0
    name, *rest = args
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"want one of {', '.join(COMMANDS)}"
        fail(f"no command '{name}': {hint}")
    try:
        with current_directory_importable():
            status: int = importlib.import_module(COMMANDS[name].module).run(rest)
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
    lines = []
    for group, commands in itertools.groupby(COMMANDS.items(), lambda item: item[1].group):
        lines += ["", f"{group}:"]
        for name, command in commands:
            lines += [f"  {name:{width}}  {command.line}", f"  {'':{width}}    endmark {command.example}"]
    return "\n".join(
        [
            "endmark trains agents on whole episodes, and finds losses that read padding.",
            "",
            "usage: endmark COMMAND [options]    endmark COMMAND --help    endmark --version",
            *lines,
        ]
    )
