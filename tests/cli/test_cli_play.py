"""`endmark play`: the film, what it says, and what it refuses."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from endmark.algorithms import IPPOConfig, QMIXConfig
from endmark.run import WEIGHTS
from endmark.training import TrainConfig, evaluate, load, train
from support.commands import status
from support.pictured import SIZE

CONFIG = TrainConfig(
    QMIXConfig(hidden_size=8, batch_size=2, replay_frames=1_100),
    "support.pictured:Pictured",
    steps=60,
    n_envs=2,
    eval_every=30,
    eval_episodes=2,
)


def make_run(directory: Path, **changes: Any) -> Path:
    train(dataclasses.replace(CONFIG, **changes), directory, lambda *_: None)
    return directory


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def n_frames(path: Path) -> int:
    with Image.open(path) as gif:
        count: int = gif.n_frames  # type: ignore[attr-defined]
        return count


def test_the_film_has_each_frame_of_the_episodes_that_eval_plays(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gif = tmp_path / "film.gif"
    assert status("play", trained, "--gif", gif, "--episodes", "3", "--seed", "1") == 0
    out, err = capsys.readouterr()
    assert err == ""
    *episodes, where = out.splitlines()
    assert where == str(gif)
    found = [re.fullmatch(r"episode (\d): return (\S+), (\d+) steps, (\w+)", line) for line in episodes]
    returns, lengths, ends = zip(*[(float(m[2]), int(m[3]), m[4]) for m in found if m], strict=True)
    config, learner = load(trained, WEIGHTS)
    summary = evaluate(config, learner.greedy_policy(2), 3, seed=1)
    assert sum(returns) / 3 == pytest.approx(summary.return_mean)
    assert sum(lengths) / 3 == pytest.approx(summary.length_mean)
    assert ends.count("terminated") / 3 == pytest.approx(summary.terminated)
    assert n_frames(gif) == sum(lengths) + 3
    with Image.open(gif) as film:
        assert film.size == SIZE[::-1]
        assert film.info["duration"] == 100 or film.n_frames == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("env", ["support.pictured:Pictured", "support.pictured:Shown"])
@pytest.mark.parametrize(
    "algorithm", [CONFIG.algorithm, IPPOConfig(hidden_size=8, batch_size=2, agent="attention")]
)
def test_values_stand_beside_the_picture(env: str, algorithm: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", env=env, algorithm=algorithm)
    assert status("play", run, "--values", "--checkpoint", "best", "--fps", "3") == 0
    with Image.open(run / "play.gif") as film:
        assert film.size[0] > SIZE[1] + 200
        assert film.convert("RGB").getpixel((2, film.size[1] // 2)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--episodes", "0"], "episodes: given 0, want at least 1"),
        (["--seed", "-1"], "seed: given -1, want at least 0"),
        (["--fps", "0"], "fps: given 0.0, want at least 0.1, and finite"),
        (["--fps", "nan"], "fps: given nan, want at least 0.1, and finite"),
        (["--gif", "nowhere/film.gif"], "nowhere/film.gif: there is no directory nowhere"),
    ],
)
def test_refusals(args: list[str], says: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("play", trained, *args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"endmark: {says}\n"


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ("Blind", r"seed \d+, frame 0: draws no pictures: it has no method render\(\)"),
        ("Growing", r"a picture of the film: given shape \(25, 36, 3\), want \(24, 36, 3\) again"),
    ],
)
def test_an_environment_that_cannot_be_filmed(
    env: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", env=f"support.pictured:{env}")
    assert status("play", run) == 2
    err = capsys.readouterr().err
    assert re.search(says, err)
    assert err.count("\n") == 1
    assert not list(run.glob("play.gif*"))


@pytest.mark.parametrize("args", [[], ["--values"]])
def test_without_pillow(
    args: list[str], trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    assert status("play", trained, *args) == 2
    assert capsys.readouterr().err == 'endmark: pictures need Pillow: pip install "endmark[plot]"\n'
