"""Names, values and errors from outside, as a part of one line of text."""

from __future__ import annotations

import os
import traceback


def printable(text: str) -> str:
    r"""The text with characters that are not seen written as escapes, such as `\x1b`, which moves cursors.

    Spaces stay, and the letters of every language.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, most: int = 200) -> str:
    """At most so many characters, and dots where some are left out."""
    return text if len(text) <= most else f"{text[:most]}..."


def quoted(name: str) -> str:
    """A name in quotes, printable and not too long."""
    return f"'{shortened(printable(name))}'"


def shown(value: object) -> str:
    """A value as Python writes it, in one line and not too long."""
    return shortened(" ".join(repr(value).split()), 100)


def joined(error: BaseException) -> str:
    """An error's message without its line breaks."""
    return " ".join(str(error).split())


def one_line(error: BaseException) -> str:
    """An error's type and message, and the place where it was raised."""
    if isinstance(error, SyntaxError):  # its message names the place, its traceback does not
        return f"SyntaxError: {joined(error)}"
    said = f"{type(error).__name__}: {joined(error)}".removesuffix(": ")
    frame = raised_in(error)
    return f"{said} ({frame.filename}:{frame.lineno}, in {frame.name})" if frame else said


def raised_in(error: BaseException) -> traceback.FrameSummary | None:
    """The place where the error was raised; None if it was not.

    For `sys.exit()` it is the line that called it, or that called the standard library's code which did, such
    as argparse.
    """
    frames = list(traceback.extract_tb(error.__traceback__))
    if isinstance(error, SystemExit):
        library = os.path.dirname(os.__file__), "<frozen"
        while len(frames) > 1 and _is_in(library, frames[-1].filename):
            frames.pop()
    return frames[-1] if frames else None


def _is_in(library: tuple[str, ...], filename: str) -> bool:
    return filename.startswith(library) and "site-packages" not in filename
