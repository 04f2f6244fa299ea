"""The public names of a package as a page, read from its source: signatures, fields and docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[1] / "src"
PACKAGES = (
    "endmark.episodes",
    "endmark.targets",
    "endmark.algorithms",
    "endmark.algorithms.omg",
    "endmark.nets",
    "endmark.ops",
    "endmark.policies",
    "endmark.envs",
    "endmark.rollout",
    "endmark.training",
    "endmark.run",
    "endmark.trackers",
    "endmark.report",
    "endmark.audit",
)
"""What has public names: those of `__all__`, and otherwise all with a docstring and without an underscore."""
WIDTH = 96
ARGUMENT = re.compile(r"([a-z_*][\w*]*(?:, [a-z_*][\w*]*)*): ")
"""How a docstring begins to speak of an argument or a field."""


class Named(NamedTuple):
    """What defines a name, and the docstring of it."""

    node: ast.AST
    doc: str


def page(package: str) -> str:
    """The page of a package, or of a module that stands alone."""
    about = markdown(ast.get_docstring(_tree(package)) or "")
    return "\n".join([f"# {package}\n", f"{about}\n", *(_entry(package, name) for name in public(package))])


def summary(package: str) -> str:
    """The first line of its docstring."""
    return (ast.get_docstring(_tree(package)) or "").partition("\n")[0]


def public(module: str) -> list[str]:
    """The public names of a module, in its order."""
    body = _tree(module).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return [name for name, named in _definitions(body) if name[0] != "_" and named.doc]


def find(module: str, name: str) -> Named:
    """Where a name is defined: here, or where this module imports it from."""
    tree = _tree(module)
    for found, named in _definitions(tree.body):
        if found == name:
            return named
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("endmark"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    home = f"{node.module}.{alias.name}"
                    if _file(home).is_file():
                        return Named(_tree(home), ast.get_docstring(_tree(home)) or "")
                    return find(str(node.module), alias.name)
    raise LookupError(f"{module}: given {name}, want a name that it defines or imports from endmark")


def _file(module: str) -> Path:
    path = SOURCE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text("utf-8"))


def _definitions(body: Sequence[ast.stmt]) -> Iterator[tuple[str, Named]]:
    """What is defined here. The docstring of an assignment is the string that follows it."""
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, Named(node, ast.get_docstring(node) or "")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            said = after.value if isinstance(after, ast.Expr) else None
            doc = said.value if isinstance(said, ast.Constant) and isinstance(said.value, str) else ""
            if isinstance(target, ast.Name):
                yield target.id, Named(node, inspect.cleandoc(doc))


def _entry(package: str, name: str) -> str:
    node, doc = find(package, name)
    parts = [f"## {name}\n"]
    if isinstance(node, ast.FunctionDef):
        parts += [_fence(_signature(node)), markdown(doc)]
    elif isinstance(node, ast.ClassDef):
        bases = [
            base for base in map(ast.unparse, node.bases) if not base.startswith(("Protocol", "Generic"))
        ]
        protocol = any("Protocol" in ast.unparse(base) for base in node.bases)
        parts.append(_fence(f"{'protocol' if protocol else 'class'} {_construct(node, name, bases)}"))
        parts += [markdown(doc), *_members(node)]
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        text = ast.unparse(node)
        parts += [_fence(text if len(text) <= WIDTH else f"{text[: WIDTH - 4]} ..."), markdown(doc)]
    else:
        parts.append(markdown(doc))
    return "\n".join(part for part in parts if part) + "\n"


def _construct(node: ast.ClassDef, name: str, bases: Sequence[str]) -> str:
    """A class as it is called, if it says so by `__init__`."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _call(name, _arguments(item))
    return f"{name}({', '.join(bases)})" if bases else name


def _members(node: ast.ClassDef) -> Iterator[str]:
    """Fields with their sentences, and public methods."""
    fields = []
    for name, (member, doc) in _definitions(node.body):
        if isinstance(member, ast.AnnAssign) and name[0] != "_":
            fields.append(
                f"- `{ast.unparse(member)}`" + (f": {markdown(' '.join(doc.split()))}" if doc else "")
            )
    if fields:
        yield "\n".join(fields) + "\n"
    for name, (member, doc) in _definitions(node.body):
        if isinstance(member, ast.FunctionDef) and doc and (name[0] != "_" or name == "__call__"):
            known_as = {ast.unparse(decorator) for decorator in member.decorator_list}
            shown = (
                _result(name, member) if known_as & {"property", "cached_property"} else _signature(member)
            )
            yield f"### {node.name}.{name}\n\n{_fence(shown)}\n{markdown(doc)}"


def _result(name: str, node: ast.FunctionDef) -> str:
    return f"{name}: {ast.unparse(node.returns)}" if node.returns else name


def _signature(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return _call(node.name, _arguments(node), returns)


def _arguments(node: ast.FunctionDef) -> list[str]:
    """One text for each argument, without `self`, and with / and * as they stand."""
    every = node.args
    positional = [*every.posonlyargs, *every.args]
    defaults = [None] * (len(positional) - len(every.defaults)) + every.defaults
    parts = [_argument(*pair) for pair in zip(positional, defaults, strict=True)]
    if every.posonlyargs:
        parts.insert(len(every.posonlyargs), "/")
    if every.vararg or every.kwonlyargs:
        parts.append(f"*{ast.unparse(every.vararg)}" if every.vararg else "*")
    parts += [_argument(*pair) for pair in zip(every.kwonlyargs, every.kw_defaults, strict=True)]
    if every.kwarg:
        parts.append(f"**{ast.unparse(every.kwarg)}")
    return parts[1:] if parts[:1] in (["self"], ["cls"]) else parts


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default is not None else "")


def _call(name: str, arguments: Sequence[str], returns: str = "") -> str:
    line = f"{name}({', '.join(arguments)}){returns}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){returns}"])


def _fence(text: str, language: str = "python") -> str:
    return f"```{language}\n{text}\n```\n"


def markdown(doc: str) -> str:
    """A docstring as Markdown: indented paragraphs are code, and lines on arguments a list."""
    parts = []
    for paragraph in re.split(r"\n{2,}", doc.strip("\n")):
        lines = paragraph.splitlines()
        if lines and all(line.startswith("    ") for line in lines):
            parts.append(_fence(textwrap.dedent(paragraph), "text"))
            continue
        shown = [
            f"- `{match[1]}`: {line[match.end() :]}"
            if (match := ARGUMENT.match(line))
            else re.sub(r"^    (?=`[^`]+`: )", "  - ", line)
            for line in lines
        ]
        starts = [i for i, line in enumerate(shown) if line.startswith("- `")]
        if starts and starts[0] > 0:
            shown.insert(starts[0], "")
        parts.append(re.sub(r"<(?=[\w/!])", "&lt;", "\n".join(shown)) + "\n")
    return "\n".join(parts)
