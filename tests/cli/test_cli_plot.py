"""`endmark plot`: what it draws, prints and refuses; and the curve that `endmark train` leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import endmark.cli.train
from endmark.cli import main
from endmark.report import TrainingDisplay
from endmark.run import Counters

PNG = b"\x89PNG"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def make_run(
    name: str,
    *points: float | None,
    seed: int = 0,
    algorithm: str = "qmix",
    lr: float = 0.0005,
    **options: Any,
) -> str:
    """A run directory with a greedy return every 1000 steps, and lines of training between."""
    config = {"algorithm": {"name": algorithm, "lr": lr}, "env": "some:Env-v1", "seed": seed, **options}
    directory = Path(name)
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    lines: list[dict[str, float | None]] = []
    for i, point in enumerate(points, 1):
        lines += [{"env_steps": 1000 * i, "loss": 1 / i}, {"env_steps": 1000 * i, "greedy_return": point}]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return name


def plot(*args: str) -> int:
    try:
        main(["plot", *args])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else -1
    return 0


def labels_of(path: str) -> list[str]:
    """The words of a picture; matplotlib keeps those as comments."""
    return re.findall(r"<!-- (.*?) -->", Path(path).read_text())


def test_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert plot(make_run("run", 0.25, 0.75, 0.5)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"run +3 +0\.5 +3,000 +0\.75 +2,000\b", out)
    assert out.splitlines()[-1] == "run/curve.png"
    assert Path("run/curve.png").read_bytes().startswith(PNG)


def test_one_point_is_a_dot_and_two_are_a_line() -> None:
    dot = r"<g clip-path[^>]*>\s*<use "
    assert plot(make_run("one", 0.25), "--out", "one.svg") == 0
    assert re.search(dot, Path("one.svg").read_text())
    assert plot(make_run("two", 0.25, 0.5), "--out", "two.svg") == 0
    assert not re.search(dot, Path("two.svg").read_text())


def test_seeds_are_one_group_and_labels_say_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(f"a{seed}", 0.1, 0.2, seed=seed, save_every=float(seed + 1)) for seed in range(3)]
    runs += [make_run(f"b{seed}", 0.3, 0.4, seed=seed, lr=0.01) for seed in range(2)]
    runs += [make_run("c", 0.5, 0.6, algorithm="ippo")]
    assert plot(*runs, "--out", "several.svg") == 0
    words = labels_of("several.svg")
    assert {"qmix lr=0.0005 (3 seeds)", "qmix lr=0.01 (2 seeds)", "ippo", "some:Env-v1"} <= set(words)
    assert plot(*runs) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "curves.png"
    assert Path("curves.png").read_bytes().startswith(PNG)
    assert plot(runs[0], runs[3], "--out", "two.svg", "--title", r"no $\frac{ formula$") == 0
    assert {"lr=0.0005", "lr=0.01", r"no $\frac{ formula$"} <= set(labels_of("two.svg"))


def test_runs_that_differ_in_nothing_have_their_directories_names() -> None:
    first, second, other = (
        make_run("first", 0.1),
        make_run("second", 0.2),
        make_run("o", 0.3, env="other:Env"),
    )
    assert plot(first, second, other, "--out", "runs.svg") == 0
    words = labels_of("runs.svg")
    assert {"some:Env-v1 first", "some:Env-v1 second", "other:Env"} <= set(words)
    assert plot(first, second, "--out", "runs.svg") == 0
    assert {"first", "second"} <= set(labels_of("runs.svg"))


def test_many_long_labels_stand_whole_below_the_picture() -> None:
    names = [f"my_package.my_module:AnAlgorithmWithALongName{i}" for i in range(8)]
    assert plot(*[make_run(f"r{i}", 0.1, 0.9, algorithm=name) for i, name in enumerate(names)]) == 0
    assert plot(*[f"r{i}" for i in range(8)], "--out", "many.svg") == 0
    assert set(names) <= set(labels_of("many.svg"))


def test_runs_without_an_evaluation_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    empty, null, run = make_run("empty"), make_run("null", None), make_run("run", 0.5)
    bare = make_run("bare")
    Path("bare/metrics.jsonl").unlink()
    assert plot(empty, run, null, bare) == 0
    out = capsys.readouterr().out
    for name in (empty, null, bare):
        assert f"left out, for it has no greedy_return yet: {name}\n" in out
    for names in ([empty], [null, bare]):
        assert plot(*names) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err == f"endmark: {', '.join(names)}: no greedy_return yet, so nothing to draw\n"


def test_another_metric(capsys: pytest.CaptureFixture[str]) -> None:
    assert plot(make_run("run", 0.1, 0.2), "--metric", "loss", "--out", "loss.svg") == 0
    assert "loss" in labels_of("loss.svg")
    assert plot("run", "--metric", "los") == 2
    assert "run/metrics.jsonl has no 'los': did you mean loss?" in capsys.readouterr().err


def test_a_number_that_is_missing_is_left_out_and_what_is_none_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = Path(make_run("run", 0.5)) / "metrics.jsonl"
    sound = metrics.read_text() + '{"env_steps": 2000, "greedy_return": null}\n'
    metrics.write_text(sound)
    assert plot("run") == 0
    assert re.search(r"run +1 +0\.5 +1,000 ", capsys.readouterr().out)
    for number in ("NaN", "Infinity", "1" + "0" * 400, '"3"', "true", "[1]"):
        metrics.write_text(f'{sound}{{"env_steps": 3000, "greedy_return": {number}}}\n')
        assert plot("run") == 2
        assert "metrics.jsonl, line " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["run", "--out", "curve.doc"], "curve.doc: given a picture '.doc', want one of "),
        (["run", "--out", "curve"], "curve: given a picture '', want one of "),
        (["run", "--out", "nowhere/curve.png"], "nowhere/curve.png: No such file or directory"),
        (["run", "nowhere"], "nowhere is no run directory: it has no config.json"),
        (["damaged"], "damaged/metrics.jsonl, line 1 is no JSON"),
        ([], "given no run directory"),
    ],
)
def test_refusals(args: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("run", 0.5)
    make_run("damaged")
    Path("damaged/metrics.jsonl").write_text("{\n")
    assert plot(*args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert says in err


def test_the_table_alone_without_matplotlib(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    assert plot(make_run("run", 0.5)) == 0
    out = capsys.readouterr().out
    assert re.search(r"run +1 +0\.5 ", out)
    assert 'no picture: pip install "endmark[plot]"' in out
    assert not Path("run/curve.png").exists()


def test_a_run_that_a_signal_stopped_has_a_curve(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stops(TrainingDisplay):
        def __call__(self, counters: Counters, greedy: Mapping[str, float]) -> None:
            super().__call__(counters, greedy)
            if greedy:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(endmark.cli.train, "TrainingDisplay", Stops)
    small = "--eval-every 100 --n-envs 2 --eval-episodes 1 --batch-size 4 --replay-frames 2100"
    with pytest.raises(SystemExit) as stop:
        main(["train", "iql", "--env", "CartPole-v1", "--run-dir", "run", *small.split()])
    assert stop.value.code == 3
    assert "learning curve: run/curve.png" in capsys.readouterr().out
    assert Path("run/curve.png").read_bytes().startswith(PNG)
