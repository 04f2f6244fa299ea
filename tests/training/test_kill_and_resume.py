"""Runs that are killed at random moments and resumed are those that were never killed."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from endmark.run import BEST, CONFIG, REPLAY, WEIGHTS, read_checkpoint, read_metrics
from endmark.training.state_file import STATE
from support.trials import WHOLE, kills

# `make kill-test` asks for more.
KILLS = kills(1)
LBF = "--env lbforaging:Foraging-5x5-2p-1f-v3"
SMALL = "--hidden-size 8 --batch-size 4 --n-envs 4 --eval-episodes 2 --eval-every 900 --log-every 300"
OFF_POLICY = "--replay-frames 2000 --epsilon-steps 2000"
RUNS = {
    "qmix": f"qmix {LBF} {OFF_POLICY} --steps 6000",
    "mappo": f"mappo {LBF} --minibatches 2 --steps 12000",
    "ia2c": "ia2c --env CartPole-v1 --share none --steps 12000",
    "workers": f"vdn {LBF} {OFF_POLICY} --workers 2 --steps 6000",
    "overlap": f"iql {LBF} {OFF_POLICY} --overlap --steps 6000",
    "prioritised": f"qmix {LBF} {OFF_POLICY} --priority-exponent 0.6 --overlap --steps 6000",
    "both": f"maa2c {LBF} --workers 2 --overlap --steps 9000",
}


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


def start(command: str, *paths: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "endmark", *command.split(), *map(str, paths)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


def arguments(name: str) -> str:
    return f"train {RUNS[name]} {SMALL} --seed 1 --final-episodes 2 --save-every 0.02 --run-dir"


def lines_of(directory: Path) -> list[dict[str, float | None]]:
    """All lines but for the time that passed."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(directory)]


def assert_same_run(given: Path, want: Path) -> None:
    assert lines_of(given) == lines_of(want)
    counters, tensors = read_checkpoint(given)
    want_counters, want_tensors = read_checkpoint(want)
    assert counters == want_counters
    assert tensors.keys() == want_tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, want_tensors[name]), name
    for name in (WEIGHTS, BEST, REPLAY):
        files = [directory / name for directory in (given, want)]
        assert files[0].exists() == files[1].exists()
        if files[0].exists():
            assert files[0].read_bytes() == files[1].read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS if WHOLE else ["both"])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_never_was(name: str, tmp_path: Path) -> None:
    moments = random.Random(name)
    whole = tmp_path / "whole"
    began = time.monotonic()
    finish(start(arguments(name), whole))
    seconds = time.monotonic() - began
    kills = 0
    for number in itertools.count():
        if kills >= KILLS:
            break
        killed = tmp_path / str(number)
        process = start(arguments(name), killed)
        for _ in range(4):  # times a run, if it lives so long
            while not (killed / CONFIG).exists():
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            time.sleep(moments.uniform(0.0, seconds / 2))
            if process.poll() is not None:  # it came to its end
                break
            process.kill()
            process.communicate(timeout=60)
            kills += 1
            process = start("resume", killed)
        finish(process)
        assert_same_run(killed, whole)
    print(f"{name}: {kills} kills")


@pytest.mark.skipif(not WHOLE, reason="`make kill-test`: tests/training/test_train.py sends two of them")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_that_a_signal_stopped_goes_on_where_it_was(number: signal.Signals, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finish(start(arguments("qmix"), whole))
    process = start(arguments("qmix"), stopped)
    while not (stopped / STATE).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert f"endmark resume {stopped}" in out
    finish(start("resume", stopped))
    assert_same_run(stopped, whole)


def test_a_run_that_has_ended_goes_on_with_more_steps(tmp_path: Path) -> None:
    short = arguments("qmix").replace("--steps 6000", "--steps 2000")
    finish(start(short, tmp_path / "run"))
    before = lines_of(tmp_path / "run")
    finish(start("resume --steps 3000", tmp_path / "run"))
    after = lines_of(tmp_path / "run")
    assert after[: len(before)] == before
    assert (after[-1]["env_steps"] or 0) >= 3000
    finish(start(short.replace("--steps 2000", "--steps 3000"), tmp_path / "longer"))
    given, want = (read_checkpoint(tmp_path / name)[1] for name in ("run", "longer"))
    assert all(torch.equal(tensor, want[name]) for name, tensor in given.items())
