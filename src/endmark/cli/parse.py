"""From arguments to a command, by tyro; its boxed errors become one line."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from endmark.cli import fail


def parse(
    command: Any,
    name: str,
    args: Sequence[str],
    *,
    default: Any = None,
    hint: Callable[[str], str] = str,
) -> Any:
    """The command that the arguments ask for; a bad argument ends the program with one line.

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
        if not stop.code:
            raise
        box = [line.strip(" │") for line in errors.getvalue().splitlines()]
        words = itertools.takewhile(lambda line: not line.startswith("──"), box[1:])
        message = " ".join(" ".join(words).split())
        message = re.sub(r"^Error parsing __tyro\S*: ", "", message) or "these arguments do not fit"
        fail(hint(message))
