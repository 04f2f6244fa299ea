"""`python -m benchmarks`: what it prints and writes, and the one line when it cannot."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.__main__ import main
from benchmarks.line import fit
from benchmarks.measure import Spread
from benchmarks.picture import picture
from benchmarks.results import Floor, Goal, Results, Row
from benchmarks.run import SECTIONS
from benchmarks.table import amount, markdown, sheets

from benchmarks import acting, baseline
from endmark.envs import Environment, make
from endmark.envs.errors import EnvError


@pytest.mark.slow
def test_the_smoke_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    threads = torch.get_num_threads()
    main(["--quick", "--json", str(path), "--picture", str(tmp_path / "bench.png")])
    assert torch.get_num_threads() == threads
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == len(SECTIONS) + 1  # a line for each, and the floor
    found = json.loads(path.read_text())
    assert found.keys() == {"environment", "floors", "rows"}
    assert found["environment"]["threads"] == 1
    assert found["environment"]["gpu"].startswith("not measured") or torch.cuda.is_available()
    assert found["floors"]["cpu"].keys() == {"gemm", "gemm_own", "copy"}
    assert {row["section"] for row in found["rows"]} == SECTIONS.keys()
    for row in found["rows"]:
        assert row["goal"] is None, "a smoke run reaches nothing"
        for name in ("endmark", "baseline") if row["baseline"] else ("endmark",):
            assert 0 < row[name]["low"] <= row[name]["median"] <= row[name]["high"]
        if row["section"] in ("update", "mappo", "steps", "batch-size", "end-to-end"):
            assert row["details"]["gradient_distance"] <= 1e-5
    memory = [row["endmark"]["median"] for row in found["rows"] if "memory; limit" in row["what"]]
    assert len(memory) == 3
    assert len(set(memory)) == 1
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    for section in SECTIONS.values():
        assert section.title in out
    assert "must reach" not in out


def test_markdown_of_some_sections(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--only", "targets, acting", "--markdown"])
    out = capsys.readouterr().out
    assert "**Targets**" in out
    assert "**Acting" in out
    assert "**Replay**" not in out
    assert "torch.mm" not in out  # no floor, as no section is held against it
    tables = re.findall(r"(?:^\|.*\|\n)+", out, re.MULTILINE)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "update,speed"], "only: given 'speed', want some of update,mappo,steps,"),
        (["--threads", "0"], "threads: given 0, want at least 1"),
        (["--only", "acting", "--picture", "x.png"], "picture: needs the section steps, too"),
        (["--json", "nowhere/x.json"], "nowhere/x.json: there is no directory nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_measured(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.run._run", lambda *_: pytest.fail("it measured"))
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert message in err


def test_a_wrong_result_is_refused_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = baseline.padded_lambda_return
    monkeypatch.setattr(baseline, "padded_lambda_return", lambda *given: right(*given) + 1)
    path = tmp_path / "bench.json"
    with pytest.raises(SystemExit) as stop:
        main(["--quick", "--json", str(path)])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"^benchmarks: the loss differs by .* not timed$", err, re.MULTILINE)
    assert not path.exists()


def test_without_foraging_it_plays_something_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    def only_gymnasium(env_id: str) -> Environment:
        if env_id == acting.FORAGING:
            raise EnvError("not installed")
        return make(env_id)

    monkeypatch.setattr(acting, "make", only_gymnasium)
    main(["--quick", "--only", "rollout"])
    assert "CartPole-v1" in capsys.readouterr().out


def spread(*values: float) -> Spread:
    return Spread.of(values)


def row(section: str, what: str, ours: float, theirs: float, **named: Any) -> Row:
    return Row(section, what, "s", spread(ours), spread(theirs), spread(theirs / ours), **named)


def results(rows: list[Row]) -> Results:
    at: dict[str, str | int] = {
        "cpu": "C",
        "cores": 2,
        "threads": 1,
        "torch": "2",
        "python": "3",
        "kernels": "torch",
        "gpu": "none",
    }
    floor = Floor(spread(100e9), spread(80e9), spread(30e9))
    return Results({**at, "torchrl": "not installed"}, {"cpu": floor}, rows)


def test_what_is_reached() -> None:
    assert [Goal(2.5).met(ratio) for ratio in (2.4, 2.5, 2.6)] == [False, True, True]
    assert [Goal(at_most=0.35).met(ratio) for ratio in (0.34, 0.35, 0.36)] == [True, True, False]
    found = results(
        [row("targets", "a", 1.0, 3.0, goal=Goal(2.5)), row("targets", "b", 1.0, 2.0, goal=Goal(2.5))]
    )
    assert [row["reached"] for row in found.to_json()["rows"]] == [True, False]
    assert [cells[-1] for cells in next(sheets(found)).rows] == [">= 2.5 yes", ">= 2.5 no"]
    assert found.to_json()["rows"][0]["goal"] == {"at_least": 2.5}


def test_shares_of_the_floor_are_of_the_right_floor() -> None:
    details = {"endmark_flops_per_second": 120e9, "baseline_flops_per_second": 50e9}
    stored = {"bytes_per_second": 15e9}
    found = results(
        [
            row("update", "full", 1.0, 2.0, details=details),
            Row("replay", "sample", "s", spread(1.0), spread(2.0), details=stored),
        ]
    )
    floor = [*sheets(found)][-1]
    assert [cells[1:] for cells in floor.rows] == [
        ("100.0 GFLOP", "100 %"),
        ("80.0 GFLOP", "80 %"),
        ("120.0 GFLOP", "120 %"),
        ("50.0 GFLOP", "50 %"),
        ("30.0 GB", "100 %"),
        ("15.0 GB", "50 %"),
    ]
    assert "| endmark, full | 120.0 GFLOP | 120 % |" in markdown(found)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.284, "s", "2.28 s"),
        (0.0879, "s", "87.9 ms"),
        (0.1623, "s", "162 ms"),
        (5.18e-5, "s", "51.8 µs"),
        (1923.4, "steps/s", "1,923 steps/s"),
        (137427.9, "bytes", "137 kB"),
        (770.0, "bytes", "770 B"),
    ],
)
def test_amounts_have_three_digits(value: float, unit: Any, text: str) -> None:
    assert amount(spread(value), unit) == text


def test_the_line_through_points() -> None:
    line = fit([(100.0, 0.7), (200.0, 1.2), (400.0, 2.2)])
    assert line.slope == pytest.approx(0.005)
    assert line.intercept == pytest.approx(0.2)
    assert line.r2 == pytest.approx(1)
    assert str(line) == "5000.0 µs a step + 200.0 ms"
    assert fit([(0.0, 1.0), (1.0, 3.0), (2.0, 2.0)]).r2 < 0.5


def test_the_picture_says_what_the_line_is(tmp_path: Path) -> None:
    steps = [
        row("steps", "", 1e-5 * n + 0.004, 3e-5 * n, details={"n_steps": n, "mix": mix})
        for mix in ("all 120 steps", "uniform 20..100", "one 120, rest 10..50")
        for n in (1000, 2000, 4000)
    ]
    update = [row("update", f"{ratio}", 0.1, 0.1 * ratio, details={"n_episodes": 32}) for ratio in (2, 5, 8)]
    picture(results([*steps, *update]), tmp_path / "bench.svg")
    text = (tmp_path / "bench.svg").read_text("utf-8")
    assert "<!-- endmark: 10.0 µs a step + 4.0 ms -->" in text
    note = next(sheet.note for sheet in sheets(results(steps)))
    assert note.endswith("endmark on one line: 10.0 µs a step + 4.0 ms, R² = 1.000")
    for ratio in ("2.0x", "5.0x", "8.0x"):
        assert f"<!-- {ratio} -->" in text
