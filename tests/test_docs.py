"""What the documentation says about masks is what the code computes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from endmark.episodes import shift_mask, step_mask
from endmark.inspect.explain import explain_bits
from support.helpers import bits

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "what-does-that-line-do.md", DOCS / "这一步是干什么的.md"]


@pytest.mark.parametrize("page", PAGES, ids=["English", "Chinese"])
def test_the_worked_table(page: Path) -> None:
    row = r"\| `([01]{7})` \| `([01]{7})` \| `([01]{6})` \| `([01]{6})` \|"
    rows = re.findall(row, page.read_text("utf-8"))
    assert len(rows) == 7
    for filled, terminated, shift, exact in rows:
        flags = bits(filled), bits(terminated)
        assert torch.equal(shift_mask(*flags), bits(shift, dtype=torch.float32))
        assert torch.equal(step_mask(*flags), bits(exact, dtype=torch.bool))


@pytest.mark.parametrize("page", PAGES, ids=["English", "Chinese"])
def test_the_lines_one_at_a_time(page: Path) -> None:
    shown = re.findall(r"\(B, T(?:-1)?, 1\) \| `([01]+)` \|", page.read_text("utf-8"))
    ended, first_mask, before, keep, product, mask = (
        values.values for line in explain_bits("1111100", "0001000").lines for values in line.tensors
    )
    of_page = [[int(bit) for bit in row] for row in shown]
    assert of_page == [ended, first_mask, [1 - bit for bit in keep], before, product, [*mask]]


def code_of(page: Path) -> list[str]:
    """The lines of code on a page, fenced or indented, without comments and the drawing of frames."""
    lines, fenced = [], False
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif (fenced or line.startswith("    ")) and "0 ----> 1" not in line and "3 (final)" not in line:
            lines.append(re.sub(r" *#.*", "", line))
    return [line for line in lines if line.isascii()]


def test_both_pages_have_the_same_code() -> None:
    english, chinese = map(code_of, PAGES)
    assert english == chinese
    assert "endmark inspect batch.npz --html page.html" in [line.strip() for line in english]


@pytest.mark.parametrize("page", PAGES, ids=["English", "Chinese"])
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", page.read_text("utf-8"))
    assert links
    assert all((DOCS / link).is_file() for link in links)
