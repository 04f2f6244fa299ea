"""Run directories of killed runs: each can be inspected and plotted, whatever the moment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from endmark.run import read_metrics
from support.commands import status
from support.trials import kills

KILLS = kills(6)

# One process that has imported everything forks a run for each kill, so that none waits for imports.
CHILD = """
import os, random, signal, sys, time
from pathlib import Path
import endmark.cli.train
from endmark.cli import main
from endmark.envs import make

directory, moments = Path(sys.argv[1]), random.Random(0)
options = sys.argv[3:]
make("CartPole-v1").close()
for number in range(int(sys.argv[2])):
    run = directory / str(number)
    pid = os.fork()
    if pid == 0:
        sys.stdout = open(os.devnull, "w")
        main(["train", *options, "--run-dir", str(run)])
        os._exit(0)
    while not (run / "config.json").exists():
        time.sleep(0.001)
    time.sleep(0.0 if number == 0 else moments.uniform(0.0, 1.0))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
SMALL = "--n-envs 2 --batch-size 4 --hidden-size 8 --eval-episodes 2 --eval-every 400 --log-every 100"
RUNS = {
    "iql": f"iql --env CartPole-v1 --replay-frames 2100 {SMALL} --save-every 0.2 --steps 1000000",
    "ippo": f"ippo --env CartPole-v1 {SMALL} --save-every 0.2 --steps 1000000",
}


@pytest.mark.parametrize("name", RUNS)
def test_every_killed_run_can_be_inspected_and_plotted(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = [sys.executable, "-c", CHILD, str(tmp_path), str(KILLS), *RUNS[name].split()]
    subprocess.run(child, check=True, env=env, timeout=600)
    seen = set()
    for number in range(KILLS):
        run = tmp_path / str(number)
        assert not (run / "replay.safetensors").exists()
        assert status("inspect", run) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert f"{name} on CartPole-v1, seed 0" in out
        saved, stored = (run / "state.safetensors").exists(), "verdict" in out
        assert ("`endmark resume` goes on from there" in out) == saved
        assert stored or "no episodes are stored" in " ".join(out.split())
        assert stored <= saved
        seen.add((saved, stored))
        assert status("inspect", run, "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert told["run"]["algorithm"] == name
        assert ("lengths" in told) == stored

        lines = list(read_metrics(run)) if (run / "metrics.jsonl").exists() else []
        points = [line for line in lines if "greedy_return" in line]
        assert len(told["run"]["evaluations"]) == len(points)
        assert status("plot", run) == (0 if points else 2)
        out, err = capsys.readouterr()
        if points:
            assert re.search(rf"{number} +{len(points)} ", out)
            assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
        else:
            assert err == f"endmark: {run}: no greedy_return yet, so nothing to draw\n"
    assert (False, False) in seen, "one was killed before its first state"
    assert len(seen) > 1, "and one after it"
