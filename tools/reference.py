"""The site's reference pages, written from the code: `python -m tools.reference DIRECTORY`.

Commands and options come from the parsers, metrics from the tables that the tests compare with a run,
environments from the table of families, and the library from `__all__` and the docstrings.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tyro
from tools import library

from endmark.algorithms import ALGORITHMS
from endmark.cli import COMMANDS
from endmark.envs import make
from endmark.envs.known import FAMILIES, Family
from endmark.training.meters import METRICS

OF_ALGORITHM = "config.algorithm."
"""How tyro marks the options of an algorithm; those of `TrainConfig` begin with `config.` alone."""
COMMANDS_TEXT = """# Commands

`endmark COMMAND --help` prints the same in a terminal.

| exit status | meaning |
| --- | --- |
| 0 | done |
| 1 | the command found what it looks for, such as a leak, or a cell of a sweep failed |
| 2 | what was given cannot be used; one line says why |
| 3 | a signal stopped a run or a sweep; it can go on |
"""
ALGORITHMS_TEXT = """# Algorithms

`endmark train NAME --env ENV`, with these options beside [those of all](commands.md#endmark-train).
"""
METRICS_TEXT = """# Metrics

The keys of `metrics.jsonl`, an object a line. TensorBoard and the other trackers get the same numbers.
"""
ENVIRONMENTS_TEXT = """# Environments

What `--env` takes. `endmark envs` shows what is installed on a machine.
"""


class Asked(Exception):
    """A command has come to its arguments: the arguments of `endmark.cli.parse.parse`."""

    def __init__(self, command: Any, name: str, words: Sequence[str], options: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.command, self.name, self.words, self.options = command, name, words, options


def asked(name: str, args: Sequence[str]) -> Asked:
    """What `endmark NAME ARGS` would parse. The command does not run; it may refuse what comes first."""
    module = importlib.import_module(COMMANDS[name].module)

    def stop(command: Any, program: str, words: Sequence[str], **options: Any) -> None:
        raise Asked(command, program, words, options)

    try:
        with patch.object(module, "parse", stop):
            module.run([*args])
    except Asked as found:
        return found
    raise ValueError(f"endmark {name}: ended before it parsed its options")


def parser_of(name: str, args: Sequence[str] = ()) -> Any:
    """The parser of a command, which is argparse's or tyro's copy of it."""
    found = asked(name, args)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of tyro: the one way to its parser
        return tyro.extras.get_parser(
            found.command, prog=f"endmark {found.name}", config=[tyro.conf.OmitArgPrefixes]
        )


def cell(text: str) -> str:
    """Text for a cell of a table: one line, and no bar that would end the cell."""
    return re.sub(r"<(?=\w)", "&lt;", " ".join(text.split())).replace("|", "\\|")


def code(text: str) -> str:
    """A word in code; nothing for nothing."""
    return f"`{text}`" if text else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *([cell(text) for text in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def options_of(parser: Any, *, within: str = "", without: str | None = None) -> str:
    """A table of options: those whose place begins with `within`, and not with `without`."""
    rows = []
    for action in parser._actions:
        place = str(action.dest)
        if action.dest == "help" or not place.startswith(within) or (without and place.startswith(without)):
            continue
        text = str(action.help or "")
        default = re.search(r"\((?:default: (.*)|(required|repeatable|optional).*)\)\s*$", text, re.DOTALL)
        words = text[: default.start()] if default else text
        value = "" if default is None else default[2] or code(" ".join(default[1].split())) or "none"
        kind = action.metavar if isinstance(action.metavar, str) else "flag"
        names = action.option_strings or [place.upper()]
        rows.append((", ".join(map(code, names)), code(kind), value, words))
    return table(["option", "type", "default", "meaning"], rows) if rows else "It has no options.\n"


def commands_page() -> str:
    """Every command with its options."""
    parts = [COMMANDS_TEXT]
    for name, command in COMMANDS.items():
        parser = parser_of(name, ["qmix"] if name == "train" else [])
        parts.append(f"## endmark {name}\n\n{command.line}\n")
        if name == "train":
            parts.append("    endmark train ALGORITHM --env ENV [options]\n")
            parts.append("Options of every algorithm; each one's own are on [Algorithms](algorithms.md).\n")
            parts.append(options_of(parser, without=OF_ALGORITHM))
        else:
            parts.append(options_of(parser))
    return "\n".join(parts)


def algorithms_page() -> str:
    """Every algorithm with the options that are not common to all."""
    parts = [ALGORITHMS_TEXT]
    for name, kind in ALGORITHMS.items():
        parser = parser_of("train", [name])
        about = "\n".join(line.strip() for line in (kind.__doc__ or "").splitlines())
        parts += [f"## {name}\n", f"{about}\n", f"Config: `{kind.__module__}.{kind.__name__}`.\n"]
        parts.append(options_of(parser, within=OF_ALGORITHM))
    return "\n".join(parts)


def metrics_page() -> str:
    """Every metric by its key."""
    of: dict[tuple[str, str], list[str]] = {}
    for name, kind in ALGORITHMS.items():
        for key, meaning in kind.METRICS.items():
            of.setdefault((key, meaning), []).append(name)
    mine = [(code(key), meaning) for key, meaning in METRICS.items()]
    learners = [
        (code(key), meaning, ", ".join(map(code, names))) for (key, meaning), names in sorted(of.items())
    ]
    run = table(["key", "meaning"], mine)
    learner = table(["key", "meaning", "of"], learners)
    return "\n".join(
        [METRICS_TEXT, "## Of every run\n", run, "## Of the learner\n\nMeans over its updates.\n", learner]
    )


def family_row(family: Family) -> tuple[str, ...]:
    """A family of environments as cells."""
    examples = ", ".join(map(code, family.examples))
    return family.name, examples, code(family.install), "one program" if family.batched else "one by one"


def environments_page() -> str:
    """Every family of environments, and the forms of an id."""
    rows = [family_row(family) for family in FAMILIES]
    families = table(["family", "ids, such as", "installed by", "several are played"], rows)
    about = library.markdown(inspect.cleandoc(make.__doc__ or ""))
    return "\n".join([ENVIRONMENTS_TEXT, families, "## Forms of an id\n", about])


def pages() -> Iterator[tuple[str, str]]:
    """The name and the text of each page."""
    yield "commands.md", commands_page()
    yield "algorithms.md", algorithms_page()
    yield "metrics.md", metrics_page()
    yield "environments.md", environments_page()
    yield "index.md", index_page()
    for package in library.PACKAGES:
        yield f"{package}.md", library.page(package)


def index_page() -> str:
    """The packages of the library, with a line each."""
    lines = [f"- [{package}]({package}.md): {library.summary(package)}" for package in library.PACKAGES]
    return "\n".join(["# The library\n\nEvery public name, with its docstring.\n", *lines, ""])


def write(directory: Path) -> None:
    """Write all pages, and leave those alone that are the same."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages():
        path = directory / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
