"""Every block of code in the README and the documentation is what it says: `support.pages` has the rules."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
import runpy
import shlex
import subprocess
import sys
import types
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import endmark.cli.train
from endmark.algorithms import QMIXConfig
from endmark.algorithms.named import config_class
from endmark.cli import COMMANDS, main
from endmark.cli.parse import parse
from endmark.experiments.grid import read_grid
from endmark.training import TrainConfig
from support.pages import Block, Command, blocks_of, commands_of, difference
from tools.reference import asked

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name not in ("reference", "project")),
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
BEFORE = {name: MASKS for name in ("README.md", "what-does-that-line-do.md", "这一步是干什么的.md")}
"""What the blocks of a page take for granted."""
ONE_PROGRAM = {"an-algorithm-from-zero.md"}
"""Pages whose Python blocks are parts of one program, and run together."""


class Folder:
    """Where a page's commands run, one after the other: a folder, the names of its Python, the last exit status."""

    def __init__(self, name: str) -> None:
        self.module = types.ModuleType("page")
        self.status = 0
        exec(BEFORE.get(name, ""), self.module.__dict__)

    def python(self, source: str, name: str) -> str:
        """Run a block; what it prints."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, name, "exec"), self.module.__dict__)
        return printed.getvalue()

    def command(self, text: str) -> str:
        """Run a command in this process; what it prints, errors included."""
        if text == "echo $?":
            status, self.status = self.status, 0
            return f"{status}\n"
        assert self.status == 0, f"the command before this one ended with status {self.status}"
        program, *words = shlex.split(text, comments=True)
        if program == "cat":
            return "".join(Path(word).read_text("utf-8") for word in words)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                if program == "endmark":
                    main(words)
                elif program == "python":
                    runpy.run_path(words[0], run_name="__main__")
                else:
                    raise AssertionError(f"{program}: want endmark, python, cat or `echo $?` in a console")
            except SystemExit as stop:
                self.status = int(stop.code or 0)
        return printed.getvalue()


def check_command(text: str) -> None:
    """A command that does not run: its program, command, options and their values are known. ValueError if not."""
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
    """The commands of a block that are not run, with the first value of each loop in place of its variable."""
    if block.language == "console" and block.mark("not run") is None:
        return []
    values = dict(re.findall(r"for (\w+) in (\S+)", block.text))
    found = []
    for command in commands_of(block):
        text = re.sub(r"\$(\w+)", lambda match: values.get(match[1], match[0]), command.text)
        start = re.search(r"(?:^|\bsrun |\bthen |^\$ )\s*((?:endmark|make|python) .*)", text)
        if start:
            found.append(Command(command.line, start[1]))
    return found


def check(page: str, name: str) -> None:
    """Check and run all blocks of a page in the current folder. AssertionError with the line of the block that fails."""
    folder = Folder(name)
    sys.modules["page"] = folder.module
    printed, numbers_differ, program = "", False, ""
    for block in blocks_of(page):
        where = f"{name}, line {block.line}"
        not_run = block.mark("not run") is not None
        try:
            if file := block.mark("file"):
                Path(file).write_text(block.text + "\n", encoding="utf-8")
            if block.language in SHELLS:
                for command in lines_to_check(block):
                    where = f"{name}, line {command.line}"
                    check_command(command.text)
            if block.language == "bash":
                subprocess.run(["bash", "-n"], input=block.text, text=True, check=True, capture_output=True)
            if block.language == "toml":
                grid = Path("grid-of-the-page.toml")
                grid.write_text(block.text, encoding="utf-8")
                read_grid(grid)
            if block.language == "console" and not not_run:
                for command in commands_of(block):
                    where = f"{name}, line {command.line}"
                    now = folder.command(command.text)
                    apart = block.mark("numbers differ") is not None
                    assert (found := difference(command.printed, now, numbers_differ=apart)) is None, found
            if block.language == "python" and name in ONE_PROGRAM:
                program += block.text + "\n"
            elif block.language == "python" and (not_run or file):
                check_imports(block.text)
            elif block.language == "python":
                folder.python(block.mark("before") or "", "<before>")
                printed = folder.python(block.text, f"<{where}>")
                numbers_differ = block.mark("numbers differ") is not None
            if block.language == "text" and block.after and printed:
                assert (found := difference(block.text, printed, numbers_differ=numbers_differ)) is None, found
            if block.language != "python" or not_run or file:
                printed = ""
        except Exception as error:
            raise AssertionError(f"{where}: {error}") from error
    if program:
        folder.python(program, f"<{name}>")


@pytest.mark.usefixtures("_names_of_a_reader")
@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_blocks_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    before = set(sys.modules)
    try:
        check(page.read_text("utf-8"), page.name)
    finally:  # a reader's files have names that other pages use too
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
                del sys.modules[name]


def test_pages_have_fences() -> None:
    """An indented block says nothing about its language. (The README and the page for contributors may have some.)"""
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
        ("```console\n$ endmark explain --filled 11 --terminated 00 --json\n{}\n```", "line 2: the page says"),
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
        check(page, "page.md")


def test_what_is_printed() -> None:
    assert difference("a\n...\nd", "a \nb\nc\nd\n") is None
    assert difference("a\n...", "a\n") is None
    assert difference("a 1.25 ── b", "a 3  b") is not None
    assert difference("a  1.25 b", "a 113 b", numbers_differ=True) is None
    assert difference("a 1 b", "a 113 c", numbers_differ=True) is not None
