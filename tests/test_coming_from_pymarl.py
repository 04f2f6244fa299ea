"""The options, commands, defaults, files and layers that the pages for newcomers name are there."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
from pathlib import Path

import pytest
import tyro

from endmark.algorithms import ALGORITHMS
from endmark.cli.eval import EvalCommand
from endmark.cli.train import TrainCommand
from endmark.training import TrainConfig

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "endmark"
PYMARL, MAP = ROOT / "docs" / "coming-from-pymarl.md", ROOT / "docs" / "map.md"
FOREIGN = re.compile(r".*python src/main\.py.*|.*`main\.py`.*")  # lines with options of EPyMARL's program


def field_names(*classes: object) -> set[str]:
    return {field.name for kind in classes for field in dataclasses.fields(kind)}  # type: ignore[arg-type]


def options_in(text: str) -> set[str]:
    """Every --option, as a field's name; `--no-` is tyro's way to say False."""
    own = "\n".join(line for line in text.splitlines() if not FOREIGN.fullmatch(line))
    found = re.findall(r"(?<![\w-])--(?:no-)?([a-z][a-z0-9-]*)", own)
    return {option.replace("-", "_") for option in found}


def commands_in(text: str) -> list[list[str]]:
    """The words of every `endmark train` in a block, joined where a line goes on."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [shlex.split(line) for line in re.findall(r"(?m)^(endmark train .*)$", joined)]


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def paths_in(text: str) -> list[str]:
    """What stands in backquotes and looks like a file or a folder."""
    return re.findall(r"`([\w./-]+(?:\.py|\.toml|\.md|/))`", text)


def missing(paths: list[str], root: Path) -> list[str]:
    return [path for path in paths if not (root / path).exists()]


def test_every_option_exists() -> None:
    options = options_in(PYMARL.read_text("utf-8"))
    known = field_names(TrainConfig, TrainCommand, EvalCommand, *ALGORITHMS.values()) | {"help"}
    assert len(options) > 40
    assert options <= known, sorted(options - known)


def test_an_option_that_does_not_exist_is_found() -> None:
    text = "`--epsilon-finish` and --no-double-q\n    python src/main.py --config=qmix\n"
    assert options_in(text) == {"epsilon_finish", "double_q"}


@pytest.mark.parametrize("words", commands_in(PYMARL.read_text("utf-8")), ids=lambda words: words[2])
def test_every_training_command_is_one(words: list[str]) -> None:
    name = words[2]
    kind = ALGORITHMS[name]
    command = tyro.cli(
        TrainCommand[kind],  # type: ignore[valid-type]
        args=words[3:],
        config=[tyro.conf.OmitArgPrefixes],
    )
    assert isinstance(command.config.algorithm, kind)


def test_there_are_commands() -> None:
    assert [words[2] for words in commands_in(PYMARL.read_text("utf-8"))] == ["qmix", "qmix", "qmix", "mappo"]


def test_the_defaults_that_differ() -> None:
    rows = re.findall(
        r"(?m)^\| (\w+) `--([a-z-]+)` \| (\S+) \| (\S+) \|$",
        section(PYMARL.read_text("utf-8"), "Defaults that differ"),
    )
    assert len(rows) > 10
    for algorithm, option, ours, theirs in rows:
        default = getattr(ALGORITHMS[algorithm](), option.replace("-", "_"))
        said = ours if isinstance(default, str) else ast.literal_eval(ours)
        assert said == default, f"{algorithm} --{option}"
        assert ours != theirs, f"{algorithm} --{option} does not differ any more"


def test_every_part_is_where_the_page_says() -> None:
    rows = section(PYMARL.read_text("utf-8"), "The parts").split("What is logged")[0].splitlines()
    paths = [path for row in rows if row.startswith("| ") for path in paths_in(row.split(" | ")[-1])]
    assert len(paths) > 30
    assert missing(paths, PACKAGE) == []


def test_every_path_of_the_map_exists() -> None:
    paths = paths_in(MAP.read_text("utf-8"))
    assert len(paths) > 30
    assert missing(paths, ROOT) == []


def test_a_path_that_does_not_exist_is_found() -> None:
    assert missing(paths_in("`nets/` and `nets/nowhere.py`"), PACKAGE) == ["nets/nowhere.py"]


def test_the_map_leaves_nothing_of_the_package_out() -> None:
    folders = {f"src/endmark/{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    modules = {f"src/endmark/{path.name}" for path in PACKAGE.glob("*.py") if path.name[0] != "_"}
    assert folders | modules <= set(paths_in(section(MAP.read_text("utf-8"), "Folders")))


def test_the_rules_that_are_narrower_than_the_layers() -> None:
    for folder, others in [("algorithms", "envs|rollout"), ("audit", r"(?!episodes\b|audit\b)\w+")]:
        sources = {path: path.read_text("utf-8") for path in (PACKAGE / folder).glob("*.py")}
        imports = re.compile(rf"(?m)^\s*(?:from|import) endmark\.(?:{others})\b")
        assert [path.name for path, source in sources.items() if imports.search(source)] == []


def test_the_map_has_the_import_contract() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    layers = re.findall(r'"([^"]+)"', pyproject.split("\nlayers = [")[1].split("]")[0])
    shown = section(MAP.read_text("utf-8"), "Who may import whom")
    assert re.search(r"(?s)```text\n(.*?)\n```", shown)[1].splitlines() == layers  # type: ignore[index]


@pytest.mark.parametrize("page", [PYMARL, MAP], ids=["pymarl", "map"])
def test_links_lead_somewhere(page: Path) -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\[[^\]]*\]\(([^)]+)\)", page.read_text("utf-8"))]
    assert links
    assert all((page.parent / link).exists() for link in links)
