"""Training beside partners: end to end, resumed bit for bit, evaluated beside the same ones."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from endmark.algorithms import IPPOConfig, IQLConfig, MAPPOConfig, QMIXConfig, VDNConfig
from endmark.cli import main
from endmark.episodes.files import load_episodes
from endmark.run import CONFIG, REPLAY, WEIGHTS, RunError, read_config, read_metrics
from endmark.training import TrainConfig, drawn_env, evaluate, load, pinned, played, random_policy, train
from endmark.training.build import make_envs
from endmark.training.evaluation import Evaluation, play_unseen
from endmark.training.partners import PIN, load_partners, sources_of
from support.stopping import StopAfter, assert_same_run, run
from support.tables import Tables
from support.trials import WHOLE

LBF = "lbforaging:Foraging-8x8-3p-3f-v3"
RANDOM, NEAREST = (f"endmark.policies.scripted:{name}" for name in ("random", "nearest_food"))
TABLES, WISHES = "support.tables:Tables", "support.tables:wishes"
SMALL: dict[str, Any] = {"env": LBF, "n_envs": 4, "log_every": 200, "eval_every": 400, "eval_episodes": 3}
TINY = "--steps 300 --n-envs 2 --eval-episodes 2 --final-episodes 2 --eval-every 150 --log-every 150"
QMIX = QMIXConfig(hidden_size=8, batch_size=4, replay_frames=1200, epsilon_steps=1_000)
IPPO = IPPOConfig(hidden_size=8, batch_size=4, minibatches=2, share="none", agent="feedforward")


def pool_of(directory: Path, env: str, **options: Any) -> Path:
    """A folder with two short runs of different algorithms and networks."""
    for name, algorithm in [("a-vdn", VDNConfig(hidden_size=12, batch_size=2)), ("b-ippo", IPPO)]:
        config: TrainConfig[Any] = TrainConfig(algorithm, **{**SMALL, "env": env, "steps": 300, **options})
        train(config, directory / name, lambda *_: None)
    (directory / "notes.txt").write_text("no run")
    return directory


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pool_of(tmp_path_factory.mktemp("pool"), LBF)


def beside(pool: Path, algorithm: Any = QMIX, **options: Any) -> TrainConfig[Any]:
    settings = {**SMALL, "steps": 1200, "together": 1, **options}
    return TrainConfig(algorithm, partners=(str(pool), RANDOM, NEAREST), **settings)


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "qmix": (QMIX, {}),
    "workers": (QMIX, {"workers": 2, "learners": 2, "together": None}),
    "overlap": (QMIX, {"overlap": True}),
    "attention": (replace(QMIX, agent="attention", attention_window=5), {}),
    "both": (IPPO, {"workers": 2, "overlap": True}),
    "mappo": (MAPPOConfig(hidden_size=8, batch_size=4, minibatches=2), {"learner_agents": (1,)}),
}


# `make kill-test` asks for all.
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS if WHOLE else ["both"])
def test_a_run_beside_partners_that_is_stopped_goes_on_bit_for_bit(
    kind: str, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm, options = KINDS[kind]
    config, never = beside(pool, algorithm, **options), StopAfter(10**9)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert not run(config, whole, never, monkeypatch)
    asked, moments, stops = 10**9 - never.left, random.Random(kind), 0
    while run(config, stopped, StopAfter(moments.randrange(asked // 3, asked // 2)), monkeypatch):
        stops += 1
    assert stops >= 2
    assert_same_run(stopped, whole)
    lines = [*read_metrics(whole)]
    assert any("loss" in line for line in lines)
    assert all(value is not None for line in lines for value in line.values())


def test_what_is_stored_of_the_seats(pool: Path, tmp_path: Path) -> None:
    """Two learners of three, each partner now and then, the same one for an episode."""
    config = beside(pool, learners=2, together=None, steps=2000)
    learner, counters, _ = train(config, tmp_path / "run", lambda *_: None)
    assert counters.updates > 0
    episodes = load_episodes(tmp_path / "run" / REPLAY)
    assert {"learns", "partner"} <= {*episodes.fields}
    members = set()
    for episode in episodes.split():
        learns, partner = episode.steps("learns"), episode.steps("partner")
        assert (learns == learns[0]).all()
        assert (partner == partner[0]).all()
        assert learns[0].sum() == 2
        assert torch.equal(learns, partner == -1)
        members |= {*partner[0].tolist()} - {-1}
    assert members == {0, 1, 2, 3}
    assert learner.spec.fields["learns"] == episodes.spec.fields["learns"]


def test_the_config_pins_each_run_by_its_weights(pool: Path, tmp_path: Path) -> None:
    """And is pinned already: the same again. The pool's later members are not this run's."""
    config = beside(pool)
    train(config, tmp_path / "run", lambda *_: None)
    kept = read_config(tmp_path / "run")["partners"]
    assert [name.rpartition(PIN)[0] for name in kept[:2]] == [str(pool / "a-vdn"), str(pool / "b-ippo")]
    assert all(len(name.rpartition(PIN)[2]) == 64 for name in kept[:2])
    assert kept[2:] == [RANDOM, NEAREST]
    again, _ = load(tmp_path / "run")
    assert pinned(again) == again
    assert list(pinned(config).partners) == kept
    assert sources_of(again.partners) == [str(pool / "a-vdn"), str(pool / "b-ippo"), RANDOM, NEAREST]


def test_the_best_checkpoint_of_a_run_may_be_a_partner(pool: Path) -> None:
    best = pool / "a-vdn" / "best.safetensors"
    config = pinned(replace(beside(pool), partners=(str(best), str(pool / "a-vdn"))))
    assert [name.rpartition(PIN)[0] for name in config.partners] == [str(best), str(pool / "a-vdn")]
    assert pinned(config) == config


def test_an_evaluation_beside_partners_that_draw_is_the_same_again(tmp_path: Path) -> None:
    """Whatever was drawn in between; while training, and at the end."""
    config = TrainConfig(QMIX, **{**SMALL, "env": TABLES}, steps=100, partners=(RANDOM, WISHES), together=1)
    learner, *_ = train(config, tmp_path / "run", lambda *_: None)
    torch.manual_seed(1)
    first = evaluate(config, learner.greedy_policy(4), 10)
    torch.manual_seed(2)
    assert evaluate(config, learner.greedy_policy(4), 10) == first
    assert evaluate(config, learner.greedy_policy(4), 10, seed=1) != first
    assert evaluate(config, random_policy(), 10) == evaluate(config, random_policy(), 10)
    envs = make_envs(config, 4)
    evaluation = Evaluation(config, envs, load_partners(config, envs.spec), lambda: False)
    assert evaluation(learner) == evaluation(learner)
    envs.close()


def test_an_evaluation_keeps_the_runs_threads(pool: Path) -> None:
    """Rather than those of the last member's run, which may give other bits."""
    spec = make_spec_of(LBF)
    load_partners(beside(pool, threads=2), spec)
    try:
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def make_spec_of(env: str) -> Any:
    envs = make_envs(TrainConfig(IQLConfig(), env), 1)
    envs.close()
    return envs.spec


