"""`endmark crossplay`: what it prints, leaves and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from endmark.report import CountsDisplay
from endmark.training import Matrix
from support.commands import status
from support.pool import ENV, FORAGER, IQL, RANDOM, trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "mine"
    trained(IQL, directory)
    return directory


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


def refusal(capsys: pytest.CaptureFixture[str], *args: str | Path) -> str:
    """The one line on stderr; nothing but progress was printed before it."""
    assert status("crossplay", *args) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert all(" cells  " in line for line in captured.out.splitlines())
    return captured.err


def test_everything_at_once(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    who: list[str | Path] = ["--learners", run, FORAGER, "--partners", run, "--held-out", RANDOM]
    outputs = ["--json", "m.json", "--png", "m.png", "--html", "m.html"]
    assert status("crossplay", *who, "--episodes", "6", "--normalise", "best-response", *outputs) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "return of the learner's agents, divided by the best that any got with that partner" in out
    assert "mean of 6 episodes a cell, and its 95 % interval" in out
    assert out.endswith("m.json m.png m.html")
    raw = json.loads(Path("m.json").read_text())
    assert raw["command"].startswith(f"endmark crossplay --learners {run} {FORAGER} --partners")
    assert [player["name"] for player in raw["learners"]] == ["mine", "nearest_food"]
    assert [player["group"] for player in raw["partners"]] == ["training", "held out"]
    assert [sheet["name"] for sheet in raw["sheets"]] == ["return / best", "return", "team return", "length"]
    assert Matrix.from_json(raw).returns.shape == (2, 2, 6)
    assert Path("m.png").read_bytes().startswith(b"\x89PNG")
    assert "--normalise best-response" in Path("m.html").read_text()


def test_options_reach_the_game(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    who = ["--learners", FORAGER, "--partners", RANDOM, "--env", ENV, "--env-arg", "max_player_level=1"]
    options = ["--learner-agents", "1", "--learner-seats", "1", "--seed", "3", "--episodes", "2"]
    assert status("crossplay", *who, *options, "--json", "m.json") == 0
    raw = json.loads(Path("m.json").read_text())
    assert raw["env"] == ENV
    assert raw["env_arg"] == ["max_player_level=1"]
    assert raw["learners"][0]["agents"] == [1]
    assert len(raw["seeds"]) == 2
    assert status("crossplay", *who, "--episodes", "2", "--json", "n.json") == 0
    assert json.loads(Path("n.json").read_text())["seeds"] != raw["seeds"]


def test_what_it_refuses(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    who: list[str | Path] = ["--learners", run, "--partners", RANDOM]
    cases: list[tuple[list[str | Path], str]] = [
        (["--partners", RANDOM], "--learners"),
        (["--learners", run], "want at least one learner and one partner"),
        (["--learners", run, "--partners", "nowhere"], "partner nowhere: no such directory"),
        (["--learners", "empty", "--partners", run], "learner empty: neither a run directory nor a folder"),
        ([*who, "--episodes", "0"], "episodes: given 0, want at least 1"),
        ([*who, "--seed=-1"], "seed: given -1, want at least 0"),
        ([*who, "--learner-seats", "2"], "learner mine: learners: given 2, want 1 <= learners < 2"),
        ([*who, "--normalise", "worst"], "worst"),
        ([*who, "--env", "CartPole-v1"], f"learner {run}: trained on {ENV}, want CartPole-v1"),
        ([*who, "--json", "no/m.json"], "--json no/m.json: cannot be written: No such file or directory"),
        ([*who, "--html", "empty"], "--html empty: cannot be written: Is a directory"),
        ([*who, "--png", "m.txt"], "m.txt: given a picture '.txt', want one of"),
        ([*who, "--held-out", "support.pool:fails"], "partner support.pool:fails: KeyError: 'no such thing'"),
    ]
    for args, message in cases:
        assert message in refusal(capsys, *args)
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]  # nothing was left behind


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with CountsDisplay(Console(), plain_every=0.0) as display:
        for done in range(3):
            display("cells", done, 2)
        display("rows", 1, 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1/2 cells  ")
    assert lines[1:] == ["2/2 cells  0 s left", "1/1 rows  0 s left"]
    console = Console(force_terminal=True, width=80)
    with CountsDisplay(console) as display:
        display("cells", 0, 4)
        display("cells", 1, 4)
    assert "cells" in (out := capsys.readouterr().out)
    assert "1/4" in out
