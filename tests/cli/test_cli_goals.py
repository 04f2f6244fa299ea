"""`endmark goals`: what it measures, draws and refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from endmark.algorithms import IQLConfig, OMGConfig
from endmark.policies import with_seats
from endmark.run import WEIGHTS
from endmark.training import TrainConfig, evaluate, load, train
from endmark.training.build import env_spec
from endmark.training.goals import infer, load_inferring
from support.commands import status
from support.seated import write_prior

FORAGING = "lbforaging:Foraging-5x5-2p-1f-v3"


def config_of(directory: Path, **changes: Any) -> TrainConfig[Any]:
    small: dict[str, Any] = {"hidden_size": 8, "model_hidden_size": 8, "batch_size": 2, "horizon": 3}
    settings = small | changes.pop("settings", {})
    config = TrainConfig(
        OMGConfig(**(small | {"model": "none"})),
        FORAGING,
        partners=("endmark.policies.scripted:nearest_food",),
        steps=300,
        n_envs=2,
        log_every=50,
        eval_every=150,
        eval_episodes=2,
        final_episodes=1,
    )
    config = dataclasses.replace(config, **changes)
    goal_of = settings.get("goal_of", "obs")
    (directory / "prior").mkdir(parents=True)
    prior = write_prior(directory / "prior", with_seats(env_spec(config)), goal_of)
    algorithm = OMGConfig(**({"prior": prior} | settings))
    return dataclasses.replace(config, algorithm=algorithm)


def make_run(directory: Path, **changes: Any) -> Path:
    train(config_of(directory, **changes), directory / "run", lambda *_: None)
    return directory / "run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("omg"))


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"model": "supervised", "goal_of": "state"}
    return make_run(tmp_path_factory.mktemp("supervised"), settings=settings)


def test_the_episodes_are_those_of_eval(trained: Path) -> None:
    config, learner, model = load_inferring(trained)
    subgoals = infer(config, learner, model, 5, seed=1)
    summary = evaluate(config, learner.greedy_policy(2), 5, seed=1)
    assert float(subgoals.lengths.double().mean()) == summary.length_mean
    assert subgoals.horizon == 3
    assert subgoals.beside == [["endmark.policies.scripted:nearest_food"]] * 5
    assert set(subgoals.seat.tolist()) == {0, 1}
    spec = env_spec(config)
    assert subgoals.seen.shape == (sum(subgoals.lengths.tolist()) + 5, spec.fields["obs"].shape[1])


def test_a_frame_is_decoded_from_what_the_learner_saw_until_then(trained: Path) -> None:
    config, learner, model = load_inferring(trained)
    both = infer(config, learner, model, 4)
    one = infer(config, learner, model, 1)
    frames = both.frames(0)
    assert torch.equal(one.seen, both.seen[frames])
    torch.testing.assert_close(one.decoded, both.decoded[frames])
    assert both.frames(3).stop == len(both.seen)
    decoded_again = model.prior.decode(model.prior.encode(both.seen)[0])
    torch.testing.assert_close(both.redecoded, decoded_again)
    assert not torch.allclose(both.decoded, both.redecoded)


def test_tables_json_and_pictures(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written, picture, boards = tmp_path / "goals.json", tmp_path / "goals.png", tmp_path / "episode.png"
    args: list[str | Path] = ["--json", written, "--png", picture, "--episode-png", boards, "--episodes", "6"]
    assert status("goals", trained, *args, "--episode", "4") == 0
    out, err = capsys.readouterr()
    assert err == ""
    report = json.loads(written.read_text())
    config, learner = load(trained)
    summary = evaluate(config, learner.greedy_policy(2), 6)
    assert (report["episodes"], report["horizon"], report["model"]) == (6, 3, "omg")
    assert report["steps"] == pytest.approx(6 * summary.length_mean)
    assert [error["k"] for error in report["error"]] == [1, 2, 3]
    for part in (*report["error"], *report["distance"], *report["hits"].values()):
        apart = part["inferred"]["mean"] - part["stay"]["mean"]
        assert part["difference"]["mean"] == pytest.approx(apart, abs=1e-6)
    for hit in report["hits"].values():
        assert 0 <= hit["inferred"]["mean"] <= 1
    chosen = [report["log"][f"chosen_{k}"] for k in (1, 2, 3)]
    assert sum(chosen) == pytest.approx(1, abs=1e-5)
    assert "chosen_4" not in report["log"]
    assert f"{report['hits']['ratio']['inferred']['mean']:.3f}" in out
    assert f"{report['error'][2]['difference']['mean']:.3f}" in out
    assert f"{report['log']['kl']:.3f}" in out
    assert out.splitlines()[-3:] == [str(written), str(picture), str(boards)]
    for path in (picture, boards):
        with Image.open(path) as drawn:
            assert len(drawn.convert("RGB").getcolors(2**20) or ()) > 20


def test_a_regressed_subgoal_of_the_state(
    supervised: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "goals.json"
    args: list[str | Path] = ["--json", written, "--png", tmp_path / "goals.svg"]
    args += ["--episode-png", tmp_path / "episode.svg"]
    assert status("goals", supervised, "--checkpoint", "best", "--episodes", "1", *args) == 0
    assert capsys.readouterr().err == ""
    report = json.loads(written.read_text())
    assert "kl" not in report["log"]
    assert report["hits"]["ratio"]["stay"]["low"] is None  # of one episode
    for name in ("goals.svg", "episode.svg"):
        assert (tmp_path / name).read_text().count("<path") > 20


def test_places_that_are_given(trained: Path, tmp_path: Path) -> None:
    """Those that are known for Foraging: a food, the agent itself, the other."""
    reports = []
    for name, positions in [
        ("known", []),
        ("given", ["--positions", "6", "7"]),
        ("food", ["--positions", "0", "1"]),
    ]:
        written = tmp_path / f"{name}.json"
        assert status("goals", trained, "--episodes", "5", "--json", written, *positions) == 0
        reports.append(json.loads(written.read_text()))
    assert reports[0] == reports[1]
    assert reports[0]["distance"] != reports[2]["distance"]


def test_places_that_are_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, env="lbforaging:Foraging-2s-5x5-2p-1f-v3")
    assert status("goals", run, "--episodes", "3", "--png", tmp_path / "goals.png") == 0
    out = capsys.readouterr().out
    assert "squared error" in out
    assert "come true" not in out
    assert status("goals", run, "--episodes", "3", "--episode-png", tmp_path / "episode.png") == 2
    says = "episode_png: the grid of lbforaging:Foraging-2s-5x5-2p-1f-v3 is not known"
    assert capsys.readouterr().err == f"endmark: {says}, want Level-Based Foraging seen whole\n"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--episodes", "0"], "episodes: given 0, want at least 1"),
        (["--seed", "-1"], "seed: given -1, want at least 0"),
        (["--episode", "101"], "episode: given 101, want 1 <= episode <= 100"),
        (["--episode", "0"], "episode: given 0, want 1 <= episode <= 100"),
        (["--positions", "6"], "positions: given 1, want pairs of features"),
        (["--positions", "6", "9"], "positions: given 9, want 0 <= feature < 9"),
        (["--cell", "0"], "cell: given 0.0, want more than 0, and finite"),
        (["--cell", "nan"], "cell: given nan, want more than 0, and finite"),
        (["--png", "nowhere/goals.png"], "nowhere/goals.png: there is no directory nowhere"),
        (
            ["--positions", "6", "7", "--episode-png", "episode.png"],
            "episode_png: positions are given, want Level-Based Foraging seen whole",
        ),
        (["--png", "goals.odd"], "goals.odd: given a picture '.odd', want one of"),
        (["--episode-png", "odd"], "odd: given a picture '', want one of"),
    ],
)
def test_refusals(args: list[str], says: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("goals", trained, *args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"endmark: {says}")
    assert err.count("\n") == 1


def refused(capsys: pytest.CaptureFixture[str], run: Path) -> str:
    assert status("goals", run) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("endmark: ")


def test_a_run_that_infers_no_subgoals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "none", settings={"model": "naive"})
    assert refused(capsys, run) == (
        f"{run}: given a run of model 'naive', want one that infers subgoals: omg with model 'omg' or "
        "'supervised'\n"
    )
    config = dataclasses.replace(config_of(tmp_path), algorithm=IQLConfig(hidden_size=8, batch_size=2))
    train(config, tmp_path / "iql", lambda *_: None)
    assert refused(capsys, tmp_path / "iql").startswith(f"{tmp_path / 'iql'}: given a run of iql, want one")


def test_what_is_missing(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, tmp_path) == f"{tmp_path} is no run directory: it has no config.json\n"
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / WEIGHTS).unlink()
    assert refused(capsys, run) == f"{run} holds no checkpoint: it has no {WEIGHTS}\n"
    shutil.copy(trained / WEIGHTS, run)
    config = json.loads((run / "config.json").read_text())
    config["algorithm"]["prior"] = str(tmp_path / "gone")
    (run / "config.json").write_text(json.dumps(config))
    file = tmp_path / "gone" / "prior.safetensors"
    assert refused(capsys, run) == f"prior {file}: no such file; `endmark fit-prior` makes one\n"


def test_a_run_without_a_log(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "metrics.jsonl").unlink()
    assert status("goals", run, "--episodes", "2", "--png", tmp_path / "goals.png") == 0
    assert "training" not in capsys.readouterr().out
    first = (trained / "metrics.jsonl").read_text().splitlines(keepends=True)
    logged = next(line for line in first if "chosen_1" in line)
    (run / "metrics.jsonl").write_text(logged)  # one line: a curve of one point
    assert status("goals", run, "--episodes", "2", "--png", tmp_path / "goals.png") == 0
    assert "mean of the last 1 lines" in capsys.readouterr().out


def test_without_matplotlib(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    args: list[str | Path] = ["--png", tmp_path / "goals.png", "--episode-png", tmp_path / "episode.png"]
    assert status("goals", trained, "--episodes", "2", *args) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ['no picture: pip install "endmark[plot]"'] * 2
    assert not list(tmp_path.iterdir())
