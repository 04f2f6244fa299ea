"""The errors of this package, and other errors as one line."""

from __future__ import annotations

import os
import traceback


class EnvError(ValueError):
    """An environment cannot be made, fails, or breaks its contract. The message is one line."""


class ContractError(EnvError):
    """An environment breaks its contract, so that playing it again will not help."""


class EnvWarning(UserWarning):
    """An environment could not be closed."""


def located(error: BaseException, where: str) -> EnvError:
    """The error as one that begins with this place."""
    if isinstance(error, ContractError):  # its message begins with a place, which goes on from this one
        return ContractError(f"{where}, {error}")
    return EnvError(f"{where}: {error if isinstance(error, EnvError) else one_line(error)}")


def one_line(error: BaseException) -> str:
    """The type, the message, and the place where the error was raised."""
    if isinstance(error, SyntaxError):  # its message names the place, its traceback does not
        return f"SyntaxError: {joined(error)}"
    said = f"{type(error).__name__}: {joined(error)}".removesuffix(": ")
    place = raised_at(error)
    return f"{said} ({place})" if place else said


def raised_at(error: BaseException) -> str:
    """File, line and function that raised the error; empty if nobody did.

    Of `sys.exit()`: that called it, or the standard library's code that did, such as argparse.
    """
    frames = list(traceback.extract_tb(error.__traceback__))
    if isinstance(error, SystemExit):
        library = os.path.dirname(os.__file__)
        while len(frames) > 1 and _is_in(library, frames[-1].filename):
            frames.pop()
    return f"{frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name}" if frames else ""


def _is_in(library: str, filename: str) -> bool:
    return "site-packages" not in filename and filename.startswith((library, "<frozen"))


def joined(error: BaseException) -> str:
    """The message without its line breaks."""
    return " ".join(str(error).split())
