"""The outcomes that an environment names are logged, evaluated, drawn and told, and outlive a stop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from endmark.algorithms import IPPOConfig, IQLConfig
from endmark.cli import main
from endmark.episodes.files import load_episodes
from endmark.report import read_run
from endmark.rollout import InProcess
from endmark.run import Counters, read_metrics
from endmark.training import TrainConfig, evaluate, random_policy, train
from endmark.training.evaluation import Evaluation
from support.scripted import Winnable, outcomes_of

ENV = "support.scripted:Winnable"
CONFIG = TrainConfig[Any](
    algorithm=IQLConfig(hidden_size=8, batch_size=4, replay_frames=200),
    env=ENV,
    steps=300,
    seed=1,
    n_envs=2,
    log_every=100,
    eval_every=100,
    eval_episodes=10,
    final_episodes=20,
)


@pytest.mark.parametrize(
    ("algorithm", "workers"),
    [(CONFIG.algorithm, 0), (IPPOConfig(hidden_size=8, batch_size=4, epochs=1, minibatches=1), 1)],
    ids=["iql", "ippo, workers"],
)
def test_they_are_logged_and_shown_while_it_trains(algorithm: Any, workers: int, tmp_path: Path) -> None:
    shown: list[Mapping[str, float]] = []

    def observe(_: Counters, greedy: Mapping[str, float]) -> None:
        shown.append(greedy)

    train(replace(CONFIG, algorithm=algorithm, workers=workers), tmp_path, observe)
    lines = list(read_metrics(tmp_path))
    trained = [line for line in lines if "episode_return" in line]
    evaluated = [line for line in lines if "greedy_return" in line]
    assert all({"episode_win", "episode_score"} <= line.keys() for line in trained)
    assert len({line["episode_score"] for line in trained}) > 1
    # An evaluation plays the same episodes each time, and the seed alone decides who wins.
    assert len({(line["greedy_win"], line["greedy_score"]) for line in evaluated}) == 1
    win = evaluated[0]["greedy_win"]
    assert win is not None
    assert 0 < win < 1
    assert shown[0] == {}
    names = {"return": "greedy_return", "win": "greedy_win", "score": "greedy_score"}
    assert shown[-1] == {name: evaluated[-1][key] for name, key in names.items()}
    curve = read_run(tmp_path)
    assert {name: len(points) for name, points in curve.outcomes.items()} == {
        "win": len(evaluated),
        "score": len(evaluated),
    }


def test_a_mean_of_training_is_that_of_its_episodes(tmp_path: Path) -> None:
    """One environment, so that episodes come one after the other; all are stored."""
    train(replace(CONFIG, n_envs=1, steps=100, log_every=100, store_replay=True), tmp_path, lambda *_: None)
    lines = [line for line in read_metrics(tmp_path) if "episode_win" in line]
    assert len(lines) == 1
    stored = load_episodes(tmp_path / "replay.safetensors")
    assert stored.n_episodes == lines[0]["episodes"]
    assert lines[0]["episode_win"] == pytest.approx(float(stored.outcome("win").mean()))
    assert lines[0]["episode_score"] == pytest.approx(float(stored.outcome("score").mean()))
    seeds = stored.state[stored.first_frames, 0].int().tolist()
    assert stored.outcome("win").tolist() == [outcomes_of(seed)["win"] for seed in seeds]


def test_the_last_evaluation_outlives_a_stop(tmp_path: Path) -> None:
    train(CONFIG, tmp_path, lambda *_: None)
    shown: list[Mapping[str, float]] = []
    train(CONFIG, tmp_path, lambda _, greedy: shown.append(greedy), resume=True)
    last = [line for line in read_metrics(tmp_path) if "greedy_win" in line][-1]
    assert shown[0]["win"] == last["greedy_win"]
    evaluation = Evaluation(CONFIG, InProcess([Winnable()]), None, lambda: False)
    evaluation.load_state_dict({"last": 1.0, "best": 2.0})  # as it was saved before there were outcomes
    assert (evaluation.last, evaluation.best, evaluation.means) == (1.0, 2.0, {})


def test_an_evaluation_has_their_intervals() -> None:
    summary = evaluate(CONFIG, random_policy(), 50)
    win, score = summary.outcomes["win"], summary.outcomes["score"]
    assert 0 < win.low < win.mean < win.high < 1
    assert score.low < score.mean < score.high
    assert win.mean * 50 == pytest.approx(round(win.mean * 50))


def test_the_commands_say_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    options = "--steps 200 --eval-every 100 --n-envs 2 --eval-episodes 4 --batch-size 4 --replay-frames 200"
    main(["train", "iql", "--env", ENV, "--run-dir", "run", "--store-replay", *options.split()])
    out = capsys.readouterr().out
    assert "  win 0." in out
    header = next(line for line in out.splitlines() if "policy" in line)
    want = "return 95 % interval win 95 % interval score 95 % interval steps terminated truncated"
    assert header.split()[1:] == want.split()
    main(["eval", "run", "--episodes", "8"])
    assert " win " in capsys.readouterr().out
    main(["plot", "run", "--out", "curve.svg"])
    drawn = Path("curve.svg").read_text()
    assert all(f"<!-- {words} -->" in drawn for words in ("greedy win", "greedy score", "environment steps"))
    main(["plot", "run", "--out", "win.svg", "--metric", "greedy_win"])
    drawn = Path("win.svg").read_text()
    assert "<!-- greedy_win -->" in drawn
    assert "<!-- greedy score -->" not in drawn
    capsys.readouterr()
    main(["inspect", "run", "--json"])
    found = json.loads(capsys.readouterr().out)["outcomes"]
    main(["inspect", "run"])
    said = f"win {found['win']:.3f}, score {found['score']:.3f}: means over the episodes"
    assert said in capsys.readouterr().out
    assert 0 < found["win"] < 1