def test_members_are_frozen(pool: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in pool.rglob("*") if path.is_file()}
    train(beside(pool, steps=400), tmp_path / "run", lambda *_: None)
    assert {path: path.read_bytes() for path in pool.rglob("*") if path.is_file()} == before


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("endmark: ")
    assert err.count("\n") == 1
    return err


def test_other_weights_than_at_the_start_are_refused(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "pool"
    shutil.copytree(pool, mine)
    train(beside(mine, steps=300), tmp_path / "run", lambda *_: None)
    weights = mine / "b-ippo" / WEIGHTS
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"\x00\x00\x80\x3f")
    for command in (("resume", "--steps", "600"), ("eval",), ("play",)):
        err = refusal(capsys, command[0], tmp_path / "run", *command[1:])
        assert f"partner {mine / 'b-ippo'}: its weights are not those that this run began with" in err
    weights.unlink()
    assert "b-ippo: no weights in it" in refusal(capsys, "eval", tmp_path / "run")
    weights.write_bytes(content)
    main(["eval", str(tmp_path / "run"), "--episodes", "2"])
    shutil.rmtree(mine / "a-vdn")
    assert "a-vdn: no such directory" in refusal(capsys, "resume", tmp_path / "run", "--steps", "600")


def test_the_last_evaluation_is_beside_the_partners_of_the_training(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the pool has grown in the meantime."""
    mine, given = tmp_path / "pool", list[tuple[str, ...]]()
    mine.mkdir()
    shutil.copytree(pool / "a-vdn", mine / "a-vdn")

    def noting(config: TrainConfig[Any], *rest: Any) -> Any:
        if not given:
            shutil.copytree(pool / "b-ippo", mine / "b-ippo")
        given.append(config.partners)
        return play_unseen(config, *rest)

    monkeypatch.setattr("endmark.training.final.play_unseen", noting)
    main(
        ["train", "iql", "--env", LBF, *TINY.split(), "--partners", str(mine), "--run-dir", f"{tmp_path}/run"]
    )
    assert len(given) >= 2  # the last weights, random play, and the best weights where they are others
    assert set(given) == {(read_config(tmp_path / "run")["partners"][0],)}


@pytest.mark.parametrize(("command", "says"), [("inspect", "qmix"), ("eval", "qmix"), ("plot", "curve.png")])
def test_the_other_commands_take_such_a_run(
    command: str, says: str, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(beside(pool, steps=300), tmp_path / "run", lambda *_: None)
    main([command, str(tmp_path / "run"), *(["--episodes", "2"] if command == "eval" else [])])
    assert says in capsys.readouterr().out


def test_scenes_are_the_first_episodes_of_the_evaluation(pool: Path, tmp_path: Path) -> None:
    """Beside partners that draw nothing."""
    config = replace(beside(pool, steps=300), partners=(str(pool),))
    learner, *_ = train(config, tmp_path / "run", lambda *_: None)
    with drawn_env(config) as env:
        shown = [scene for scene in played(config, learner, env, 3) if scene.end is not None]
    summary = evaluate(replace(config, n_envs=1), learner.greedy_policy(1), 3)
    assert sum(scene.total for scene in shown) / 3 == pytest.approx(summary.return_mean, abs=1e-6)
    assert sum(scene.t for scene in shown) / 3 == pytest.approx(summary.length_mean)


@pytest.mark.parametrize("algorithm", [IQLConfig(hidden_size=8, batch_size=4), IPPO], ids=["iql", "ippo"])
def test_agents_that_leave_and_outcomes(algorithm: Any, tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", TABLES)
    config = TrainConfig(
        algorithm,
        **{**SMALL, "env": TABLES},
        steps=400,
        partners=(str(pool), WISHES),
        learner_agents=(0, 3),
        together=2,
    )
    train(config, tmp_path / "run", lambda *_: None)
    lines = [*read_metrics(tmp_path / "run")]
    assert all(value is not None for line in lines for value in line.values())
    assert any("episode_win" in line for line in lines)
    assert Tables().spec.n_agents == 4


def test_a_pettingzoo_team(tmp_path: Path) -> None:
    env = "mpe2.simple_spread_v3"
    pool = pool_of(tmp_path / "pool", env)
    config = TrainConfig(IPPO, **{**SMALL, "env": env}, steps=600, partners=(str(pool), RANDOM), workers=2)
    train(config, tmp_path / "run", lambda *_: None)
    assert all(value is not None for line in read_metrics(tmp_path / "run") for value in line.values())
    summary = evaluate(config, random_policy(), 4)
    assert summary == evaluate(config, random_policy(), 4)


@pytest.mark.skipif(importlib.util.find_spec("jaxmarl") is None, reason="pip install jaxmarl")
def test_battles_that_are_one_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env: dict[str, Any] = {"env": "smax:3m", "env_arg": ("max_steps=20",), "n_envs": 4, "eval_episodes": 2}
    member: TrainConfig[Any] = TrainConfig(IPPO, **env, steps=150, eval_every=10_000)
    train(member, tmp_path / "member", lambda *_: None)
    config: TrainConfig[Any] = TrainConfig(
        VDNConfig(hidden_size=8, batch_size=4),
        **env,
        steps=400,
        eval_every=10_000,
        partners=(str(tmp_path / "member"), RANDOM),
        together=1,
    )
    assert not run(config, tmp_path / "whole", StopAfter(10**9), monkeypatch)
    assert run(config, tmp_path / "stopped", StopAfter(50), monkeypatch)
    assert not run(config, tmp_path / "stopped", StopAfter(10**9), monkeypatch)
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")
    assert json.loads((tmp_path / "whole" / CONFIG).read_text())["partners"][1] == RANDOM


def test_partners_that_are_none(pool: Path, tmp_path: Path) -> None:
    """Where `train` is called as a function: an error of one line, and no directory is left."""
    config = replace(beside(pool), partners=(str(tmp_path / "nothing"),))
    with pytest.raises(RunError, match="no such directory"):
        train(config, tmp_path / "run", lambda *_: None)
    config = replace(beside(pool), partners=(NEAREST,), together=9)
    with pytest.raises(RunError, match="together: given 9"):
        train(config, tmp_path / "run", lambda *_: None)
    assert not (tmp_path / "run").exists()
