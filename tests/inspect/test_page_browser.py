"""The page in a real browser: Debian's chromium, driven by playwright."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.episodes import explain_mask
from endmark.episodes.masks import REASONS
from endmark.inspect.html import html_page
from endmark.inspect.inspection import inspect, page_data
from endmark.inspect.source import Source
from support.helpers import all_patterns, bits

WORKED_TABLE = [
    ("filled to the brim after the end", "1111111", "0001000", "111101", "111100"),
    ("PyMARL layout, ended at step 3", "1111100", "0001000", "111100", "111100"),
    ("truncated after 4 steps", "1111100", "0000000", "111110", "111100"),
    ("final frame not stored", "1111000", "0001000", "111100", "111100"),
    ("full length, truncated at the limit", "1111111", "0000000", "111111", "111111"),
    ("full length, terminated at the last step", "1111111", "0000010", "111111", "111111"),
    ("nothing filled", "0000000", "0000000", "000000", "000000"),
]
# Every kind of cell: the worked table, second, gap, stray, both, and a seam that only `truncated` shows.
FILLED = [row[1] for row in WORKED_TABLE] + ["1111111", "1110111", "1111100", "1111100", "1111111"]
TERMINATED = [row[2] for row in WORKED_TABLE] + ["0010010", "0000000", "0000010", "0001000", "0000000"]
TRUNCATED = ["0000000"] * 10 + ["0001000", "0010000"]
Show = Callable[..., Any]
KINDS = ["step", "terminal", "truncated", "final", "padding", "phantom", "stale", "second", "gap", "stray"]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Show]:
    """Opens a page for a batch; at the end: no error, no word on the console, no other request."""
    with opener(browser, tmp_path) as open_page:
        yield open_page


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = Path(os.environ.get("ENDMARK_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextmanager
def opener(browser: Any, directory: Path) -> Iterator[Show]:
    said: list[str] = []
    contexts: list[Any] = []

    def open_page(data: dict[str, Any], **options: Any) -> Any:
        path = directory / f"page{len(contexts)}.html"
        path.write_text(html_page(data), encoding="ascii")
        context = browser.new_context(**({"viewport": {"width": 1200, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        page.wait_for_function("window.endmark", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def batch_data(
    filled: Tensor,
    terminated: Tensor,
    truncated: Tensor | None = None,
    *,
    name: str = "batch.npz",
    **more: Tensor,
) -> dict[str, Any]:
    tensors = {"filled": filled, "terminated": terminated, **more}
    if truncated is not None:
        tensors["truncated"] = truncated
    source = Source(name, "padded batch", tensors)
    return page_data(source, inspect(source))


def every_kind(name: str = "batch.npz") -> dict[str, Any]:
    rows, columns = len(FILLED), len(FILLED[0])
    reward = torch.arange(rows * columns).reshape(rows, columns, 1) / 10
    actions = torch.arange(rows * columns * 2).reshape(rows, columns, 2, 1)
    return batch_data(
        bits(*FILLED), bits(*TERMINATED), bits(*TRUNCATED), name=name, reward=reward, actions=actions
    )


def big_batch(rows: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(rows)
    lengths = torch.randint(1, 121, (rows, 1), generator=generator)
    column = torch.arange(121)
    extra = torch.randint(0, 3, (rows, 1), generator=generator)
    ended = torch.rand(rows, 1, generator=generator) < 0.6
    filled = (column <= lengths + extra)[..., None].long()
    return batch_data(filled, ((column == lengths - 1) & ended)[..., None].long())


def drawn(page: Any, data: dict[str, Any]) -> list[list[str]]:
    kinds: list[list[str]] = page.evaluate(
        "([rows, columns]) => Array.from({length: rows}, (_, row) =>"
        " Array.from({length: columns}, (_, t) => window.endmark.classOf(row, t)))",
        [len(data["rows"]), data["columns"]],
    )
    return kinds


def expected_kind(row: dict[str, Any], t: int, reason: str | None) -> str | None:
    """What a cell must be drawn as; None where neither mask nor length says it."""
    if t < row["length"] - 1:
        return "step"
    if t == row["length"] - 1:
        return {"terminated": "terminal", "truncated": "truncated"}[row["end"]]
    if reason is not None:
        return reason
    stray = row["terminated"][t] == "1" or (row["truncated"] is not None and row["truncated"][t] == "1")
    if row["filled"][t] == "0":
        return "stray" if stray else "padding"
    if t == row["length"]:
        return None if stray else "final"
    return None


@pytest.mark.parametrize("with_truncated", [False, True])
def test_every_cell_is_drawn_as_the_masks_say_for_all_patterns(show: Show, with_truncated: bool) -> None:
    patterns = all_patterns(4, 3) if with_truncated else all_patterns(5, 2)
    data = batch_data(*patterns)
    explanation = explain_mask(patterns[0], patterns[1])
    reasons = {(found.row, found.t): found.reason for found in explanation.differences}
    kinds = drawn(show(data), data)
    exact = explanation.exact.tolist()
    for r, row in enumerate(data["rows"]):
        for t, kind in enumerate(kinds[r]):
            want = expected_kind(row, t, reasons.get((r, t)))
            assert kind == want or want is None, (row, t)
            if want is None:
                assert kind in {"stale", "second", "gap", "stray", "final"}, (row, t)
            if not with_truncated:  # then the steps are those of the exact mask
                is_step = t < data["columns"] - 1 and exact[r][t]
                assert (kind in {"step", "terminal", "truncated"}) == is_step, (row, t)
                fault = row["fault"]
                if fault and fault["t"] == t and fault["rule"] in {"stale", "second", "gap"}:
                    assert kind == fault["rule"], (row, t)


def test_every_kind_of_cell(show: Show) -> None:
    data = every_kind()
    kinds = drawn(show(data), data)
    assert {kind for row in kinds for kind in row} == set(KINDS)
    assert kinds[0] == ["step"] * 3 + ["terminal", "final", "stale", "stale"]
    assert kinds[2] == ["step"] * 3 + ["truncated", "phantom", "padding", "padding"]
    assert kinds[7] == ["step", "step", "terminal", "final", "second", "second", "second"]
    assert kinds[8] == ["step", "truncated", "phantom", "padding", "gap", "gap", "gap"]
    assert kinds[9] == ["step"] * 3 + ["truncated", "phantom", "stray", "padding"]
    assert kinds[11] == ["step", "truncated", "final", "second", "second", "second", "second"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("scale", [1, 2])
def test_the_pixels_of_a_kind_are_the_same_everywhere_and_those_of_two_kinds_never(
    show: Show, scheme: str, scale: int
) -> None:
    data = every_kind()
    page = show(data, color_scheme=scheme, device_scale_factor=scale)
    cells = page.evaluate(
        """([rows, columns]) => {
          const canvas = document.getElementById("canvas");
          const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const found = [];
          for (let row = 0; row < rows; row++) for (let t = 0; t < columns; t++) {
            const box = window.endmark.boxOf(row, t);
            const s = devicePixelRatio;
            const pixels = [];
            for (let y = box.y * s; y < (box.y + box.height) * s; y++) {
              const start = 4 * (y * canvas.width + box.x * s);
              pixels.push(...data.slice(start, start + 4 * box.width * s));
            }
            found.push([window.endmark.classOf(row, t), pixels.join()]);
          }
          return found;
        }""",
        [len(data["rows"]), data["columns"]],
    )
    looks = defaultdict(set)
    for kind, pixels in cells:
        looks[kind].add(pixels)
    assert set(looks) == set(KINDS)
    assert {kind: len(seen) for kind, seen in looks.items()} == dict.fromkeys(looks, 1)
    assert len(set.union(*looks.values())) == len(KINDS)
    shapes = {tuple(alpha(pixels)) for seen in looks.values() for pixels in seen}
    assert len(shapes) == len(KINDS)  # told apart without colour too


def alpha(pixels: str) -> list[str]:
    return pixels.split(",")[3::4]


def drive_playground(page: Any, n_steps: int, patterns: list[list[list[int]]]) -> list[dict[str, Any]]:
    """Click the playground through the patterns, and read what it says at each."""
    states: list[dict[str, Any]] = page.evaluate(
        """([steps, patterns]) => {
          const get = (selector) => document.querySelector(selector);
          const all = (selector) => [...document.querySelectorAll(selector)];
          const now = () => all('#inputs [data-flag="filled"]').length - 1;
          while (now() > steps) get("#shorter").click();
          while (now() < steps) get("#longer").click();
          const texts = (selector) => all(selector).map((element) => element.textContent);
          const lane = (name) => texts(`[data-lane="${name}"] [data-t]`).join("");
          return patterns.map((pattern) => {
            ["filled", "terminated"].forEach((flag, f) => pattern[f].forEach((bit, t) => {
              const cell = get(`#inputs [data-flag="${flag}"][data-t="${t}"]`);
              if (cell.getAttribute("aria-pressed") !== String(bit === 1)) cell.click();
            }));
            return {
              filled: lane("filled"), terminated: lane("terminated"),
              shift: lane("shift"), exact: lane("exact"),
              ended: lane("line-1"), mask: lane("line-2"),
              keep: lane("line-3-keep"), rest: lane("line-3"),
              reasons: all("#reasons [data-reason]").map(({dataset}) => [Number(dataset.t), dataset.reason]),
              words: texts("#reasons [data-reason]"),
            };
          });
        }""",
        [n_steps, patterns],
    )
    return states


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4])
def test_the_playground_agrees_with_python_on_all_patterns(show: Show, n_steps: int) -> None:
    filled, terminated = all_patterns(n_steps + 1)
    explanation = explain_mask(filled, terminated)
    patterns = torch.stack([filled[..., 0], terminated[..., 0]], 1).tolist()
    states = drive_playground(show(every_kind()), n_steps, patterns)
    assert len(states) == 4 ** (n_steps + 1)
    for row, state in enumerate(states):
        found = [difference for difference in explanation.differences if difference.row == row]
        assert state["filled"] == joined(filled[row])
        assert state["terminated"] == joined(terminated[row])
        assert state["shift"] == joined(explanation.shift[row]), state
        assert state["exact"] == joined(explanation.exact[row]), state
        assert state["reasons"] == [[difference.t, difference.reason] for difference in found], state
        assert all(REASONS[d.reason] in words for d, words in zip(found, state["words"], strict=True))
        assert state["ended"] == joined(terminated[row, :-1])
        assert state["mask"] == joined(filled[row, :-1])
        assert state["keep"] == joined(1 - terminated[row, :-2])
        assert state["rest"] == joined(explanation.shift[row, 1:])


def joined(row: Tensor) -> str:
    return "".join(str(int(bit)) for bit in row.flatten())


def lane(page: Any, name: str) -> str:
    return "".join(page.locator(f'[data-lane="{name}"] [data-t]').all_text_contents())


def test_presets_are_the_worked_table(show: Show) -> None:
    page = show(every_kind())
    assert page.locator("#presets button").all_text_contents() == [row[0] for row in WORKED_TABLE]
    for name, filled, terminated, shift, exact in WORKED_TABLE:
        page.get_by_role("button", name=name, exact=True).click()
        shown = [lane(page, part) for part in ("filled", "terminated", "shift", "exact")]
        assert shown == [filled, terminated, shift, exact]
        assert page.locator("#command").text_content() == (
            f"endmark explain --filled {filled} --terminated {terminated}"
        )
    shapes = page.locator("#playground .lane-shape").all_text_contents()
    one, two, three = "(1, 7, 1)", "(1, 6, 1)", "(1, 5, 1)"
    assert shapes == ["shape", one, one, two, two, three, three, three, two, two, ""]


def test_the_playground_by_mouse(show: Show) -> None:
    page = show(every_kind())
    page.locator('[data-flag="terminated"][data-t="3"]').click()
    assert lane(page, "terminated") == "0000000"
    assert lane(page, "exact") == "111111"
    page.locator('[data-flag="filled"][data-t="2"]').click()
    assert lane(page, "filled") == "1101111"
    assert lane(page, "exact") == "100000"
    page.locator("#longer").click()
    assert lane(page, "filled") == "11011110"
    assert page.locator("#steps").text_content() == "T = 7"


def test_the_playground_by_keyboard(show: Show) -> None:
    page = show(every_kind())
    page.locator('[data-flag="filled"][data-t="0"]').focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Space"):
        page.keyboard.press(key)
    assert lane(page, "terminated") == "0011000"
    for key in ("End", "ArrowUp", "Enter", "Home", "ArrowLeft", "Space"):
        page.keyboard.press(key)
    assert lane(page, "filled") == "0111110"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "filled at 0"
    assert page.locator('#inputs button[tabindex="0"]').count() == 1  # one stop for Tab


def test_sort_orders(show: Show) -> None:
    data = every_kind()
    page = show(data)
    rows = data["rows"]
    wrong = [0] * len(rows)
    for found in explain_mask(bits(*FILLED), bits(*TERMINATED)).differences:
        wrong[found.row] += 1
    keys: dict[str, Callable[[int], Any]] = {
        "length": lambda r: -rows[r]["length"],
        "problem": lambda r: (rows[r]["fault"] is None, -wrong[r]),
        "row": lambda r: r,
    }
    for sort, key in keys.items():
        page.locator(f'[data-sort="{sort}"]').click()
        assert page.evaluate("window.endmark.order()") == sorted(range(len(rows)), key=key)
        assert page.locator('[data-sort][aria-pressed="true"]').all_text_contents() == [sort]


def facts(page: Any) -> dict[str, str]:
    names = page.locator("#inspector dt").all_text_contents()
    return dict(zip(names, page.locator("#inspector dd").all_text_contents(), strict=True))


@pytest.mark.parametrize(("rows", "with_values"), [(64, 64), (65, 65), (900, 675)])
def test_values_are_there_or_the_page_says_which_are(
    show: Show, screenshots: Path, rows: int, with_values: int
) -> None:
    flags = bits(*["1" * 36 + "0"] * rows), bits(*["0" * 35 + "10"] * rows)
    numbers = torch.arange(rows * 37).reshape(rows, 37, 1)
    page = show(batch_data(*flags, reward=numbers.float(), actions=torch.cat([numbers % 5, numbers % 3], 2)))
    note = page.locator("#values")
    assert note.is_visible() == (with_values < rows)
    if with_values < rows:
        assert note.text_content() == (
            "Rewards and actions are on this page for rows 0 to 674 of 900; "
            "with those of all rows it would be too large."
        )
    page.locator("#scroller").focus()
    for key, row in [("Control+Home", 0), ("Control+End", rows - 1)]:
        page.keyboard.press(key)
        page.keyboard.press("Home")
        assert page.locator("#inspector .where").text_content() == f"row {row}, t 0"
        first = row * 37
        want = (f"{first:.4g}", f"{first % 5} {first % 3}")
        want = (f"{int(float(want[0]))}", want[1]) if row < with_values else ("not on this page",) * 2
        assert (facts(page)["reward"], facts(page)["actions"]) == want
    page.screenshot(path=screenshots / f"values-{rows}.png", full_page=True)


def test_wrong_actions_are_a_finding(show: Show, screenshots: Path) -> None:
    actions = torch.zeros(3, 4, 2, 1, dtype=torch.int64)
    actions[1, 1, 1], actions[2, 0, 0] = 2**62, 2
    avail = torch.ones(3, 4, 2, 3, dtype=torch.int64)
    avail[2, 0, 0, 2] = 0
    flags = bits(*["1111"] * 3), bits(*["0010"] * 3)
    page = show(batch_data(*flags, actions=actions, avail_actions=avail))
    verdict = page.locator("#verdict")
    assert "Real steps hold 1 action that does not exist. Real steps hold 1 action that was not legal." in (
        verdict.text_content()
    )
    assert verdict.get_attribute("data-state") == "wrong"
    assert page.locator("#findings-list h3").all_text_contents() == ["Actions"]
    assert f"first agent 1, action {2**62}" in page.locator("#findings-list").text_content()
    page.locator("#findings-list button").first.click()
    assert page.locator("#inspector .where").text_content() == "row 1, t 1"
    page.screenshot(path=screenshots / "actions.png", full_page=True)


def test_a_cell_shows_its_values_on_hover_and_by_keyboard(show: Show) -> None:
    page = show(every_kind())
    page.locator("#scroller").scroll_into_view_if_needed()
    frame, box = page.locator("#scroller").bounding_box(), page.evaluate("window.endmark.boxOf(2, 3)")
    page.mouse.move(frame["x"] + box["x"] + box["width"] / 2, frame["y"] + box["y"] + box["height"] / 2)
    assert page.locator("#inspector .where").text_content() == "row 2, t 3"
    assert page.locator("#inspector b").text_content() == "truncated end"
    assert facts(page) == {
        "filled": "1",
        "terminated": "0",
        "truncated": "0",
        "shift mask": "1",
        "exact mask": "1",
        "reward": "1.7",
        "actions": "34 35",
    }
    page.mouse.down()
    page.mouse.up()
    page.locator("#scroller").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#inspector b").text_content() == "phantom step"
    assert REASONS["phantom"][1:] in page.locator("#inspector .words").text_content()
    spoken = page.locator("#spoken").text_content()
    assert spoken.startswith("Row 2, t 4: phantom step")
    assert "shift mask 1, exact mask 0" in spoken
    for key in ("Control+End", "ArrowRight", "ArrowDown"):  # walls hold
        page.keyboard.press(key)
    assert page.locator("#inspector .where").text_content() == f"row {len(FILLED) - 1}, t 6"
    assert facts(page)["exact mask"] == "\u2013"  # the last column has no step


def test_findings_lead_to_their_cells(show: Show) -> None:
    page = show(every_kind())
    page.locator('#findings button[title="Show row 8, t 4"]').first.click()
    assert page.locator("#inspector .where").text_content() == "row 8, t 4"
    assert "row 8" in page.locator("#spoken").text_content().lower()


def test_a_batch_with_nothing_wrong(show: Show) -> None:
    page = show(batch_data(bits("1111", "1110"), bits("0010", "0100")))
    assert page.locator("#verdict").text_content() == "Both masks agree on every step."
    assert page.locator("#findings").is_hidden()
    assert page.locator("#figures b").all_text_contents()[:2] == ["2", "5"]


@pytest.mark.parametrize("columns", [1, 2])
def test_the_smallest_batches(show: Show, columns: int) -> None:
    data = batch_data(*all_patterns(columns)) if columns > 1 else one_column()
    kinds = drawn(show(data), data)
    assert len(kinds) == len(data["rows"])
    if columns == 1:
        assert kinds == [["padding"], ["final"]]


def one_column() -> dict[str, Any]:
    data = batch_data(bits("00", "10"), bits("00", "00"))
    rows = [row | {"filled": row["filled"][:1], "terminated": "0", "length": 0} for row in data["rows"]]
    return data | {"columns": 1, "rows": rows}


def test_a_malicious_name_is_only_text(show: Show) -> None:
    name = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    page = show(every_kind(name=name))
    assert page.locator("#source").get_attribute("title") == name
    assert page.locator("img").count() == 0


def test_light_and_dark_and_narrow(show: Show, screenshots: Path) -> None:
    data = big_batch(32)
    colours = {}
    for scheme in ("light", "dark"):
        page = show(data, color_scheme=scheme)
        colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.screenshot(path=screenshots / f"{scheme}.png", full_page=True)
    assert colours["light"] != colours["dark"]
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == colours["light"]
    page = show(data, viewport={"width": 375, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    page.screenshot(path=screenshots / "narrow.png", full_page=True)


def test_every_row_is_printed_in_light_colours(show: Show, screenshots: Path) -> None:
    page = show(big_batch(32), color_scheme="dark")
    page.pdf(path=screenshots / "print.pdf", format="A4", print_background=True)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.evaluate("document.getElementById('paper').height") >= 2 * 32 * 17
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("rows", [32, 5000])
def test_it_opens_scrolls_and_answers(show: Show, screenshots: Path, rows: int) -> None:
    data = big_batch(rows)
    began = time.perf_counter()
    page = show(data)
    opened = time.perf_counter() - began
    in_page = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    page.locator("#scroller").focus()
    began = time.perf_counter()
    page.keyboard.press("Control+End")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    scrolled = time.perf_counter() - began
    assert page.locator("#inspector .where").text_content() == f"row {rows - 1}, t 120"
    box = page.evaluate(f"window.endmark.boxOf({rows - 1}, 0)")
    height = page.evaluate("document.getElementById('scroller').clientHeight")
    assert 0 < box["y"] < height  # the last row is in view, and drawn
    page.evaluate("document.getElementById('scroller').scrollLeft = 0")
    painted = page.evaluate(
        "(box) => document.getElementById('canvas').getContext('2d')"
        ".getImageData(box.x + 2, box.y + 2, 1, 1).data[3]",
        box,
    )
    assert painted == 255
    page.screenshot(path=screenshots / f"{rows}-rows.png")
    print(
        f"{rows} x 121: {len(html_page(data)) / 1000:.0f} kB, load event after {in_page:.0f} ms, "
        f"{opened * 1000:.0f} ms with writing the file; to the last row in {scrolled * 1000:.0f} ms"
    )
