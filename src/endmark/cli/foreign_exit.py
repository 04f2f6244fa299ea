"""A `sys.exit` in code that is not endmark's."""

from __future__ import annotations

from endmark.envs.errors import raised_at


def exit_of_foreign_code(stop: SystemExit) -> str:
    """What to say about it: where it was called.

    Commands return their status, so what raises SystemExit in them is an environment, an algorithm or a loss.
    """
    wrong = "given code that ends the program, want code that returns"
    return f"SystemExit: {stop.code} ({raised_at(stop)}): {wrong}"
