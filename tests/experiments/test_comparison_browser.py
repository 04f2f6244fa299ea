"""The comparison's page in a real browser: Debian's chromium, driven by playwright."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from endmark.experiments.comparison import Comparison
from endmark.experiments.comparison_json import comparison_json
from endmark.experiments.comparison_page import comparison_page
from endmark.experiments.comparison_text import bounds_text, value_text
from endmark.experiments.statistics import Estimate
from support.compared import compared, make_grid, make_run

COMMAND = "endmark compare 'a b' <c>"
Show = Callable[..., Any]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Show]:
    """Opens the page of a comparison; at the end: no error, no word on the console, no other request."""
    said: list[str] = []
    contexts: list[Any] = []

    def open_page(comparison: Comparison, **options: Any) -> Any:
        path = tmp_path / f"page{len(contexts)}.html"
        page_text = comparison_page(comparison, ["a <b>warning</b>"], ["runs/x: <i>damaged</i>"], COMMAND)
        path.write_text(page_text, encoding="ascii")
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


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = make_grid(tmp_path_factory.mktemp("grid"))
    make_run(folder / "odd", [0.0, 0.5], algorithm="<img src=x onerror=alert(1)>", env="some:Env-v0")
    make_run(folder / "odder", [9.5, 10.5], algorithm="<img src=x onerror=alert(1)>", env="some:Env-v1")
    return compared(folder)


def cells_of(page: Any, table: str) -> dict[str, list[dict[str, Any]]]:
    rows: list[Any] = page.locator(f'table[data-table="{table}"] tbody tr').evaluate_all(
        "rows => rows.map(row => [row.cells[0].innerText, [...row.cells].slice(1).map(cell => "
        "({...cell.dataset, text: cell.innerText.split('\\n').filter(Boolean), title: cell.title}))])"
    )
    return dict(rows)


def column(page: Any, table: str, name: str) -> list[str]:
    """The texts of a column, in the order of the rows."""
    texts: list[str] = page.locator(f'table[data-table="{table}"]').evaluate(
        "(table, name) => { const at = [...table.tHead.rows[0].cells].findIndex(c => c.innerText === name); "
        "return [...table.tBodies[0].rows].map(row => row.cells[at].innerText.split('\\n')[0]); }",
        name,
    )
    return texts


def test_the_numbers_are_those_of_the_json(show: Show, grid: Comparison) -> None:
    page = show(grid)
    raw = json.loads(json.dumps(comparison_json(grid, [], [], COMMAND)))
    tables = {"overall": {v: its["figures"] for v, its in raw["over tasks"].items()}}
    for task in raw["tasks"]:
        its = {v: cell["figures"] for v, cell in task["variants"].items()}
        known = {name for figures in its.values() for name, figure in figures.items() if figure}
        kept = {v: {name: f for name, f in figures.items() if name in known} for v, figures in its.items()}
        tables[f"task {task['task']}"] = kept
    for table, rows in tables.items():
        shown = cells_of(page, table)
        assert list(shown) == list(rows) == list(grid.variants)
        for variant, figures in rows.items():
            cells = shown[variant][1 : 1 + len(figures)]
            for figure, cell in zip(figures.values(), cells, strict=True):
                low, high = (-9e999, 9e999) if figure["low"] is None else (figure["low"], figure["high"])
                estimate = Estimate(figure["value"], low, high)
                assert cell["text"] == [
                    text for text in (value_text(estimate), bounds_text(estimate)) if text
                ]
                assert {name: float(cell[name]) for name in figure if name in cell} == {
                    name: value for name, value in figure.items() if value is not None
                }
                assert f"Made by: {COMMAND}" in cell["title"]
    pairs = cells_of(page, "improvement")
    for pair in raw["probability of improvement"]:
        cell = pairs[pair["variant"]][list(grid.variants).index(pair["over"])]
        assert float(cell["value"]) == pair["value"]
    curves = page.locator("figure[data-chart='some:Env-v1'] .curve").evaluate_all(
        "curves => curves.map(curve => [Number(curve.dataset.variant), JSON.parse(curve.dataset.points)])"
    )
    for number, points in curves:
        assert points == raw["tasks"][1]["variants"][grid.variants[number]]["curve"]
    assert len(curves) == 4
    assert page.locator("#command").inner_text() == COMMAND
    assert page.locator('table[data-table="runs"] tbody tr').count() == 20
    notes = page.locator("#notes li").all_inner_texts()
    assert notes == ["A <b>warning</b>.", "Left out: runs/x: <i>damaged</i>."]
    assert page.locator("img").count() == 0


def test_a_click_on_a_head_sorts_and_another_one_turns_it_about(show: Show, grid: Comparison) -> None:
    page = show(grid)
    table = page.locator('table[data-table="overall"]')
    button = table.get_by_role("button", name="IQM")
    by_value = sorted(grid.variants, key=lambda v: -grid.overall[v].figures["IQM"].value)
    button.click()
    assert column(page, "overall", "variant") == by_value
    assert table.locator('th[aria-sort="descending"]').all_inner_texts() == ["IQM"]
    button.press("Enter")
    assert column(page, "overall", "variant") == by_value[::-1]
    table.get_by_role("button", name="variant").click()
    assert sorted(column(page, "overall", "variant"), key=str.lower) == column(page, "overall", "variant")
    assert table.locator('th[aria-sort="none"]').count() == 6
    task = page.locator('table[data-table="task some:Env-v0"]')
    task.get_by_role("button", name="steps to it").click()
    steps = column(page, "task some:Env-v0", "steps to it")
    known = [int(text.replace(",", "")) for text in steps if text != "-"]
    assert known == sorted(known, reverse=True)
    assert steps[len(known) :] == ["-"] * (len(steps) - len(known))


def test_a_name_switches_its_curves(show: Show, grid: Comparison) -> None:
    page = show(grid)
    legend = page.locator("#legend button")
    assert legend.all_inner_texts() == list(grid.variants)
    visible = (
        "curves => curves.filter(c => getComputedStyle(c).display !== 'none').map(c => c.dataset.variant)"
    )
    before = page.locator(".curve").evaluate_all(visible)
    legend.nth(1).focus()
    page.keyboard.press("Space")
    assert legend.nth(1).get_attribute("aria-pressed") == "false"
    assert page.locator(".curve").evaluate_all(visible) == [v for v in before if v != "1"]
    chart = page.locator("figure[data-chart='some:Env-v0']")
    chart.locator("svg").focus()
    page.keyboard.press("End")
    assert grid.variants[0] in chart.locator(".readout").inner_text()
    assert grid.variants[1] not in chart.locator(".readout").inner_text()
    legend.nth(1).click()
    assert page.locator(".curve").evaluate_all(visible) == before


def test_charts_are_read_by_keys_and_by_pointer(show: Show, grid: Comparison) -> None:
    page = show(grid)
    chart = page.locator("figure[data-chart='some:Env-v0']")
    chart.locator("svg").focus()
    page.keyboard.press("Home")
    first = chart.locator(".readout").inner_text()
    point = grid.cells["some:Env-v0", "iql"].curve[0]
    assert first.startswith("at 1,000: ")
    assert f", iql {point.value:g} (" in first
    page.keyboard.press("ArrowRight")
    assert chart.locator(".readout").inner_text() != first
    box = chart.locator("svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 15, box["y"] + 40)
    assert chart.locator(".readout").inner_text().startswith("at 5,000: ")
    page.mouse.move(0, 0)
    assert chart.locator(".readout").inner_text() == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_looks(show: Show, grid: Comparison, tmp_path: Path, scheme: str, width: int) -> None:
    page = show(grid, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    colours = page.locator("#legend i").evaluate_all(
        "all => all.map(i => getComputedStyle(i).backgroundColor)"
    )
    assert len(set(colours)) == len(grid.variants)
    folder = Path(os.environ.get("ENDMARK_SCREENSHOTS") or tmp_path)
    page.screenshot(path=folder / f"comparison-{scheme}-{width}.png", full_page=True)
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") != scheme


def test_an_empty_part_is_said_in_words(show: Show, tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a", [1.0])
    page = show(compared(tmp_path / "runs"))
    assert "so there are none" in page.locator("main").inner_text()
    assert page.locator("circle").count() == 1
