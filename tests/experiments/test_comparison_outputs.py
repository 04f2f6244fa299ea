"""`endmark compare`: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
import shutil
import sys
from pathlib import Path

import pytest

from endmark.experiments.comparison_charts import ticks
from endmark.experiments.comparison_text import bounds_text, duration, number, value_text
from endmark.experiments.statistics import Estimate
from support.commands import status
from support.compared import make_grid, make_run

FAST = ("--samples", "200")


SPANS = [(0.0, 1.0), (-5.92, 7.0), (0.0, 1e6), (3.0, 3.0), (-1e-5, 2e-5), (99.0, 101.0)]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def test_tables_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    make_grid(Path("runs"))
    (make_run(Path("runs/half"), [1.0], seed=9) / "metrics.jsonl").unlink()
    assert status("compare", "runs", *FAST) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "18 runs, 3 variants, 2 tasks; score: greedy_return of the last evaluation" in out
    for task in range(2):
        assert f"some:Env-v{task}\nnormalised: 0 is " in out
    assert re.search(r"qmix lr=0.001 +3 +0\.\d{3} +0\.\d{3} ", out)
    assert "normalised scores over 2 tasks" in out
    assert "probability that a run of the row has a higher score" in out
    assert "left out: runs/half is no run directory: it has no metrics.jsonl\n" in out
    assert "warning: fewer than 5 seeds: iql on some:Env-v0 (3), " in out


def test_a_narrow_terminal_has_every_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    make_grid(Path("runs"))
    assert status("compare", "runs", *FAST) == 0
    out = capsys.readouterr().out
    for column in ("final", "normalised", "area", "steps to it", "wall clock", "optimality gap"):
        assert column in out
    tables = [line for line in out.splitlines() if "warning" not in line and "normalised:" not in line]
    assert max(map(len, tables)) <= 110  # one sentence
    assert "…" not in out


def test_every_file_has_the_figures_of_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    make_grid(Path("runs"))
    outputs = {"html": "o.html", "json": "o.json", "csv": "o.csv", "latex": "o.tex", "marl-eval": "m.json"}
    options = [word for name, path in outputs.items() for word in (f"--{name}", path)]
    assert status("compare", "runs", "--picture", "o.svg", *options, *FAST) == 0
    assert capsys.readouterr().out.splitlines()[-6:] == [
        "o.svg",
        "o.html",
        "o.json",
        "o.csv",
        "o.tex",
        "m.json",
    ]
    raw = json.loads(Path("o.json").read_text())
    assert raw["command"].startswith("endmark compare runs --picture o.svg --html o.html ")
    assert [task["task"] for task in raw["tasks"]] == ["some:Env-v0", "some:Env-v1"]
    with Path("o.csv").open() as file:
        rows = {(row["task"], row["variant"], row["figure"]): row for row in csv.DictReader(file)}
    for task in raw["tasks"]:
        for variant, cell in task["variants"].items():
            for name, its in cell["figures"].items():
                row = rows.get((task["task"], variant, name))
                if its is None:
                    assert row is None
                else:
                    assert row is not None
                    assert [float(row[key]) for key in its] == list(its.values())
            assert len(cell["runs"]) == 3
            final = cell["figures"]["final"]
            assert f"${number(final['value'])}$" in Path("o.tex").read_text()
    for variant, over in raw["over tasks"].items():
        for name, its in over["figures"].items():
            assert float(rows["all", variant, name]["value"]) == its["value"]
    for pair in raw["probability of improvement"]:
        row = rows["all", pair["variant"], f"probability of improvement over {pair['over']}"]
        assert float(row["value"]) == pair["value"]
    words = re.findall(r"<!-- (.*?) -->", Path("o.svg").read_text())
    assert {"some:Env-v0", "over 2 tasks", "performance profile", "interquartile mean"} <= set(words)
    assert {"iql", "qmix lr=0.001", "qmix lr=0.01"} <= set(words)


def test_latex_has_no_command_of_a_name() -> None:
    make_run(Path("a"), [0.0, 1.0], algorithm="my_own:C$&%#{}~^\\x", env="some_env:E")
    assert status("compare", "a", "--latex", "t.tex", *FAST) == 0
    text = Path("t.tex").read_text()
    marks = r"\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert rf"my\_own:C\$\&\%\#\{{\}}{marks}x & $1.000$ & $1.000$ \\" in text
    assert r" & some\_env:E & all, normalised \\" in text


def test_runs_from_elsewhere_stand_in_the_same_table(capsys: pytest.CaptureFixture[str]) -> None:
    make_grid(Path("runs"))
    assert status("compare", "runs", "--marl-eval", "m.json", *FAST) == 0
    raw = json.loads(Path("m.json").read_text())
    foreign = {"Theirs": {"Env": {"mappo": raw["some"]["Env-v1"]["iql"]}}}
    Path("theirs.json").write_text(json.dumps(foreign))
    capsys.readouterr()
    args = ("runs", "theirs.json", "--rename", "Theirs:Env=some:Env-v1", "--json", "o.json")
    assert status("compare", *args, *FAST) == 0
    tasks = {task["task"]: task["variants"] for task in json.loads(Path("o.json").read_text())["tasks"]}
    assert (
        tasks["some:Env-v1"]["mappo"]["figures"]["final"] == tasks["some:Env-v1"]["iql"]["figures"]["final"]
    )
    assert "warning: no runs: mappo on some:Env-v0" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_figures() -> None:
    make_grid(Path("runs"))
    texts = []
    for seed in ("0", "0", "1"):
        assert status("compare", "runs", "--csv", "o.csv", "--seed", seed, *FAST) == 0
        texts.append(Path("o.csv").read_text())
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "compare: given no directory, want one or several"),
        (["empty"], "empty holds no run: want directories with config.json and metrics.jsonl"),
        (["nowhere"], "nowhere: no such directory, want a run directory or a folder of them"),
        (["half"], "compare: no run is left: half is no run directory: it has no metrics.jsonl"),
        (["run", "--metric", "loss"], "no 'loss': it has greedy_return"),
        (["run", "--metric", "greedy_retur"], "no 'greedy_retur': did you mean greedy_return?"),
        (["run", "--score", "absolute"], "compare: no run is left: run: no absolute score: want episodes"),
        (["run", "--bounds", "some:Env-v1"], "bounds: given 'some:Env-v1', want TASK=low,high"),
        (["run", "--bounds", "some:Env-v1=3,x"], "bounds: given 'some:Env-v1=3,x', want TASK=low,high"),
        (["run", "--bounds", "some:Env-v1=3,3"], "want TASK=low,high with low < high, both finite"),
        (["run", "--bounds", "other=0,1"], "bounds: given 'other', want one of some:Env-v1"),
        (["run", "--rename", "x"], "rename: given 'x', want TASK=NAME"),
        (["run", "--rename", "x=y"], "rename: given 'x', want one of some:Env-v1"),
        (["run", "--samples", "9"], "samples: given 9, want at least 100"),
        (["run", "--picture", "x.doc"], "x.doc: given a picture '.doc', want one of"),
        (["run", "--html", "no/x.html"], "--html no/x.html: cannot be written: No such file or directory"),
        (["run", "run/config.json"], "run/config.json: algorithm/name: given 'qmix', want an object"),
    ],
)
def test_refusals_are_one_line(args: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("run"), [0.5, 1.0])
    (make_run(Path("half"), [0.5]) / "metrics.jsonl").unlink()
    Path("empty").mkdir()
    assert status("compare", *args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert says in err


def test_a_picture_without_matplotlib_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    make_run(Path("run"), [0.5, 1.0])
    assert status("compare", "run", "--picture", "x.png") == 2
    assert 'pip install "endmark[plot]"' in capsys.readouterr().err
    assert status("compare", "run", *FAST) == 0


def test_one_run_without_an_interval_in_every_output() -> None:
    make_run(Path("run"), [0.5])
    outputs = (
        "--picture",
        "o.png",
        "--html",
        "o.html",
        "--json",
        "o.json",
        "--csv",
        "o.csv",
        "--latex",
        "o.tex",
    )
    assert status("compare", "run", *outputs, *FAST) == 0
    raw = json.loads(Path("o.json").read_text())
    figures = raw["tasks"][0]["variants"]["qmix"]["figures"]
    assert figures["final"] == {"value": 0.5, "low": None, "high": None}
    assert figures["normalised"] is None  # one evaluation has no scale
    assert raw["over tasks"] == {}
    assert "NaN" not in Path("o.json").read_text()
    shutil.rmtree("run")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.000"), (-0.0001, "0.000"), (9.9996, "10.00"), (-12.345, "-12.35"), (123.4, "123.4")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_words() -> None:
    assert value_text(None) == value_text(Estimate(math.nan, 0.0, 0.0)) == "-"
    assert bounds_text(Estimate(1.0, -math.inf, math.inf)) == bounds_text(None) == ""
    assert bounds_text(Estimate(1.0, 0.5, 2.0)) == "0.500 to 2.000"
    assert [duration(s) for s in (None, 59.0, 61.0, 3660.0)] == ["-", "59 s", "1 min", "1 h 01 min"]


@pytest.mark.parametrize(("low", "high"), SPANS)
def test_ticks_are_round_and_cover_the_numbers(low: float, high: float) -> None:
    made = ticks(low, high)
    assert made[0] <= low
    assert made[-1] >= high
    assert 2 <= len(made) <= 8
    gaps = {round(b - a, 9) for a, b in itertools.pairwise(made)}
    assert len(gaps) == 1
