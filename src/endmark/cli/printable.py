"""Text from outside, such as names of files and messages of foreign code, for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""The text with characters that are not seen written as escapes, such as `\x1b`, which moves cursors.

    Spaces stay, and the letters of every language.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
