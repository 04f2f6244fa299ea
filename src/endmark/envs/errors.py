"""The one error of this package."""

from __future__ import annotations


class EnvError(ValueError):
    """An environment cannot be made, or broke the protocol. One line that says what to do about it."""
