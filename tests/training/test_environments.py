"""Environments of a run are closed, made when they are needed, and stepped where the configuration says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import endmark.training.evaluation
from endmark.algorithms import IQLConfig
from endmark.envs import make
from endmark.rollout import VectorEnv, Workers, play
from endmark.training import TrainConfig, evaluate, load, random_policy, train
from endmark.training.build import make_envs
from support.counted import made_and_closed


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Where environments leave their notes."""
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def config_of(notes: Path, **changes: Any) -> TrainConfig[Any]:
    algorithm = IQLConfig(hidden_size=8, batch_size=4, replay_frames=200)
    config: TrainConfig[Any] = TrainConfig(
        algorithm,
        "support.counted:Counted",
        env_arg=(f"directory={notes}",),
        steps=60,
        n_envs=2,
        eval_every=30,
        eval_episodes=3,
        log_every=30,
    )
    return replace(config, **changes)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_environment_is_closed(workers: int, notes: Path, tmp_path: Path) -> None:
    config = config_of(notes, workers=workers)
    train(config, tmp_path / "run", lambda *_: None)
    made, closed = made_and_closed(notes)
    assert made == closed > 0
    evaluate(config, random_policy(), 3)
    made, closed = made_and_closed(notes)
    assert made == closed


def test_load_makes_one_environment_and_closes_it(notes: Path, tmp_path: Path) -> None:
    train(config_of(notes), tmp_path / "run", lambda *_: None)
    before, _ = made_and_closed(notes)
    load(tmp_path / "run")
    assert made_and_closed(notes) == (before + 1, before + 1)


def test_environments_are_closed_when_training_fails(notes: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="replay_frames"):
        train(
            config_of(notes, algorithm=IQLConfig(batch_size=4, replay_frames=3)),
            tmp_path / "run",
            lambda *_: None,
        )

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(config_of(notes), tmp_path / "run", fail)
    made, closed = made_and_closed(notes)
    assert made == closed > 0


def test_environments_that_were_made_are_closed_if_another_cannot_be(
    notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_made = 0

    def fails_at_the_third(*args: Any, **kwargs: Any) -> Any:
        nonlocal n_made
        n_made += 1
        if n_made == 3:
            raise OSError("no more games")
        return make(*args, **kwargs)

    monkeypatch.setattr(endmark.training.build, "make", fails_at_the_third)
    with pytest.raises(OSError, match="no more games"):
        make_envs(config_of(notes), 4)
    assert made_and_closed(notes) == (2, 2)


def test_evaluation_uses_the_workers(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[VectorEnv] = []

    def noted(envs: VectorEnv, *args: Any, **options: Any) -> Any:
        used.append(envs)
        return play(envs, *args, **options)

    monkeypatch.setattr(endmark.training.evaluation, "play", noted)
    with_workers = evaluate(config_of(notes, workers=2), random_policy(), 5)
    assert isinstance(used[0], Workers)
    assert with_workers == evaluate(config_of(notes), random_policy(), 5)
