"""Runs of marl-eval's JSON, in and out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from endmark.experiments import marl_eval
from endmark.experiments.comparison_groups import in_cells
from endmark.experiments.marl_eval import marl_eval_json, read_marl_eval
from endmark.experiments.scores import Found, read_runs
from support.compared import make_grid, make_run


def written(tmp_path: Path, raw: Any) -> Path:
    path = tmp_path / "other.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return path


def test_a_file_as_benchmarl_writes_it(tmp_path: Path) -> None:
    steps = {
        "absolute_metrics": {"return": [9.0], "agents_return": [9.0]},
        "step_1": {"step_count": 6000, "return": [4.0, 6.0], "agents_return": [4.0, 6.0]},
        "step_0": {"step_count": 0, "return": [1.0, 2.0], "agents_return": [1.0, 2.0]},
    }
    path = written(tmp_path, {"vmas": {"balance": {"mappo": {"seed_0": steps, "seed_1": steps}}}})
    first, second = read_marl_eval(path)
    assert (first.task, first.algorithm, first.seed, second.seed) == ("vmas:balance", "mappo", "0", "1")
    assert first.curve("greedy_return") == [(0.0, 1.5), (6000.0, 5.0)]
    assert first.eval_episodes == 2
    assert first.absolute("greedy_return") == 9.0
    assert first.seconds() is None
    assert first.source == f"{path}: vmas/balance/mappo/seed_0"
    assert read_marl_eval(path, "greedy_agents_return")[0].final("greedy_agents_return") == 5.0


def test_a_file_as_mava_writes_it(tmp_path: Path) -> None:
    step = {"step_count": 100, "elapsed_time": 1.5, "mean_episode_return": [0.25], "win_rate": [0.5]}
    path = written(tmp_path, {"Smax": {"3m": {"ff_ippo": {"42": {"step_0": step}}}}})
    (run,) = read_marl_eval(path, "greedy_win")
    assert (run.seed, run.seconds()) == ("42", 1.5)
    assert (run.final("greedy_win"), run.final("greedy_return")) == (0.5, 0.25)
    assert run.eval_episodes is None
    assert run.absolute("greedy_win") is None


def test_our_runs_come_back_as_they_were(tmp_path: Path) -> None:
    make_grid(tmp_path / "runs")
    make_run(tmp_path / "runs" / "alone", [0.25, 0.5], env="CartPole-v1", best=[1.0, 2.0], random=[0.0])
    ours = read_runs([tmp_path / "runs"])
    cells, _ = in_cells(ours)
    path = written(tmp_path, marl_eval_json(cells))
    assert set(json.loads(path.read_text())) == {"some", "CartPole-v1"}
    theirs = read_marl_eval(path)
    back, left_out = in_cells(Found(theirs, []))
    assert left_out == []
    assert set(back) == set(cells)
    for key, runs in cells.items():
        for run, other in zip(runs, back[key], strict=True):
            assert list(other.evaluations) == list(run.evaluations)
            assert other.seed == run.seed
            absolute = run.absolute("greedy_return")
            known = run.highest("greedy_return") if absolute is None else absolute
            assert other.absolute("greedy_return") == known


def test_our_file_has_what_marl_eval_asks_for(tmp_path: Path) -> None:
    make_run(tmp_path / "run", [0.25, 0.5], env="lbforaging:Foraging-v3", best=[1.0, 0.0])
    cells, _ = in_cells(read_runs([tmp_path]))
    steps = {
        "step_0": {"step_count": 1000, "elapsed_time": 2.5, "mean_episode_return": [0.25]},
        "step_1": {"step_count": 2000, "elapsed_time": 5.0, "mean_episode_return": [0.5]},
        "absolute_metrics": {"mean_episode_return": [1.0, 0.0], "mean_episode_length": [1.0, 1.0]},
    }
    assert marl_eval_json(cells) == {"lbforaging": {"Foraging-v3": {"qmix": {"seed_0": steps}}}}


def nested(value: Any) -> dict[str, Any]:
    return {"e": {"t": {"a": {"s": value}}}}


def returning(value: Any) -> dict[str, Any]:
    return nested({"step_0": {"step_count": 1, "return": value}})


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("{", "is no JSON: Expecting property name"),
        ("[" * 100_000, "is no JSON: nested too deeply"),
        ([], ": given [], want an object"),
        ({}, "holds no run"),
        ({"e": {"t": 3}}, ": e/t: given 3, want an object"),
        (nested([1]), ": e/t/a/s: given [1], want an object"),
        (nested({"step_0": 3}), "e/t/a/s/step_0: given 3, want an object"),
        (nested({"step_0": {}}), "e/t/a/s/step_0/step_count: given None, want a number of at least 0"),
        (nested({"step_0": {"step_count": -1}}), "step_count: given -1, want a number of at least 0"),
        (nested({"step_0": {"step_count": True}}), "step_count: given True, want a number"),
        (returning([0, "x"]), "step_0/return[1]: given 'x', want a finite number"),
        (returning({}), "step_0/return: given {}, want a finite number"),
        (returning([float("nan")]), "step_0/return[0]: given nan, want a finite number"),
        (returning([10**400]), "step_0/return[0]: given 1000"),
        (returning([]), "s: no 'greedy_return': it has no evaluation"),
        (
            nested({"step_0": {"step_count": 1, "elapsed_time": "1"}}),
            "elapsed_time: given '1', want",
        ),
        (nested({"step_0": {"step_count": 1, "loss": [1]}}), "s: no 'greedy_return': it has greedy_loss"),
        (nested({}), "s: no 'greedy_return': it has no evaluation"),
        (nested({"absolute_metrics": 3}), "absolute_metrics: given 3, want an object"),
    ],
)
def test_refusals_name_the_place(tmp_path: Path, raw: Any, says: str) -> None:
    path = written(tmp_path, raw)
    with pytest.raises(ValueError) as refused:
        read_marl_eval(path)
    assert says in str(refused.value)
    assert str(refused.value).startswith(str(path))
    assert len(str(refused.value)) < 400


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marl_eval, "LARGEST", 3)
    with pytest.raises(ValueError, match="given 4 bytes, want at most 3"):
        read_marl_eval(written(tmp_path, "{  }"))
