"""What people look for in a repository is there, and says what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from endmark import __version__
from endmark.algorithms import ALGORITHMS
from endmark.cli import COMMANDS
from endmark.envs import installed

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    README,
    *(ROOT / "docs" / f"{name}.md" for name in ("training", "journeys", "completion", "releasing")),
]
PAGES += [ROOT / name for name in ("SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md")]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    titles = re.findall(r"(?m)^#+ (.+)$", page.read_text("utf-8"))
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short_and_names_every_algorithm() -> None:
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 130
    named = set(re.findall(r"`([\w-]+)`", text.split("## What goes with what")[1].split("\n\n")[1]))
    assert named == set(ALGORITHMS)


def test_commands_and_environments_of_the_readme_exist() -> None:
    text = README.read_text("utf-8")
    commands = re.findall(r"(?m)(?:^    |`)endmark ([a-z-]+)", text)
    assert len(commands) > 8
    assert set(commands) <= set(COMMANDS)
    schemes = {family.scheme for family in installed() if family.scheme}
    named = set(re.findall(r"`((?:smax|jaxmarl|vmas|mamujoco|matrix|memory|pymarl)):", text))
    assert named
    assert named <= schemes


def test_the_version_stands_in_one_place_and_is_repeated_rightly() -> None:
    assert "version" not in re.findall(r"(?m)^(\w+) = ", (ROOT / "pyproject.toml").read_text("utf-8"))
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.findall(r"(?m)^version: (.+)$", citation) == [__version__]
    newest = re.findall(r"(?m)^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"))[0]
    assert newest == __version__


def test_the_workflow_runs_what_decides_for_every_python() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    assert "run: .ci/run" in workflow
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
    assert [f'"3.{minor}"' in workflow for minor in range(9, 15)] == [False, True, True, True, True, False]


@pytest.mark.parametrize("name", ["bug", "false-alarm"])
def test_templates_ask_for_the_doctor(name: str) -> None:
    assert "endmark doctor" in (ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text("utf-8")
