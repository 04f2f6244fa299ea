"""The reference is made from the code, and leaves nothing of it out."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path

import pytest
from tools import library, reference

from endmark.algorithms import ALGORITHMS
from endmark.cli import COMMANDS
from endmark.envs.known import FAMILIES
from endmark.training import TrainConfig
from endmark.training.meters import METRICS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("reference")
    reference.write(directory)
    return {path.stem: path.read_text("utf-8") for path in directory.glob("*.md")}


def sections(page: str) -> dict[str, str]:
    """What stands under each heading of the second level."""
    _, *parts = re.split(r"(?m)^## ", page)
    return {title: text for title, _, text in (part.partition("\n") for part in parts)}


def options(text: str) -> dict[str, list[str]]:
    """The cells of each option's row, by the name of its field."""
    rows = re.findall(r"(?m)^\| `--([\w-]+)`(.*)\|$", text)
    return {name.replace("-", "_"): re.split(r"(?<!\\)\|", cells) for name, cells in rows}


def test_every_command_and_every_option(pages: dict[str, str]) -> None:
    commands = sections(pages["commands"])
    assert [*commands] == [f"endmark {name}" for name in COMMANDS]
    shared = {field.name for field in dataclasses.fields(TrainConfig)} - {"algorithm"}
    assert shared <= options(commands["endmark train"]).keys()
    assert {"filled", "terminated", "file", "episode", "json"} == options(commands["endmark explain"]).keys()
    assert re.search(r"\| `RUN.DIR` \| `PATH` \| required \| What", commands["endmark eval"])


def test_every_setting_of_every_algorithm(pages: dict[str, str]) -> None:
    algorithms = sections(pages["algorithms"])
    assert algorithms.keys() == ALGORITHMS.keys()
    for name, kind in ALGORITHMS.items():
        shown = options(algorithms[name])
        defaults = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        assert shown.keys() == {field.name for field in dataclasses.fields(kind)}, name  # type: ignore[arg-type]
        for option, (_, typed, default, meaning, *_) in shown.items():
            assert typed.strip(), f"{name} --{option}"
            assert len(meaning.strip()) > 5, f"{name} --{option}: no help"
            value = defaults[option]
            if isinstance(value, str | int | float):
                assert f"`{value}`" in default, f"{name} --{option}: {default}"


def test_every_metric_and_every_family(pages: dict[str, str]) -> None:
    keys = set(re.findall(r"(?m)^\| `(\w+)` \|", pages["metrics"]))
    assert keys == METRICS.keys() | {key for kind in ALGORITHMS.values() for key in kind.METRICS}
    assert all(f"| {family.name} |" in pages["environments"] for family in FAMILIES)


@pytest.mark.parametrize("package", library.PACKAGES)
def test_every_public_name(pages: dict[str, str], package: str) -> None:
    names = sections(pages[package])
    module = importlib.import_module(package)
    assert [*names] == list(getattr(module, "__all__", names))
    for name, text in names.items():
        assert hasattr(module, name)
        words = re.sub(r"(?s)```.*?```", "", text)
        assert re.search(r"\w{3}", words), f"{package}.{name}: no docstring"


def test_no_package_with_public_names_is_left_out() -> None:
    package = ROOT / "src" / "endmark"
    with_names = {
        ".".join(("endmark", *path.parent.relative_to(package).parts))
        for path in package.rglob("__init__.py")
        if "\n__all__ = " in path.read_text("utf-8")
    }
    assert with_names - {*library.PACKAGES} == {"endmark.audit.probes"}  # no user's


def test_a_signature_is_as_it_is_written() -> None:
    page = sections(library.page("endmark.targets"))["lambda_return"]
    assert "    lambda_: float,\n) -> Steps\n" in page
    assert "```text\nG_t = r_t" in page


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"(?m)^- \[(.*)\]\((.*)\)$", (folder / "README.md").read_text("utf-8"))
    titles = {path.name: path.read_text("utf-8").splitlines()[0] for path in folder.glob("0*.md")}
    assert {name: f"# {title}" for title, name in listed} == titles
