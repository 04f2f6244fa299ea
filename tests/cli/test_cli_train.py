"""`endmark train`: algorithms and environments in files of one's own, and runs like another run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from endmark.cli import main
from endmark.run import read_config
from endmark.training import load

TINY = "--steps 200 --n-envs 2 --eval-episodes 2 --final-episodes 2 --eval-every 100 --log-every 100"

ALGORITHM = '''
from __future__ import annotations

from dataclasses import dataclass

import torch

from endmark.algorithms.qlearning import QLearningConfig, QLearner


@dataclass(frozen=True)
class Mine(QLearningConfig):
    """Q-learning that forgets nothing."""

    bonus: float = 0.5
    """How much."""

    def mixer(self, spec):
        return None


@dataclass(frozen=True)
class Forgetful(Mine):
    def learner(self, spec, device):
        from endmark.episodes import Field

        wants_more = spec.extend(log_prob=Field((spec.n_agents,), torch.float32, per="step"))
        return QLearner(wants_more, self, device)


@dataclass
class NoStore:
    METRICS = {}

    def learner(self, spec, device): ...


@dataclass
class NoDefault:
    METRICS = {}
    size: int

    def learner(self, spec, device): ...

    def store(self, spec, generator, buffer): ...
'''

ENVIRONMENT = '''
import numpy as np

from endmark.envs import Frame, Step
from endmark.episodes import EpisodeSpec


class Walk:
    """One agent walks to the end of a line."""

    def __init__(self, size: int = 3, name: str = "line") -> None:
        assert isinstance(size, int) and name in ("line", "3rd")
        self.size = size
        self.spec = EpisodeSpec.of(n_agents=1, n_actions=2, episode_limit=20, obs_shape=(1,))

    def reset(self, seed=None):
        self.at, self.t = 0, 0
        return self.frame()

    def step(self, actions):
        self.t += 1
        self.at += int(actions[0])
        end = "terminated" if self.at == self.size else "truncated" if self.t == 20 else None
        return Step(self.frame(), np.float32(self.at == self.size), end)

    def frame(self):
        return Frame(np.full((1, 1), self.at, np.float32), np.ones((1, 2), np.bool_), np.ones(1, np.bool_))

    def close(self):
        pass
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with an algorithm and an environment in files of their own."""
    (tmp_path / "my_algorithm.py").write_text(ALGORITHM, encoding="utf-8")
    (tmp_path / "my_game.py").write_text(ENVIRONMENT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # for `load`; the program is on its own
    for name in ("my_algorithm", "my_game"):
        sys.modules.pop(name, None)
    return tmp_path


def run(arguments: str) -> None:
    main(["train", *arguments.split(), *TINY.split()])


def failure(arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The line on stderr."""
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert err.startswith("endmark: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in out + err
    return err


def test_an_algorithm_of_ones_own_trains_and_is_evaluated(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("my_algorithm:Mine --env CartPole-v1 --bonus 0.25 --batch-size 4 --run-dir run")
    config, learner = load(here / "run")
    assert read_config(here / "run")["algorithm"]["name"] == "my_algorithm:Mine"
    assert config.algorithm.bonus == 0.25
    assert learner.updates > 0
    main(["eval", "run", "--episodes", "2"])
    assert "my_algorithm:Mine on CartPole-v1" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("NoStore", "NoStore has no method 'store'"),
        ("NoDefault", "NoDefault.size has no default"),
        ("Forgetful", "EpsilonGreedy.act: gave no 'log_prob', want actions, log_prob"),
        ("torch", "is no dataclass"),
    ],
)
def test_an_algorithm_that_is_none_is_refused(
    here: Path, name: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in failure(f"my_algorithm:{name} --env CartPole-v1 --run-dir run", capsys)


@pytest.mark.parametrize("workers", ["", "--workers 1"])
def test_an_environment_of_ones_own_gets_its_arguments(here: Path, workers: str) -> None:
    """Typed by JSON: 5 is a number; 3rd is no JSON, and so a string."""
    arguments = "--env-arg size=5 --env-arg name=3rd"
    command = f"train iql --env my_game:Walk {arguments} {TINY} --batch-size 4 --run-dir run {workers}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # by the program, which does not look in the current directory by itself
        [str(Path(sys.executable).parent / "endmark"), *command.split()],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert read_config(here / "run")["env_arg"] == ["size=5", "name=3rd"]
    assert load(here / "run")[0].env_args == {"size": 5, "name": "3rd"}


def test_a_run_like_another(here: Path) -> None:
    run("vdn --env my_game:Walk --env-arg size=4 --batch-size 4 --gamma 0.5 --seed 3 --run-dir first")
    run("--like first --gamma 0.25 --seed 5 --run-dir second")
    first, second = (load(here / name)[0] for name in ("first", "second"))
    assert (second.name, second.seed, second.algorithm.gamma) == ("vdn", 5, 0.25)
    assert second.env_arg == first.env_arg == ("size=4",)
    assert second.algorithm.batch_size == 4
    run("ia2c --like first --run-dir third")
    third, _ = load(here / "third")
    assert (third.name, third.seed, third.env_arg) == ("ia2c", 3, ("size=4",))
    assert third.algorithm.gamma == 0.99, "another algorithm keeps its own settings"


def test_a_configuration_names_what_made_it(here: Path) -> None:
    run("ippo --env my_game:Walk --batch-size 4 --run-dir run")
    raw = json.loads((here / "run" / "config.json").read_text())
    assert raw["made_with"].keys() == {"endmark", "torch", "finished"}
    assert raw["algorithm"]["name"] == "ippo"
    assert raw["algorithm"]["clip"] == 0.2


HISTORY = """
from my_game import Walk


class Remembers(Walk):
    places = 0

    def reset(self, seed=None):
        frame = super().reset(seed)
        self.places += 1
        frame.obs[:] = self.places
        return frame
"""


def test_check_says_whether_an_environment_keeps_to_the_contract(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", "my_game:Walk", "--env-arg", "size=2", "--episodes", "4"])
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("my_game:Walk keeps to the contract: 4 episodes of ")
    assert out.count("\n") == 1


def test_an_environment_whose_episodes_depend_on_history_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "my_history.py").write_text(HISTORY, encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["check", "my_history:Remembers"])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for part in ("endmark: seed ", "frame 0, obs, agent 0", "in a used environment", "as in a fresh one"):
        assert part in err
