"""Pictures and tables for people."""

from __future__ import annotations

import io
import math
import re
import struct
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from endmark.report import TrainingDisplay, learning_curve, summary_table
from endmark.report.curve import Panel
from endmark.rollout import Interval, Summary
from endmark.run import Counters

SEEDS = [[(0.0, 0.1), (1000.0, 0.5), (2000.0, 0.9)], [(0.0, 0.2), (1010.0, 0.4)], [(5.0, 0.0), (990.0, 0.6)]]
SUMMARY = Summary(
    episodes=100,
    return_mean=0.9876,
    return_low=0.95,
    return_high=1.0,
    length_mean=12.34,
    terminated=0.75,
    truncated=0.25,
)


def svg_text(path: Path) -> str:
    """What the picture says; matplotlib draws letters as shapes, and keeps the words as comments."""
    return path.read_text()


@pytest.mark.parametrize("n_seeds", [1, 3])
@pytest.mark.parametrize("levels", [None, {"random": 0.2, "100 % of $x_": 1.0}])
def test_a_png(n_seeds: int, levels: dict[str, float] | None, tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    learning_curve({"qmix": SEEDS[:n_seeds], "vdn": SEEDS[:1]}, path, title="an env", levels=levels)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert 800 < width < 2000
    assert 400 < height < 1500
    assert len(content) > 10_000


def test_an_svg(tmp_path: Path) -> None:
    path = tmp_path / "curve.svg"
    learning_curve({"qmix": SEEDS, "vdn": SEEDS[:1]}, path, title="an env", levels={"random": 0.2})
    assert ET.fromstring(path.read_bytes()).tag == "{http://www.w3.org/2000/svg}svg"
    text = path.read_text()
    for label in ("an env", "qmix (3 seeds)", "vdn", "random", "environment steps"):
        assert f"<!-- {label} -->" in text
    assert "vdn (1 seeds)" not in text
    assert "nan" not in text


def test_more_runs_than_colours(tmp_path: Path) -> None:
    runs = {f"run {i}": SEEDS[:1] for i in range(9)}
    learning_curve(runs, tmp_path / "curve.svg", title="many")
    text = (tmp_path / "curve.svg").read_text()
    assert all(f"<!-- {label} -->" in text for label in runs)


def test_plain_lines_where_nobody_looks() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    with TrainingDisplay(console, 1000, plain_every=0.0) as display:
        display(Counters(250, 20, 10), {})
        display(Counters(1003, 80, 70), {"return": 0.25})
    lines = written(console).splitlines()
    assert lines[0].startswith("250/1000 steps  20 episodes  10 updates  greedy -  ")
    assert lines[1].startswith("1003/1000 steps  80 episodes  70 updates  greedy 0.250  ")
    assert lines[1].endswith(" 0 s left")
    assert len(lines) == 2, "one line each, however narrow"
    assert "\x1b" not in written(console)


def test_plain_lines_come_now_and_then_and_at_the_end() -> None:
    console = Console(file=io.StringIO(), force_terminal=False)
    with TrainingDisplay(console, 1000, plain_every=1e6) as display:
        for steps in range(0, 1000, 10):
            display(Counters(steps, steps, 0), {})
        assert written(console) == ""
        display(Counters(1000, 1, 1), {"return": 1.0})
    assert written(console).count("\n") == 1


def test_a_live_display_in_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    with TrainingDisplay(console, 1000) as display:
        display(Counters(0, 0, 0), {})
        display(Counters(500, 40, 30), {"return": 0.125})
        display(Counters(1010, 80, 70), {"return": 0.5})
    text = written(console)
    for shown in ("1000/1000", "80 episodes", "70 updates", "greedy", "0.500", "steps/s"):
        assert shown in text
    assert "left" not in text


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (40, ""),
        (60, "left bar"),
        (80, "left speed bar"),
        (100, "left speed updates episodes"),
        (120, "left speed updates episodes bar"),
        (200, "left speed updates episodes bar"),
    ],
)
def test_the_live_line_of_millions_fits_and_shows_what_matters_whole(width: int, shown: str) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    with TrainingDisplay(console, 20_000_000) as display:
        display(Counters(0, 0, 0), {})
        display._begin -= 2000.0
        display(Counters(12_345_678, 1_234_567, 1_234_560), {"return": -123.456})
    line = line_of(console)
    assert len(line) <= width
    assert "12345678/20000000 steps  " in line
    assert "greedy -123.456" in line
    assert "…" not in line
    words = {"left": "  0:20:", "speed": " 617", "updates": "  1234560 updates  ", "bar": "━━"}
    words["episodes"] = "  1234567 episodes  "
    assert {name for name, word in words.items() if word in line} == set(shown.split())


