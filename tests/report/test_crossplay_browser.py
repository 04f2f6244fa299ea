"""The cross-play page in a real browser: Debian's chromium, driven by playwright."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from endmark.report import crossplay_json, crossplay_page
from endmark.report.crossplay import bounds_text, columns_of, mean_text
from endmark.rollout import Interval
from endmark.training import Matrix, sheets
from endmark.training.matrix import HELD_OUT, TRAINING
from support.matrices import make_matrix

COMMAND = "endmark crossplay --learners 'a b' --partners <c>"
Show = Callable[..., Any]
CELLS = """sheet => [...sheet.querySelectorAll("tbody tr")].map(row => [...row.querySelectorAll("td")].map(
  cell => ({...cell.dataset, text: cell.innerText.split("\\n").filter(Boolean), classes: cell.className,
            title: cell.title})))"""


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Show]:
    """Opens the page of a matrix; at the end: no error, no word on the console, no other request."""
    said: list[str] = []
    contexts: list[Any] = []

    def open_page(matrix: Matrix, **options: Any) -> Any:
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(crossplay_page(matrix, sheets(matrix, normalise=True), COMMAND), encoding="ascii")
        context = browser.new_context(**({"viewport": {"width": 1300, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def test_the_numbers_are_those_of_the_json(show: Show) -> None:
    matrix = make_matrix()
    matrix.returns[:, 3] = -1.0  # undefined, when normalised
    page = show(matrix)
    raw = json.loads(json.dumps(crossplay_json(matrix, sheets(matrix, normalise=True), COMMAND)))
    columns = columns_of(matrix)
    for sheet in raw["sheets"]:
        cells = page.locator(f'section[data-sheet="{sheet["name"]}"]').evaluate(CELLS)
        assert len(cells) == 4
        for row, shown in enumerate(cells):
            for column, cell in zip(columns, shown, strict=True):
                its = sheet["rows"][row][column.group]
                if column.partner is not None:
                    its = sheet["cells"][row][column.partner]
                if its is None:
                    assert cell["text"] == ["-"]
                    assert "undefined" in cell["classes"]
                    continue
                assert {name: float(cell[name]) for name in its} == its
                interval = Interval(**its)
                assert cell["text"] == [mean_text(interval), bounds_text(interval)]
                assert f"{its['low']:.4g} to {its['high']:.4g}, 6 episodes" in cell["title"]
                same = column.partner is not None and bool(matrix.self_play[row, column.partner])
                assert ("self" in cell["classes"].split()) == same == ("self-play" in cell["title"])
    groups = page.locator("#groups tbody tr").evaluate_all(
        "rows => rows.map(row => [row.querySelector('.name').innerText, "
        "...[...row.querySelectorAll('td')].slice(2).map(cell => cell.dataset.mean ?? null)])"
    )
    wanted = [
        [name, *(None if mean is None else repr(mean["mean"]) for mean in means.values())]
        for sheet in raw["sheets"]
        for name, means in sheet["groups"].items()
    ]
    assert groups == wanted
    assert page.locator("#command").inner_text() == COMMAND
    assert page.locator("#players tbody tr").count() == 4 + 5
    heads = page.locator('section[data-sheet="return"] th[scope="colgroup"]').all_inner_texts()
    assert heads == ["training", "held out"]


def test_light_and_dark_and_narrow_and_many(show: Show, tmp_path: Path) -> None:
    screenshots = Path(os.environ.get("ENDMARK_SCREENSHOTS") or tmp_path)
    screenshots.mkdir(exist_ok=True)
    names = [(f"algorithm-{i % 4}-seed-{i}", f"algorithm-{i % 4}") for i in range(20)]
    partners = [(name, TRAINING if i < 10 else HELD_OUT) for i, (name, _) in enumerate(names)]
    matrix = make_matrix(sorted(names, key=lambda pair: pair[1]), partners, episodes=3, team=False)
    colours = {}
    for scheme in ("light", "dark"):
        page = show(matrix, color_scheme=scheme)
        colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.screenshot(path=screenshots / f"crossplay-{scheme}.png")
    assert colours["light"] != colours["dark"]
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == colours["light"]
    assert page.locator("#theme").inner_text() == "Dark"
    narrow = show(make_matrix(), viewport={"width": 375, "height": 800})
    assert narrow.evaluate("document.documentElement.scrollWidth") == 375
    narrow.screenshot(path=screenshots / "crossplay-narrow.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_can_be_read_on_every_colour(show: Show, scheme: str) -> None:
    """Contrast of at least 4.5 between the ink and each cell, as the guidelines for accessible pages want."""
    page = show(make_matrix(), color_scheme=scheme)
    least = page.evaluate(
        """() => {
          const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
          const light = colour => {
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
            const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(
              part => part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
            return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
          };
          const cells = [...document.querySelectorAll("section[data-sheet] td")].filter(c => c.dataset.mean);
          return Math.min(...cells.map(cell => {
            const style = getComputedStyle(cell);
            const [a, b] = [light(style.color), light(style.backgroundColor)].sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05);
          }));
        }"""
    )
    assert least >= 4.5
