"""The error of this package, and other errors as one line."""

from __future__ import annotations

import traceback


class EnvError(ValueError):
    """An environment cannot be made, or breaks its contract. The message is one line."""


def one_line(error: Exception) -> str:
    """The type, the message, and the place where the error was raised."""
    if isinstance(error, SyntaxError):  # its message names the place, its traceback does not
        return f"SyntaxError: {joined(error)}"
    said = f"{type(error).__name__}: {joined(error)}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return said
    return f"{said} ({frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name})"


def joined(error: Exception) -> str:
    """The message without its line breaks."""
    return " ".join(str(error).split())
