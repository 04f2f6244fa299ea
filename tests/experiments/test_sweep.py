"""Sweeps on this machine: killed and started again, stopped, with cells that fail, grown and contradicted."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from endmark.disk import owned
from endmark.experiments.cells import cells_of
from endmark.experiments.directory import Experiment
from endmark.experiments.grid import read_grid
from endmark.experiments.local import Processes
from endmark.experiments.sweep import run_sweep
from endmark.run import is_finished
from support.commands import status
from support.sweeps import SMALL, assert_same_runs, kill, runs_in, start
from support.trials import WHOLE, kills

# `make sweep-kill-test` asks for more.
KILLS = kills(1)
GRID = f"""
algorithms = {["iql", "qmix", "ippo"] if WHOLE else ["iql", "ippo"]}
tasks = "matrix:climbing"
seeds = "0:{10 if WHOLE else 2}"
{SMALL}
steps = {240 if WHOLE else 120}
eval_every = 40
log_every = 20
"""
N_CELLS = 30 if WHOLE else 4
TINY = ["--set", "steps=20", "--set", "eval_episodes=1", "--set", "n_envs=2"]
FRAGILE = """
import os
from endmark.envs import make


def fragile():
    env = make("matrix:climbing")
    if not os.path.exists("mended"):
        env.reset = refuse
    return env


def refuse(seed):
    raise RuntimeError("no\\nlicence")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path


def n_starts(directory: Path) -> int:
    """How often a cell began or went on."""
    logs = [path.read_text() for path in (directory / "logs").glob("*.log")]
    return sum(len(re.findall(r"(?m)(begins|goes on)$", text)) for text in logs)


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_ends_as_one_that_never_was(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = random.Random(0)
    began = time.monotonic()
    assert status("sweep", "grid.toml", "--directory", "whole", "--jobs", "2") == 0
    seconds = time.monotonic() - began
    kills = 0
    while kills < KILLS:
        before = n_starts(here / "killed")
        process = start("grid.toml", "--directory", "killed", "--jobs", "2")
        while n_starts(here / "killed") == before and process.poll() is None:
            time.sleep(0.01)
        while not runs_in(here / "killed"):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, seconds / (KILLS + 1) if WHOLE else 1.0))
        if process.poll() is not None:  # it came to its end before
            process.communicate()
            break
        finished = [name for name in runs_in(here / "killed") if is_finished(here / "killed" / name)]
        kill(process, alone=kills % 2 == 0)
        kills += 1
        assert all(is_finished(here / "killed" / name) for name in finished)
    capsys.readouterr()
    assert status("sweep", "--directory", "killed", "--jobs", "2") == 0
    assert f"{N_CELLS} of {N_CELLS} cells finished: killed" in capsys.readouterr().out
    assert_same_runs(here / "killed", here / "whole")
    times = {path: path.stat().st_mtime_ns for path in (here / "killed").glob("*/*")}
    assert status("sweep", "grid.toml", "--directory", "killed") == 0
    assert times == {path: path.stat().st_mtime_ns for path in (here / "killed").glob("*/*")}
    logs = [path.read_text() for path in (here / "killed" / "logs").iterdir()]
    assert len(logs) == N_CELLS
    assert kills == KILLS or WHOLE
    for text in logs:
        assert len(re.findall(r"(?m)^\S+ \S+  finished$", text)) == 1, "nothing is done twice"
    resumed = sum(text.count("goes on") for text in logs)
    print(f"{N_CELLS} cells, {kills} kills, {resumed} times a cell went on; {seconds:.0f} s without a kill")


def test_a_signal_stops_the_cells_with_their_states_saved(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "grid.toml").write_text(GRID.replace("steps = 120", "steps = 1000000").replace("0.05", "1000"))
    runs = here / "runs" / "grid"

    def stop_when_two_run() -> None:
        while len(list(runs.glob("*/metrics.jsonl"))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop_when_two_run)
    stopper.start()
    assert status("sweep", "grid.toml", "--jobs", "2") == 3
    stopper.join()
    left = f"0 of {N_CELLS} cells finished, {N_CELLS} to go on with: runs/grid"
    assert left in capsys.readouterr().out
    assert len(list(runs.glob("*/state.safetensors"))) == 2
    for run in runs.glob("*/config.json"):
        assert not is_finished(run.parent)
        with owned(run.parent):  # nobody trains there any more
            pass


def test_a_stop_before_a_cell_trains_is_no_failure(here: Path) -> None:
    experiment, cells, stop = (
        Experiment(here / "out"),
        cells_of(read_grid(here / "grid.toml")),
        threading.Event(),
    )
    with Processes(experiment, 2) as pool:
        tally = run_sweep(experiment, cells, pool, stop, lambda _tally, _running: stop.set())
    assert tally.failed == {}
    assert len(tally.stopped) == len(cells)


