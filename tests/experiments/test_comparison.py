"""From run directories to cells, figures and warnings."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endmark.experiments.comparison import Settings, compare
from endmark.experiments.comparison_groups import in_cells, renamed
from endmark.experiments.comparison_warnings import warnings_of
from endmark.experiments.scores import Found, read_runs
from endmark.experiments.statistics import iqm
from support.compared import compared, make_grid, make_run

FAST = Settings(samples=200)


def test_runs_are_found_below_folders_and_once_only(tmp_path: Path) -> None:
    make_grid(tmp_path)
    found = read_runs([tmp_path, tmp_path / "t0", tmp_path / "t1" / "iql-0.001-0"])
    assert len(found.runs) == 18
    assert found.left_out == []
    run = found.runs[0]
    assert (run.task, run.algorithm, run.seed, run.budget) == ("some:Env-v0", "iql", "0", 5000)
    assert run.curve("greedy_return")[0] == (1000, -1.0)
    assert run.final("greedy_return") == run.highest("greedy_return") == pytest.approx(0.0)
    assert run.seconds() == 12.5


def test_what_cannot_be_read_is_told_and_the_others_are_kept(tmp_path: Path) -> None:
    make_run(tmp_path / "good", [0.5])
    make_run(tmp_path / "none", [], seed=1)
    make_run(tmp_path / "null", [None], seed=2)
    (make_run(tmp_path / "half", [0.5], seed=3) / "metrics.jsonl").unlink()
    (make_run(tmp_path / "bare", [0.5], seed=4) / "config.json").unlink()
    (make_run(tmp_path / "damaged", [0.5], seed=5) / "metrics.jsonl").write_text("{\n")
    (make_run(tmp_path / "strange", [0.5], seed=6) / "config.json").write_text('{"env": 3}')
    (make_run(tmp_path / "wrong", [0.5], seed=7, best=[1.0]) / "final.json").write_text('{"best": [NaN]}')
    cut = make_run(tmp_path / "cut", [0.25, 0.5], seed=8)
    text = (cut / "metrics.jsonl").read_text()
    (cut / "metrics.jsonl").write_text(text[: text.rindex("\n") - 3])
    found = read_runs([tmp_path])
    assert [Path(run.source).name for run in found.runs] == ["cut", "good"]
    assert found.runs[0].curve("greedy_return") == [(1000, 0.25)]
    for name, says in [
        ("none", "no greedy_return yet"),
        ("null", "no greedy_return yet"),
        ("half", "has no metrics.jsonl"),
        ("bare", "has no config.json"),
        ("damaged", "line 1 is no JSON"),
        ("strange", "want the name of an algorithm and of an environment"),
        ("wrong", "final.json cannot be read"),
    ]:
        assert any(f"/{name}" in line and says in line for line in found.left_out), (name, found.left_out)
    assert len(found.left_out) == 7
    assert all("\n" not in line for line in found.left_out)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run: want directories with "):
        read_runs([tmp_path])
    with pytest.raises(ValueError, match="no such directory"):
        read_runs([tmp_path / "nowhere"])


def test_a_variant_is_an_algorithm_and_what_differs_on_one_task(tmp_path: Path) -> None:
    make_grid(tmp_path / "grid")
    for seed in range(2):  # another gamma on the other task makes no variant
        for task, gamma in enumerate((0.9, 0.99)):
            where = tmp_path / "vdn" / f"{task}{seed}"
            options: dict[str, Any] = {"env": f"some:Env-v{task}", "seed": seed, "settings": {"gamma": gamma}}
            make_run(where, [0.0, 1.0], algorithm="vdn", device="cpu" if seed else "auto", **options)
    cells, left_out = in_cells(read_runs([tmp_path]))
    assert left_out == []
    variants = {"iql": 3, "qmix lr=0.001": 3, "qmix lr=0.01": 3, "vdn": 2}
    wanted = {(f"some:Env-v{task}", v): n for task in range(2) for v, n in variants.items()}
    assert {key: len(runs) for key, runs in cells.items()} == wanted


def test_what_is_played_makes_the_task(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [0.0, 1.0])
    make_run(tmp_path / "b", [0.0, 1.0], env_arg=["z=1", "a=2"])
    make_run(tmp_path / "c", [0.0, 1.0], episode_limit=7)
    make_run(tmp_path / "d", [0.0, 1.0], partners=["m:f"], learners=2, together=None)
    found = read_runs([tmp_path])
    tasks = ["", " a=2 z=1", " episode_limit=7", " partners=m:f learners=2"]
    assert [run.task for run in found.runs] == [f"some:Env-v1{words}" for words in tasks]
    names = {run.task for run in renamed(found.runs, {"some:Env-v1": "mine"})}
    assert "mine" in names
    assert len(names) == 4
    with pytest.raises(ValueError, match="rename: given 'other', want one of some:Env-v1, "):
        renamed(found.runs, {"other": "mine"})


def test_a_seed_counts_once(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [0.0, 1.0])
    make_run(tmp_path / "b", [0.0, 3.0])
    cells, left_out = in_cells(read_runs([tmp_path]))
    assert [run.final("greedy_return") for runs in cells.values() for run in runs] == [1.0]
    assert left_out == [f"{tmp_path / 'b'}: seed 0 once more, as in {tmp_path / 'a'}"]


def test_figures_of_cells_and_over_tasks(tmp_path: Path) -> None:
    made = compared(make_grid(tmp_path, n_seeds=5))
    assert made.tasks == made.shared == ["some:Env-v0", "some:Env-v1"]
    assert made.variants == ["iql", "qmix lr=0.001", "qmix lr=0.01"]
    for (task, _), cell in made.cells.items():
        low, high = made.bounds[task][:2]
        ends = [run.evaluations[-1]["greedy_return"] for run in cell.runs]
        scores = np.array(ends, np.float64)
        assert cell.final == cell.best
        assert cell.final.value == pytest.approx(float(iqm([scores])))
        assert cell.mean.value == pytest.approx(scores.mean())
        assert cell.normalised.value == pytest.approx((cell.final.value - low) / (high - low))
        assert cell.final.low <= cell.final.value <= cell.final.high
        assert cell.curve[-1][1:] == pytest.approx(cell.final)
        assert [point.at for point in cell.curve] == [1000, 2000, 3000, 4000, 5000]
        assert cell.absolute is None
        assert cell.seconds == 12.5
        level = 9.0 if task.endswith("1") else -1.0  # until the first evaluation; then a straight line
        areas = 0.2 * level + 0.8 * (level + scores) / 2
        wanted = (float(iqm([areas])) - low) / (high - low)
        assert cell.area.value == pytest.approx(wanted, abs=1e-9)
    assert made.bounds["some:Env-v1"][:2] == pytest.approx((9.0, 11.4))
    over = made.overall["iql"]
    strata = [
        (np.array(made.cells[t, "iql"].scores) - b.low) / (b.high - b.low) for t, b in made.bounds.items()
    ]
    assert over.figures["IQM"].value == pytest.approx(float(iqm(strata)))
    assert over.figures["mean"].value == pytest.approx(1 - over.figures["optimality gap"].value)
    assert over.curve[-1].value == pytest.approx(over.figures["IQM"].value)
    assert over.profile[0].value == 1.0
    assert over.profile[-1].value == 0.0
    first, second = made.improvement["iql", "qmix lr=0.01"], made.improvement["qmix lr=0.01", "iql"]
    assert first.value == pytest.approx(1 - second.value)
    assert second.value > 0.9


def test_best_and_absolute_scores(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [0.0, 4.0, 2.0], best=[2.0, 4.0, 3.0], random=[-1.0, 1.0])
    make_run(tmp_path / "b", [0.0, 5.0, 1.0], seed=1, best=[4.0, 4.0], random=[0.0])
    made = compared(tmp_path)
    (cell,) = made.cells.values()
    assert (cell.final.value, cell.best.value) == (1.5, 4.5)
    assert cell.absolute is not None
    assert cell.absolute.value == 3.5
    assert made.bounds["some:Env-v1"] == (0.0, 5.0, "random play", "the highest evaluation of a run")
    make_run(tmp_path / "c", [0.0, 5.0], seed=2)
    found = read_runs([tmp_path])
    cells, left_out = in_cells(found, "greedy_return")
    assert [len(runs) for runs in cells.values()] == [2]
    assert left_out[0].startswith(f"{tmp_path / 'c'}: no absolute score")
    scores = compare(cells, Settings(score="absolute", samples=200)).cells["some:Env-v1", "qmix"].scores
    assert list(scores) == [3.0, 4.0]
    cells, _ = in_cells(found)
    with pytest.raises(ValueError, match="no absolute score"):
        compare(cells, Settings(score="absolute", samples=200))


def test_bounds(tmp_path: Path) -> None:
    wins = {"greedy_win": [0.0, 0.5], "greedy_score": [0.0, 5.0]}
    make_run(tmp_path / "a", [2.0, 4.0], more=wins)
    task = "some:Env-v1"
    assert compared(tmp_path).bounds[task][:2] == (2.0, 4.0)
    assert compared(tmp_path, settings=Settings("greedy_win")).bounds[task] == (
        0.0,
        1.0,
        "a share",
        "a share",
    )
    assert compared(tmp_path, settings=Settings("greedy_score")).bounds[task][:2] == (0.0, 5.0)
    given = compared(tmp_path, settings=Settings(bounds={task: (0.0, 8.0)}))
    assert given.cells[task, "qmix"].normalised.value == 0.5
    with pytest.raises(ValueError, match="bounds: given 'other', want one of some:Env-v1"):
        compared(tmp_path, settings=Settings(bounds={"other": (0.0, 1.0)}))


def test_steps_to_a_threshold(tmp_path: Path) -> None:
    for seed, points in enumerate([[0.0, 0.8, 0.9, 1.0], [0.0, 0.9, 0.1, 0.2], [0.0, 0.1, 0.2, 0.3]]):
        make_run(tmp_path / str(seed), points, seed=seed)
    cell = compared(tmp_path, settings=Settings(threshold=0.9, samples=200)).cells["some:Env-v1", "qmix"]
    assert (cell.reached, cell.steps) == (2, 3000)
    cell = compared(tmp_path, settings=Settings(threshold=1.0, samples=200)).cells["some:Env-v1", "qmix"]
    assert (cell.reached, cell.steps) == (1, None)


def test_one_run_has_figures_and_no_interval(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [0.0, 1.0])
    made = compared(tmp_path)
    assert made.cells["some:Env-v1", "qmix"].final == (1.0, -math.inf, math.inf)
    assert made.improvement == {}


def test_no_warnings_where_all_is_well(tmp_path: Path) -> None:
    assert warnings_of(compared(make_grid(tmp_path, n_seeds=5))) == []


def test_warnings(tmp_path: Path) -> None:
    make_grid(tmp_path, n_seeds=5)
    grid = tmp_path / "t0"
    for path in (grid / "iql-0.001-3", tmp_path / "t1" / "qmix-0.01-0"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    for seed in range(2):
        options: dict[str, Any] = {"env": "some:Env-v0", "seed": seed, "algorithm": "vdn", "eval_episodes": 8}
        make_run(tmp_path / "vdn" / str(seed), [0.5] * 3, steps=9000, exact=False, **options)
    make_run(tmp_path / "flat", [1.0, 1.0], env="flat:Env")
    said = warnings_of(compared(tmp_path))
    text = "\n".join(said)
    for words in (
        "fewer than 5 seeds: qmix lr=0.001 on flat:Env (1), iql on some:Env-v0 (4)",
        "3 of 4 comparisons. Ten seeds are enough for the IQM",
        "no runs: iql on flat:Env",
        "seeds that other variants have are missing: iql on some:Env-v0 (seed 3)",
        "on some:Env-v0, budgets of environment steps differ: 5,000 (iql, qmix lr=0.001, ",
        "); 9,000 (vdn)",
        "on some:Env-v0, evaluations are of different numbers of episodes: 8 (vdn); 32 (",
        f"not finished, and areas end where the shortest run does: {tmp_path / 'vdn' / '0'}, ",
        f"resumed inexactly, so not what it is without a stop: {tmp_path / 'vdn' / '0'}, ",
        "on flat:Env, all evaluations are 1, so scores cannot be normalised",
    ):
        assert words in text, (words, said)
    assert len(said) == 8


def test_figures_over_tasks_are_of_tasks_that_all_variants_have(tmp_path: Path) -> None:
    make_grid(tmp_path)
    make_run(tmp_path / "vdn", [0.0, 1.0], algorithm="vdn", env="some:Env-v0")
    made = compared(tmp_path)
    assert made.shared == ["some:Env-v0"]
    assert made.overall["iql"].n_runs == 3
    make_run(tmp_path / "other", [0.0, 1.0], algorithm="ippo", env="else:Env")
    assert compared(tmp_path).shared == []
    assert compared(tmp_path).overall == {}


def test_curves_of_runs_that_were_evaluated_at_other_steps(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [0.0, 1.0, 2.0, 3.0], every=1000)
    make_run(tmp_path / "b", [1.0, 3.0], every=1500, seed=1)
    (cell,) = compared(tmp_path).cells.values()
    assert cell.curve[0][:2] == pytest.approx((1500, (0.5 + 1.0) / 2))
    assert cell.curve[-1][:2] == pytest.approx((3000, (2.0 + 3.0) / 2))
    make_run(tmp_path / "c", [1.0], every=500, seed=2)  # ends before the others begin
    (cell,) = compared(tmp_path).cells.values()
    assert cell.curve == []


def test_a_config_of_something_else_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 64}))
    found = read_runs([tmp_path])
    assert found == Found([], found.left_out)
    assert len(found.left_out) == 1
