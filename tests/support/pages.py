"""Blocks of code on a page of Markdown, and what each of them is for.

| block | meaning |
|---|---|
| `python` | runs, one namespace a page; a `text` block that follows it at once is what it prints |
| `console` | lines after `$ ` run in the page's folder, and what follows each is what it prints |
| `sh`, `bash` | is not run: commands and options exist |
| `toml` | can be read |
| `text` and others | prose |

Comments before a block say more, and no reader sees them:

    <!-- file: NAME -->       it is a file of that name, which later blocks may use
    <!-- not run: WHY -->     it is read as far as that goes without running it
    <!-- before: CODE -->     what a Python block takes for granted
    <!-- numbers differ -->   other machines print other numbers

A line `...` in printed text stands for any lines. An indented block that begins with a command is `sh`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

PROGRAMS = re.compile(r"(endmark|make|pip|python|cd|for) ")
COMMENT = re.compile(r"<!-- (.*?) -->")


class Block(NamedTuple):
    """line: of the page, from 1. marks: the comments before it. after: it follows another block at once."""

    line: int
    language: str
    text: str
    marks: tuple[str, ...] = ()
    after: bool = False

    def mark(self, name: str) -> str | None:
        """What a comment says after this name, or None."""
        for mark in self.marks:
            if mark == name or mark.startswith(f"{name}: "):
                return mark.removeprefix(name).removeprefix(": ")
        return None


class Command(NamedTuple):
    """A command of a shell block, on one line; printed: the text below it."""

    line: int
    text: str
    printed: str = ""


def blocks_of(page: str) -> Iterator[Block]:
    """The blocks of a page, in order. ValueError for a fence that is never closed."""
    lines = page.splitlines()
    marks: tuple[str, ...] = ()
    i, after = 0, False
    while i < len(lines):
        line = lines[i]
        if opened := re.match(r"(```+)(\w*)", line):
            end = next((j for j in range(i + 1, len(lines)) if lines[j].rstrip() == opened[1]), None)
            if end is None:
                raise ValueError(f"line {i + 1}: given a block without an end")
            yield Block(i + 1, opened[2], "\n".join(lines[i + 1 : end]), marks, after)
            i, marks, after = end + 1, (), True
            continue
        if line.startswith("    ") and (i == 0 or not lines[i - 1].strip()):
            body = [*itertools.takewhile(lambda text: text.startswith("    "), lines[i:])]
            text = "\n".join(part[4:] for part in body)
            yield Block(i + 1, "sh" if PROGRAMS.match(text) else "text", text, marks, after)
            i, marks, after = i + len(body), (), True
            continue
        if comment := COMMENT.fullmatch(line.strip()):
            marks += (comment[1],)
        elif line.strip():
            marks, after = (), False
        i += 1
    return


def commands_of(block: Block) -> list[Command]:
    """The commands of a shell block; of a `console` block with what they print."""
    lines = block.text.splitlines()
    found: list[Command] = []
    i = 0
    while i < len(lines):
        start, text = i, lines[i]
        while text.endswith("\\") and i + 1 < len(lines):
            i += 1
            text = text[:-1].rstrip() + " " + lines[i].strip()
        i += 1
        if block.language != "console":
            found.append(Command(block.line + 1 + start, text.strip()))
        elif text.startswith("$ "):
            found.append(Command(block.line + 1 + start, text[2:]))
        elif found:
            found[-1] = found[-1]._replace(printed=f"{found[-1].printed}{text}\n")
        else:
            raise ValueError(f"line {block.line + 1}: given '{text}', want a command after `$ `")
    return found


def difference(want: str, printed: str, *, numbers_differ: bool = False) -> str | None:
    """Where a text is not the one that was printed; None where it is. Spaces at a line's end do not count."""
    wanted, given = (_lines(text, numbers_differ) for text in (want, printed))
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(f"{line}\n") for line in wanted)
    if re.fullmatch(pattern, "".join(f"{line}\n" for line in given)):
        return None
    return "\n".join(["the page says:", *wanted, "printed was:", *given])


def _lines(text: str, numbers_differ: bool) -> list[str]:
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    if numbers_differ:
        lines = [re.sub(r"\d+(?:[.,]\d+)*", "0", re.sub(r"[ ─]+", " ", line)) for line in lines]
    return [line for line in lines if line.strip()]