def test_cells_that_fail_are_told_and_tried_again_only_if_asked(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "broken.py").write_text(FRAGILE)
    words = ["iql", "--env", "matrix:climbing,broken:fragile", "--directory", "out", *TINY]
    assert status("sweep", *words) == 1
    name = "iql-broken-fragile-seed0"
    log = Path("out") / "logs" / f"{name}.log"
    said = capsys.readouterr().out
    assert re.search(rf"failed: {name}: .*no licence", said)
    assert str(log) in said
    assert "1 of 2 cells finished, 1 failed (--retry tries them again): out" in said
    assert "RuntimeError: no\nlicence" in log.read_text()
    (here / "mended").touch()
    assert status("sweep", "--directory", "out") == 1
    assert f"failed: {name}" in capsys.readouterr().out
    assert len(re.findall(r"begins|goes on", log.read_text())) == 1
    assert status("sweep", "--directory", "out", "--retry") == 0
    assert "2 of 2 cells finished: out" in capsys.readouterr().out
    assert json.loads((here / "out" / "failed.json").read_text()) == {}
    assert status("sweep", "--directory", "out", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "0 of 2 cells are left" in out
    assert re.search(r"iql on broken-fragile +1 +1 +0 +0 +20 ", out)


def test_a_grid_that_grows_and_one_that_contradicts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "iql", "--env", "matrix:climbing", "--directory", "out"]
    small = TINY
    assert status(*words, *small) == 0
    assert "1 of 1 cells finished" in capsys.readouterr().out
    kept = (here / "out" / "iql-matrix-climbing-seed0" / "config.json").stat().st_mtime_ns
    assert status(*words, *small, "--seeds", "0:2", "--set", "gamma=0.99,0.9") == 0
    assert "4 of 4 cells finished" in capsys.readouterr().out
    grown = [f"gamma={gamma}-seed{seed}" for gamma, seed in [(0.9, 0), (0.9, 1), (0.99, 1)]]
    names = ["iql-matrix-climbing-seed0", *(f"iql-matrix-climbing-{name}" for name in grown)]
    assert runs_in(here / "out") == sorted(names), "the run that was there is the one with gamma 0.99"
    assert (here / "out" / "iql-matrix-climbing-seed0" / "config.json").stat().st_mtime_ns == kept
    assert status(*words, "--set", "steps=30") == 2
    what = "holds a run with steps 20, and the grid has 30; delete it to run it anew"
    assert capsys.readouterr().err == f"endmark: out/iql-matrix-climbing-seed0 {what}\n"
    assert status(*words, *small, "--seeds", "0", "--dry-run") == 0
    (here / "out" / "iql-matrix-climbing-seed0" / "config.json").write_text("{")
    assert status(*words, *small) == 2
    assert re.fullmatch(
        r"endmark: out/iql-matrix-climbing-seed0/config.json is no JSON: .*\n", capsys.readouterr().err
    )
    (here / "out" / "iql-matrix-climbing-seed0" / "config.json").unlink()
    assert status(*words, *small) == 2
    assert "is no run directory: it has best.safetensors and no config.json" in capsys.readouterr().err


def test_directories_that_belong_to_other_processes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["iql", "--env", "matrix:climbing", "--directory", "out", *TINY]
    with owned(here / "out"):
        assert status("sweep", *words) == 2
    assert capsys.readouterr().err == "endmark: out belongs to another process, which trains in it\n"
    log = here / "out" / "logs" / "iql-matrix-climbing-seed0.log"
    is_owned = threading.Event()

    def own_until_it_was_tried() -> None:
        with owned(here / "out" / "iql-matrix-climbing-seed0"):
            is_owned.set()
            while not log.exists() or "in use" not in log.read_text():
                time.sleep(0.02)

    owner = threading.Thread(target=own_until_it_was_tried)
    owner.start()
    is_owned.wait()
    assert status("sweep", *words) == 0
    owner.join()
    assert "1 of 1 cells finished: out" in capsys.readouterr().out
    assert "finished" in log.read_text()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "sweep: given nothing, want GRID.toml, algorithms such as qmix,mappo, or --directory"),
        ("--directory .", ". is no experiment directory: it has no grid.json"),
        ("--directory nowhere", "nowhere: no such directory, want that of a sweep, or a grid"),
        ("nowhere.toml", "nowhere.toml: No such file or directory"),
        ("grid.toml --seeds 0:2", "--seeds: given beside a grid that has it, want algorithms before it"),
        ("grid.toml --jobs 0", "jobs: given 0, want at least 1"),
        ("qmx --env matrix:climbing", "unknown algorithm 'qmx': did you mean qmix?"),
        (
            "qmix,iql --env matrix:climbin",
            "cell qmix-matrix-climbin-seed0: unknown environment 'matrix:climbin': did you mean matrix",
        ),
        ("maddpg --env CartPole-v9", "cell maddpg-CartPole-v9-seed0: unknown environment 'CartPole-v9'"),
    ],
)
def test_bad_input_is_one_line(words: str, line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("sweep", *words.split()) == 2
    assert capsys.readouterr().err.startswith(f"endmark: {line}")
    assert sorted(path.name for path in here.iterdir()) == ["grid.toml"] or not runs_in(
        here / "runs" / "sweep"
    )
