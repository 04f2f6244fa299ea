"""Every block of code in the README and the documentation is what it says: `support.pages` has the rules."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from tools.reference import asked

import endmark.cli.train
from endmark.algorithms import QMIXConfig
from endmark.algorithms.named import config_class
from endmark.cli import COMMANDS, main
from endmark.cli.parse import parse
from endmark.experiments.grid import read_grid
from endmark.training import TrainConfig
from support.pages import Block, Command, blocks_of, commands_of, difference

ROOT = Path(__file__).parents[1]
MADE = ("reference", "project")
"""Folders of pages that `make docs` writes."""
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name not in MADE),
]
SHELLS = ("sh", "bash", "console")
MASKS = """
import numpy as np, torch
from endmark.audit import hard_batch
from endmark.episodes import EpisodeSpec
padded = batch = hard_batch(EpisodeSpec.of(n_agents=2, n_actions=3, episode_limit=6, obs_shape=(4,)), seed=0)
tensors, filled, terminated = batch, batch["filled"], batch["terminated"]
td_error = torch.zeros(filled[:, 1:].shape)
"""
BEFORE = dict.fromkeys(("training.md", "what-does-that-line-do.md", "这一步是干什么的.md"), MASKS)
"""What the blocks of a page take for granted."""
ONE_PROGRAM = {"an-algorithm-from-zero.md"}
"""Pages whose Python blocks are parts of one program, and run together."""


class Reader:
    """Somebody who does what a page says, in the current folder. line: where they are."""

    def __init__(self, name: str) -> None:
        self.name, self.line = name, 0
        self.status = 0  # of the last command
        self.printed: str | None = None  # by the block before, if that is Python
        self.program = ""
        self.module = sys.modules["page"] = types.ModuleType("page")
        exec(BEFORE.get(name, ""), self.module.__dict__)

    def read(self, page: str) -> None:
        """Check and run all blocks. AssertionError, with the line, for the first that is wrong."""
        for block in blocks_of(page):
            self.line = block.line
            try:
                self.block(block)
            except Exception as error:
                raise AssertionError(f"{self.name}, line {self.line}: {error}") from error
        if self.program:
            self.python(self.program)

    def block(self, block: Block) -> None:
        """Check or run a block, as its language and its comments say."""
        before, self.printed = self.printed, None
        runs = block.mark("not run") is None and block.mark("file") is None
        apart = block.mark("numbers differ") is not None
        if file := block.mark("file"):
            Path(file).write_text(block.text + "\n", encoding="utf-8")
        if block.language == "console" and runs:
            for command in commands_of(block):
                self.line = command.line
                compare(command.printed, self.command(command.text), apart)
        elif block.language in SHELLS:
            if block.language == "bash":
                subprocess.run(["bash", "-n"], input=block.text, text=True, check=True, capture_output=True)
            for command in lines_to_check(block):
                self.line = command.line
                check_command(command.text)
        elif block.language == "toml":
            Path("page.toml").write_text(block.text, encoding="utf-8")
            read_grid(Path("page.toml"))
        elif block.language == "python" and self.name in ONE_PROGRAM:
            self.program += block.text + "\n"
        elif block.language == "python" and runs:
            self.python(block.mark("before") or "")
            self.printed = self.python(block.text)
        elif block.language == "python":
            check_imports(block.text)
        elif block.language == "text" and block.after and before is not None:
            compare(block.text, before, apart)

    def python(self, source: str) -> str:
        """Run a block; what it prints."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, f"<{self.name}, line {self.line}>", "exec"), self.module.__dict__)
        return printed.getvalue()

    def command(self, text: str) -> str:
        """Run a command in this process; what it prints, errors included."""
        if text == "echo $?":
            status, self.status = self.status, 0
            return f"{status}\n"
        assert self.status == 0, f"the command before this one ended with status {self.status}"
        program, *words = shlex.split(text, comments=True)
        assert program == "endmark", f"given {program}, want endmark or `echo $?` in a console that runs"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                main(words)
            except SystemExit as stop:
                self.status = int(stop.code or 0)
        return printed.getvalue()


def compare(want: str, printed: str, apart: bool) -> None:
    """AssertionError, with both texts, where the page shows another output than there is."""
    found = difference(want, printed, numbers_differ=apart)
    assert found is None, found


