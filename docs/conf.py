"""The documentation site, by Sphinx: `make docs`. Pages are plain Markdown, which a forge shows as well.

What is the site's alone stands here: the navigation, and where links out of this folder lead.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAVIGATION = {
    "Tutorials": [
        "tutorials/first-run",
        "tutorials/your-environment",
        "an-algorithm-from-zero",
        "tutorials/partners",
        "tutorials/sweep-and-report",
        "tutorials/on-a-cluster",
        "tutorials/does-my-loss-leak",
    ],
    "The masks explained": ["what-does-that-line-do", "这一步是干什么的"],
    "Guides": ["audit-your-learner", "sweep", "compare", "scale", "omg", "coming-from-pymarl", "results"],
    "Reference": [
        "reference/commands",
        "reference/algorithms",
        "reference/environments",
        "reference/metrics",
        "reference/index",
    ],
    "The house": ["conventions", "map", "decisions/README", "project/contributing", "project/changelog"],
}
"""Captions and pages, in order. A page of this folder that stands nowhere here goes to the guides."""
OUTSIDE = {"../CONTRIBUTING.md": "project/contributing.md", "../CHANGELOG.md": "project/changelog.md"}
"""Pages outside this folder, and where `make docs` puts their copies. The home page stands for the README."""

project = "endmark"
author = "the authors of endmark"
extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["pictures"]
nitpicky = True
myst_heading_anchors = 3
html_theme = "furo"
html_title = "endmark"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = html_show_sourcelink = False
html_show_search_summary = False  # it fetches pages, which a browser refuses to a file:// page
pygments_style, pygments_dark_style = "friendly", "github-dark"


def tree(caption: str, pages: list[str]) -> str:
    """An entry of the navigation."""
    lines = "\n".join(pages)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"


def navigation() -> str:
    """The whole navigation, to stand at the end of the home page."""
    named = {page for pages in NAVIGATION.values() for page in pages}
    others = sorted(path.stem for path in HERE.glob("*.md") if path.stem not in {*named, "index"})
    places = {**NAVIGATION, "Guides": NAVIGATION["Guides"] + others}
    return "".join(tree(caption, pages) for caption, pages in places.items())


def prepare(_: Any, name: str, source: list[str]) -> None:
    """Give a page what the site needs and a forge does not: the navigation, and links to copies."""
    up = "../" * name.count("/")
    text = source[0]
    for there, here in OUTSIDE.items():
        text = text.replace(f"]({up}{there}", f"]({up}{here}")
    text = text.replace(f"]({up}../README.md", f"]({up}index.md")
    text = text.replace("](decisions)", "](decisions/README.md)")
    if name.startswith("project/"):  # written for the folder above this one
        text = re.sub(r"\]\(docs/", "](../", text).replace("](../decisions)", "](../decisions/README.md)")
    if name == "index":
        text += navigation()
    if name == "decisions/README":
        text += tree("Decisions", sorted(f"{path.stem}" for path in (HERE / "decisions").glob("0*.md")))
    if name == "reference/index":
        text += tree("Library", sorted(path.stem for path in (HERE / "reference").glob("endmark.*.md")))
    source[0] = text


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", prepare)