def test_what_a_run_waits_for_is_shown_and_then_said_if_it_took_long(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    now = 100.0
    monkeypatch.setattr("endmark.report.console.time.monotonic", lambda: now)
    with TrainingDisplay(console, 1000) as display:
        with display.preparing("making 8 environments of smax:8m"):
            now = 103.0
            line = display._line()
            now = 125.3
        with display.preparing("making 8 environments of CartPole-v1"):
            now = 125.4
        display(Counters(0, 0, 0), {})
        now = 126.4
        display(Counters(500, 5, 1), {})
        assert display._pace() == (500.0, 1.0), "compiling is no part of the speed"
    assert str(line) == "making 8 environments of smax:8m: 3 s"
    assert "making 8 environments of smax:8m: 25.3 s" in written(console)
    assert "CartPole-v1: 0.1 s" not in written(console)


def line_of(console: Console) -> str:
    """The last line of a live display, without colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written(console)).strip("\r\n").rpartition("\n")[2]


def test_the_summary_table() -> None:
    console = Console(file=io.StringIO(), width=100)
    one = Summary(1, 0.5, -float("inf"), float("inf"), length_mean=3.0, terminated=1.0, truncated=0.0)
    console.print(summary_table("a [red]title[/]", {"greedy": SUMMARY, "random": one}))
    text = written(console)
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for shown in ("0.988", "0.950 to 1.000", "12.3", "75%", "25%"):
        assert shown in rows["greedy"]
    assert "one episode" in rows["random"]
    assert "inf" not in text
    assert "a [red]title[/]" in text
    assert "100" in text


def test_outcomes_have_columns_of_their_own() -> None:
    known, other = {"win": Interval(0.94, 0.9, 0.97)}, {"win [b]": Interval(1.0, -math.inf, math.inf)}
    summaries = {"greedy": replace(SUMMARY, outcomes=known), "random": replace(SUMMARY, outcomes=other)}
    console = Console(file=io.StringIO(), width=140)
    console.print(summary_table("title", summaries))
    text = written(console)
    assert "win [b]" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["greedy"][5:] == ["0.940", "0.900", "to", "0.970", "-", "-", "12.3", "75%", "25%"]
    assert rows["random"][5:] == ["-", "-", "1.000", "one", "episode", "12.3", "75%", "25%"]


def test_an_outcomes_interval_stands_whole_in_a_terminal_of_80() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(
        summary_table("title", {"greedy": replace(SUMMARY, outcomes={"win": Interval(0.9, 0.8, 1)})})
    )
    text = written(console)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert {"0.950", "0.800", "truncated"} <= set(text.split())


def test_the_last_evaluations_outcomes_stand_beside_its_return() -> None:
    greedy = {"return": 1.7345, "win": 0.9375, "[red]": 2.0}
    plain = Console(file=io.StringIO(), force_terminal=False)
    with TrainingDisplay(plain, 1000, plain_every=0.0) as display:
        display(Counters(1003, 80, 70), greedy)
    assert "  greedy 1.734  win 0.94  [red] 2.00  " in written(plain)
    for width, is_there in [(120, True), (40, False)]:
        console = Console(file=io.StringIO(), force_terminal=True, width=width)
        with TrainingDisplay(console, 1000) as display:
            display(Counters(500, 80, 70), greedy)
        line = line_of(console)
        assert "greedy 1.734" in line
        assert ("win 0.94  [red] 2.00" in line) == is_there
        assert len(line) <= width


@pytest.mark.parametrize("n_runs", [2, 6])
def test_a_panel_below_has_the_runs_colours_and_its_own_levels(n_runs: int, tmp_path: Path) -> None:
    runs = {f"run {i}": SEEDS[:1] for i in range(n_runs)}
    below = [Panel("greedy win", {"run 1": SEEDS}, {"lucky": 0.25}), Panel("greedy score", runs, {})]
    learning_curve(runs, tmp_path / "curve.svg", title="an env", levels={"random": 0.2}, below=below)
    text = svg_text(tmp_path / "curve.svg")
    for words in ("greedy win", "greedy score", "lucky", "random", *runs):
        assert text.count(f"<!-- {words} -->") == 1
    assert text.count("<!-- environment steps -->") == 1
    win = text[text.index('<g id="axes_2">') : text.index('<g id="axes_3">')]
    assert "#c1666b" in win, "run 1 is the second of all runs"
    assert "#2a6f97" not in win


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
