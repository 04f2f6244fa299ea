"""From arguments to a command, by tyro; its boxed errors become one line."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

import tyro

from endmark.cli import Shown


def parse(
    command: Any,
    name: str,
    args: Sequence[str],
    *,
    default: Any = None,
    hint: Callable[[str], str] = str,
) -> Any:
    """The command that the arguments ask for; ValueError, one line, for a bad argument.

    default: a command to take values from that no argument gives. hint: may add to an error's message.
    """
    errors = io.StringIO()
    options = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                command, prog=f"endmark {name}", args=args, config=[tyro.conf.OmitArgPrefixes], **options
            )
    except SystemExit as stop:
        if not stop.code and any(arg in ("-h", "--help") or arg.startswith("--tyro-") for arg in args):
            raise Shown from None
        if stop.code != 2 or not errors.getvalue():  # not tyro's, but of a config of one's own
            raise
    raise ValueError(hint(_one_line(errors.getvalue())))


def _one_line(box: str) -> str:
    """What a box of tyro's says: its first part, and an option that it suggests.

    The frame and the rules between its parts are of dashes where the terminal has no characters to draw with.
    """
    lines = [line.strip(" │") for line in box.splitlines()][1:]
    parts = ["" if re.fullmatch("[╰─╯-]*", line) else line for line in lines]
    first, *others = [" ".join(part) for filled, part in itertools.groupby(parts, bool) if filled] or [""]
    message = re.sub(r"^Error parsing __tyro\S*: ", "", " ".join(first.split()))
    given = re.search(r"nrecogni.*?(--[\w-]+)", message)
    offered = [name for other in others if "meant" in other for name in re.findall(r"--[a-z][\w-]*", other)]
    if given and (near := get_close_matches(given[1], offered, n=1)):
        return f"{message}; did you mean {near[0]}?"
    return message or "these arguments do not fit"
