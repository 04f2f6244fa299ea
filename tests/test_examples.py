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
