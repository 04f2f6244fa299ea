"""What is shown of a cross-play matrix: tables, JSON, picture, and the page as text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from endmark.report import crossplay_json, crossplay_page, crossplay_tables, draw_crossplay, writable
from endmark.report.crossplay import bounds_text, columns_of, mean_text, number
from endmark.rollout import Interval
from endmark.training import Matrix, sheets
from endmark.training.matrix import HELD_OUT, TRAINING
from support.matrices import make_matrix

COMMAND = "endmark crossplay --learners a b"


def shown(matrix: Matrix, width: int, *, normalise: bool = False) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        for part in crossplay_tables(matrix, sheets(matrix, normalise=normalise), console):
            console.print(part)
    return console.export_text()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (-0.001, "0.00"),
        (-0.5, "-0.50"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.96, "100"),
        (-1234.5, "-1234"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_mean_in_words() -> None:
    assert mean_text(None) == "-"
    assert bounds_text(None) == bounds_text(Interval(1, -np.inf, np.inf)) == ""
    assert bounds_text(Interval(0.5, 0.25, 12.5)) == "0.25 to 12.5"


def test_columns_are_in_groups_with_their_means() -> None:
    names = [(column.name, column.group) for column in columns_of(make_matrix())]
    training = [("a", TRAINING), ("b", TRAINING), ("x/y", TRAINING), ("mean", TRAINING)]
    assert names == [*training, ("c", HELD_OUT), ("z", HELD_OUT), ("mean", HELD_OUT)]
    one = make_matrix(partners=[("z", HELD_OUT)])
    assert [column.name for column in columns_of(one)] == ["z"]


def test_the_table_holds_every_mean_and_interval() -> None:
    matrix = make_matrix()
    text = shown(matrix, 200)
    for sheet in sheets(matrix):
        for row in sheet.cells:
            for cell in row:
                assert mean_text(cell) in text
                assert bounds_text(cell) in text
    line = next(line for line in text.splitlines() if line.split()[:1] == ["a"])
    cells = [column.of(sheets(matrix)[0], 0) for column in columns_of(matrix)]
    stars = ["*", "", "", "", "", "", ""]
    assert line.split()[1:] == [mean_text(cell) + star for cell, star in zip(cells, stars, strict=True)]
    assert "* self-play: learner and partner are the same; the means leave it out" in text
    assert "iql (2)" in text


@pytest.mark.parametrize("width", [50, 80, 120])
def test_a_wide_table_comes_in_parts_and_nothing_is_cut(width: int) -> None:
    partners = [(f"partner-number-{i}-of-many", TRAINING if i < 12 else HELD_OUT) for i in range(20)]
    matrix = make_matrix(partners=partners, outcomes=False)
    text = shown(matrix, width)
    assert max(map(len, text.splitlines())) <= width
    assert "\u2026" not in text
    assert "(continued)" in text
    assert "self-play" not in text
    for row in sheets(matrix)[0].cells:
        for cell in row:
            assert bounds_text(cell) in text


def test_what_is_undefined_is_a_dash_and_a_note_says_what_was_seen() -> None:
    matrix = make_matrix(team=False, outcomes=False)
    matrix = Matrix.from_json(matrix.to_json() | {"seen": [["a", "z"]]})
    matrix.returns[:, 3] = -1.0
    text = shown(matrix, 200, normalise=True)
    row = next(line for line in text.splitlines() if line.split()[:1] == ["c"])
    assert row.split()[5] == "-*"
    assert "note: z is held out, but a was trained with it" in text
    page = crossplay_page(matrix, sheets(matrix, normalise=True), COMMAND)
    assert len(re.findall(r'class="[^"]*undefined', page)) == 4
    assert "<p>z is held out, but a was trained with it.</p>" in page


def test_json_holds_it_all() -> None:
    matrix = make_matrix()
    made = sheets(matrix, normalise=True)
    raw = json.loads(json.dumps(crossplay_json(matrix, made, COMMAND), allow_nan=False))
    assert raw["command"] == COMMAND
    assert Matrix.from_json(raw).to_json() == matrix.to_json()
    assert [sheet["name"] for sheet in raw["sheets"]] == [sheet.name for sheet in made]
    for sheet, its in zip(made, raw["sheets"], strict=True):
        for row, its_row in zip(sheet.cells, its["cells"], strict=True):
            assert [None if cell is None else cell._asdict() for cell in row] == its_row
    lengths = np.array(raw["episodes"]["length"]).mean(-1)
    assert [[cell["mean"] for cell in row] for row in raw["sheets"][-1]["cells"]] == lengths.tolist()


def labels_of(path: Path) -> list[str]:
    """The words of a picture; matplotlib keeps those as comments."""
    return re.findall(r"<!-- (.*?) -->", path.read_text())


def test_the_picture_holds_every_mean(tmp_path: Path) -> None:
    matrix = make_matrix()
    draw_crossplay(matrix, sheets(matrix), tmp_path / "matrix.svg")
    labels = labels_of(tmp_path / "matrix.svg")
    drawn = [sheet for sheet in sheets(matrix) if sheet.name != "length"]
    wanted = [mean_text(c.of(sheet, row)) for sheet in drawn for row in range(4) for c in columns_of(matrix)]
    assert [label for label in labels if re.fullmatch(r"-?[\d.]+", label)] == wanted
    assert labels.count("framed: self-play") == len(drawn) == 4
    assert labels.count("partners: held out") == 4
    assert {"x/y", "walk", "mean"} <= set(labels)


def test_a_picture_of_twenty_by_twenty_and_of_one(tmp_path: Path) -> None:
    names = [(f"run-{i}", "iql") for i in range(20)]
    partners = [(name, TRAINING if i < 10 else HELD_OUT) for i, (name, _) in enumerate(names)]
    matrix = make_matrix(names, partners, outcomes=False, team=False, episodes=3)
    draw_crossplay(matrix, sheets(matrix), tmp_path / "many.png")
    assert (tmp_path / "many.png").read_bytes().startswith(b"\x89PNG")
    one = make_matrix([("a$b$", "iql")], [("b", TRAINING)], outcomes=False, team=False, episodes=1)
    draw_crossplay(one, sheets(one), tmp_path / "one.svg")
    assert "a$b$" in labels_of(tmp_path / "one.svg")
    with pytest.raises(ValueError, match=r"given a picture '\.bmpp', want one of"):
        draw_crossplay(one, sheets(one), tmp_path / "one.bmpp")


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", '"><img src=x>', "{{command}}", "批"])
def test_a_foreign_name_stays_text(name: str) -> None:
    matrix = make_matrix([(name, name)], [(name, TRAINING), ("b", HELD_OUT)])
    page = crossplay_page(matrix, sheets(matrix), f"endmark {name}")
    assert page.isascii()
    assert page.lower().count("<script") == page.lower().count("</script") == 1
    assert "<img" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href|action)\s*=|@import|url\(|https?:", page.replace(" src=x", ""))


def test_whether_a_file_can_be_written_is_known_before(tmp_path: Path) -> None:
    there = tmp_path / "there.json"
    there.write_text("as it was")
    writable("--json", there)
    writable("--json", tmp_path / "new.json")
    assert there.read_text() == "as it was"
    assert not (tmp_path / "new.json").exists()
    with pytest.raises(ValueError, match=r"--json .*nowhere/m.json: cannot be written: No such file"):
        writable("--json", tmp_path / "nowhere" / "m.json")
    with pytest.raises(ValueError, match="cannot be written: Is a directory"):
        writable("--html", tmp_path)
    with pytest.raises(ValueError, match=r"given a picture '\.txt', want one of"):
        writable("--png", tmp_path / "m.txt", picture=True)