def check_command(text: str) -> None:
    """A command that does not run: program, command, options and values are known. ValueError if not."""
    words = shlex.split(text, comments=True)
    if not words:
        return
    if words[0] == "make":
        targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"))
        if unknown := [word for word in words[1:] if "=" not in word and word not in targets]:
            raise ValueError(f"make: no target {unknown[0]}")
    elif words[0] == "python" and words[1].endswith(".py") and "src/main.py" not in words:
        if not (ROOT / words[1]).is_file():
            raise ValueError(f"python: no file {words[1]}")
    elif words[0] == "endmark" and words[1:2] not in ([], ["--version"], ["--help"]):
        if words[1] not in COMMANDS:
            raise ValueError(f"endmark: no command {words[1]}")
        found = asked(words[1], words[2:])
        parse(found.command, found.name, found.words, **found.options)


@pytest.fixture
def _names_of_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and algorithms that a page makes up are there."""
    config: TrainConfig[Any] = TrainConfig(QMIXConfig(), "CartPole-v1")
    monkeypatch.setattr(endmark.cli.train, "load_config", lambda _: config)
    monkeypatch.setattr(
        endmark.cli.train, "config_class", lambda name: QMIXConfig if ":" in name else config_class(name)
    )


def check_imports(source: str) -> None:
    """Python that does not run: it can be compiled, and what it imports from endmark is there."""
    for node in ast.walk(ast.parse(dedent(source))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("endmark"):
            module = importlib.import_module(str(node.module))
            if missing := [alias.name for alias in node.names if not hasattr(module, alias.name)]:
                raise ValueError(f"{node.module}: no {missing[0]}")


def lines_to_check(block: Block) -> list[Command]:
    """The commands of a block, with the first value of each loop in place of its variable."""
    values = dict(re.findall(r"for (\w+) in (\S+)", block.text))
    found = []
    for command in commands_of(block):
        text = re.sub(r"\$(\w+)", lambda match: values.get(match[1], match[0]), command.text)
        start = re.search(r"(?:^|\bsrun |\bthen |^\$ )\s*((?:endmark|make|python) .*)", text)
        if start:
            found.append(Command(command.line, start[1]))
    return found


@pytest.mark.usefixtures("_names_of_a_reader")
@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_blocks_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    before = set(sys.modules)
    try:
        Reader(page.name).read(page.read_text("utf-8"))
    finally:  # a reader's files have names that other pages use too
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
                del sys.modules[name]


def test_pages_have_fences() -> None:
    """An indented block says nothing about its language. The README and CONTRIBUTING may have some."""
    for page in PAGES[2:]:
        fenced = re.sub(r"(?ms)^(```+).*?^\1$", "", page.read_text("utf-8"))
        assert not re.search(r"\n\n    [^ ]", fenced), page.name


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("```sh\nendmark train qmix --env x --epsilon-finish 1\n```", "line 2: .*epsilon-finish"),
        ("```sh\nendmark fly\n```", "line 2: endmark: no command fly"),
        ("```sh\nmake coffee\n```", "no target coffee"),
        ("    endmark train qmix --env x \\\n      --gama 1\n", "--gama"),
        ("```sh\nendmark sweep qmix --jobs many\n```", "line 2: .*jobs"),
        ("```python\nassert 1 == 2\n```", "line 1"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```", "line 5: the page says"),
        ("<!-- not run: no game -->\n\n```python\nfrom endmark.episodes import mask\n```", "no mask"),
        (
            "```console\n$ endmark explain --filled 11 --terminated 00 --json\n{}\n```",
            "line 2: the page says",
        ),
        ("```console\n$ endmark explain --filled 12\n...\n$ endmark --version\n...\n```", "status 2"),
        ("```bash\nif true; then\n```", "bash"),
        ("```toml\nalgorithms = 3\n```", "algorithms"),
        ("```python\n1\n", "without an end"),
    ],
)
@pytest.mark.usefixtures("_names_of_a_reader")
def test_a_broken_block_is_found(
    page: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, ValueError), match=message):
        Reader("page.md").read(page)


def test_what_is_printed() -> None:
    assert difference("a\n...\nd", "a \nb\nc\nd\n") is None
    assert difference("a\n...", "a\n") is None
    assert difference("a 1.25 ── b", "a 3  b") is not None
    assert difference("a  1.25 b", "a 113 b", numbers_differ=True) is None
    assert difference("a 1 b", "a 113 c", numbers_differ=True) is not None
