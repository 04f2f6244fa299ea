"""The examples run as they are printed, and do what they say."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_own_environment_is_learnt() -> None:
    script = EXAMPLES / "own_environment.py"
    run = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    returns = {name: float(value) for name, value in re.findall(r"(\w+): return ([\d.]+)", run.stdout)}
    assert returns["trained"] >= 0.9
    assert returns["random"] <= 0.3


def test_my_learner_is_audited_repaired_and_clean() -> None:
    script = EXAMPLES / "audit_my_learner.py"
    run = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    before, after = run.stdout.split("repaired: statistics of real steps only")
    assert "leak [poison] 'reward' in padding matters" in before
    assert "leak [" not in after
    assert "No leak found on this batch. That is a test, not a proof." in after
