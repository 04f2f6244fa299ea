"""Which checkpoint is evaluated, on which episodes; and where runs are put."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path

import pytest
import safetensors
import safetensors.torch

from endmark.algorithms import IQLConfig
from endmark.cli import main
from endmark.cli.train import _new_directory
from endmark.run import BEST, WEIGHTS
from endmark.training import TrainConfig, train

CONFIG = TrainConfig(
    IQLConfig(hidden_size=8, batch_size=2, replay_frames=1_100, lr=1e-2),
    "CartPole-v1",
    steps=300,
    n_envs=2,
    eval_every=100,
    eval_episodes=2,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "run"
    train(CONFIG, directory, lambda *_: None)
    return directory


def out_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def test_eval_plays_the_checkpoint_and_the_episodes_that_are_asked_for(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = out_of(capsys, "eval", trained, "--episodes", 6)
    assert out_of(capsys, "eval", trained, "--episodes", 6, "--checkpoint", "last", "--seed", 0) == last
    other = out_of(capsys, "eval", trained, "--episodes", 6, "--seed", 1)
    assert other != last
    assert out_of(capsys, "eval", trained, "--episodes", 6, "--seed", 1) == other
    metadata = {}
    for name in (WEIGHTS, BEST):
        with safetensors.safe_open(trained / name, framework="pt") as file:
            metadata[name] = file.metadata()
    best = out_of(capsys, "eval", trained, "--episodes", 6, "--checkpoint", "best")
    updates = metadata[BEST]["counters"].split('"updates": ')[1].rstrip("}")
    assert f"after {updates} updates" in " ".join(best.split())


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_eval_refuses_weights_that_are_not_finite(
    value: float, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "run"
    broken.mkdir()
    (broken / "config.json").write_bytes((trained / "config.json").read_bytes())
    tensors = safetensors.torch.load_file(trained / WEIGHTS)
    name = max(tensors, key=lambda name: tensors[name].ndim)
    tensors[name][1, 2] = value
    counters = '{"env_steps": 9, "episodes": 4, "updates": 3}'
    safetensors.torch.save_file(tensors, broken / WEIGHTS, metadata={"counters": counters})
    with pytest.raises(SystemExit) as stop:
        main(["eval", str(broken)])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert f"'{name}' at [1, 2]: given {value}, want finite numbers" in err


def test_default_names_never_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        directories = [stack.enter_context(_new_directory(CONFIG)) for _ in range(5)]
        assert len(set(directories)) == 5
        assert all(directory.is_dir() for directory in directories)
        (directories[3] / "config.json").touch()
    assert list(tmp_path.rglob("*.json")) == [tmp_path / directories[3] / "config.json"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [directories[3].name]
