"""The examples run as they are printed, and do what they say."""

import importlib
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from endmark.audit import audit
from endmark.envs import check, make, picture_of
from endmark.episodes import EpisodeBatch
from endmark.episodes.files import save_episodes
from endmark.policies import RandomPolicy
from endmark.rollout import InProcess, play

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_own_environment_is_learnt() -> None:
    script = EXAMPLES / "own_environment.py"
    run = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    returns = {name: float(value) for name, value in re.findall(r"(\w+): return ([\d.]+)", run.stdout)}
    assert returns["trained"] >= 0.9
    assert returns["random"] <= 0.3


def test_padded_episodes_of_a_run_and_their_masks(tmp_path: Path) -> None:
    """On episodes of a real game, random play on CartPole, each of which is cut after 20 steps or ended."""
    envs = InProcess([make("CartPole-v1", episode_limit=20) for _ in range(4)])
    policy = RandomPolicy(torch.Generator().manual_seed(0))
    episodes = play(envs, policy, range(40))
    save_episodes(episodes, tmp_path / "replay.safetensors")
    script = [sys.executable, "-W", "error", str(EXAMPLES / "starcraft_masks.py"), str(tmp_path)]
    run = subprocess.run(script, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("filled (32, 121, 1), terminated (32, 121, 1), obs (32, 121, 1, 4)")
    counts = re.search(r"the usual mask counts (\d+) steps, the exact one (\d+)", run.stdout)
    assert counts is not None
    cut = run.stdout.count("the episode was cut after 20 steps")
    assert cut > 0
    assert int(counts[1]) - int(counts[2]) == cut, "one step too many at each cut"
    padded = EpisodeBatch.from_padded(load_file(tmp_path / "padded.safetensors"), episodes.spec)
    assert padded.n_steps == int(counts[2])


def test_my_learner_is_audited_repaired_and_clean() -> None:
    script = EXAMPLES / "audit_my_learner.py"
    run = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    before, after = run.stdout.split("repaired: statistics of real steps only")
    assert "leak [poison] 'reward' in padding matters" in before
    assert "leak [" not in after
    assert "No leak found on this batch. That is a test, not a proof." in after


def test_the_environment_in_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    make_env = partial(make, "meeting:Meeting", size=5)
    report = check(make_env)
    assert report.terminated + report.truncated == 3
    env = make("meeting:Meeting", render_mode="rgb_array")
    assert env.spec.episode_limit == 20
    env.reset(0)
    assert picture_of(env).shape == (40, 280, 3)


def test_a_loss_of_ones_own_leaks_and_is_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    module = importlib.import_module("audit_my_loss")
    leaks = audit(module.case(), quick=True).leaks
    assert [(leak.probe, "cut early counts as a step" in leak.what) for leak in leaks] == [("poison", True)]
    module.test_my_loss()
