"""`endmark audit --static PATH`: hints from the source alone, for code that is not run."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from endmark.audit.patterns import PATTERNS, Scope
from endmark.audit.view import AuditError

LARGEST = 1_000_000
"""Bytes; larger files are left alone."""

PASSED_OVER = ("__pycache__", "node_modules", "site-packages", "build", "dist")
"""Folders that hold no source of the tree's own; those whose name begins with a dot are passed over, too."""

NO_FINDINGS = "A hint is a question, not a finding: audit the loss to know."


@dataclass(frozen=True)
class Hint:
    """A suspicious line. `line` counts from 1; `code` is its text."""

    path: str
    line: int
    pattern: str
    code: str
    question: str
    probe: str


@dataclass(frozen=True)
class Hints:
    """The hints of a tree, and what was not read: `path: reason` each."""

    hints: tuple[Hint, ...]
    n_files: int
    unreadable: tuple[str, ...] = ()
    left_alone: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "hints": [asdict(hint) for hint in self.hints],
            "files": self.n_files,
            "unreadable": list(self.unreadable),
            "left_alone": list(self.left_alone),
        }


def scan(path: Path) -> Hints:
    """Read the Python files of a folder, or one file, and match the patterns of `PATTERNS`.

    Nothing is imported or run, and no link in the folder is followed. Raises AuditError if nothing is there.
    """
    if not path.exists():
        raise AuditError(f"'{path}': no such file or directory")
    hints: list[Hint] = []
    unreadable, left_alone, n_files = [], [], 0
    for file in [path] if path.is_file() else _files(path):
        name = str(file)
        if file != path and file.is_symlink():
            left_alone.append(f"{name}: a link")
            continue
        try:
            if (size := file.stat().st_size) > LARGEST:
                left_alone.append(f"{name}: {size} bytes, more than {LARGEST}")
                continue
            source = file.read_bytes()
            hints += hints_in(name, source)
            n_files += 1
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error).partition("\n")[0]
            at = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            unreadable.append(f"{name}: cannot be parsed: {reason}{at}")
    return Hints(tuple(hints), n_files, tuple(unreadable), tuple(left_alone))


def hints_in(name: str, source: bytes) -> list[Hint]:
    """The hints of one file, by line. Raises SyntaxError or ValueError if it is not Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape in somebody else's text
        tree = ast.parse(source)
    lines = source.decode(errors="replace").splitlines()
    found: dict[tuple[int, str], Hint] = {}
    for scope in scopes(tree):
        for pattern in PATTERNS:
            for node in pattern.find(scope):
                line: int = node.lineno  # type: ignore[attr-defined]
                code = lines[line - 1].strip()[:120] if line <= len(lines) else ""
                hint = Hint(name, line, pattern.name, code, pattern.question, pattern.probe)
                found.setdefault((line, pattern.name), hint)
    return [found[key] for key in sorted(found)]


def scopes(tree: ast.Module) -> Iterator[Scope]:
    """The nodes of the module, and those of each function, without those of the functions inside."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        root, own = waiting.pop(), list[ast.AST]()
        inside = list(ast.iter_child_nodes(root))
        while inside:
            node = inside.pop()
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                waiting.append(node)
            else:
                own.append(node)
                inside += ast.iter_child_nodes(node)
        yield own


def _files(folder: Path) -> Iterator[Path]:
    """The Python files below the folder, and the links to folders, in order of their names."""
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in PASSED_OVER)
        yield from (Path(where) / f for f in folders if (Path(where) / f).is_symlink())
        for name in sorted(names):
            if name.endswith(".py"):
                yield Path(where) / name


def hints_text(found: Hints) -> RenderableType:
    """The hints for the terminal."""
    parts: list[RenderableType] = []
    for hint in found.hints:
        parts.append(
            Text.assemble(("hint ", "yellow"), (f"[{hint.pattern}] ", "bold"), f"{hint.path}:{hint.line}")
        )
        parts.append(Text(f"  {hint.code}"))
        parts.append(Text(f"  ask: {hint.question} The probe `{hint.probe}` would tell.", style="dim"))
    parts += [Text(line, style="yellow") for line in found.unreadable]
    parts += [Text(f"left alone: {line}", style="dim") for line in found.left_alone]
    n = len(found.hints)
    files = f"{found.n_files} file{'s' * (found.n_files != 1)}"
    parts.append(Text(f"{n} hint{'s' * (n != 1)} in {files}. {NO_FINDINGS}"))
    return Group(*parts)
