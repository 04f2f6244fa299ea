"""A cross-play matrix against single cells, played one by one with everything made anew."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from endmark.algorithms import IQLConfig, OMGConfig
from endmark.policies import Member, Partners, Scripted, Seating
from endmark.policies.scripted import nearest_food, random
from endmark.rollout import EpisodeSeeds, episode_returns
from endmark.run import RunError
from endmark.training import CrossplaySettings, Matrix, TrainConfig, crossplay, evaluate, load
from endmark.training.build import make_envs
from endmark.training.evaluation import FINAL, played_with
from endmark.training.partners import load_partners
from endmark.training.player_names import algorithm_groups, short_names
from support import pool
from support.pool import ENV, FORAGER, IQL, RANDOM, make_pool, trained
from support.scripted import outcomes_of

EPISODES = 5
FEW = CrossplaySettings(episodes=EPISODES)
WINNABLE = CrossplaySettings(episodes=EPISODES, env="support.scripted:Winnable")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pool")
    make_pool(directory)
    return directory


@pytest.fixture(scope="module")
def matrix(runs: Path) -> Matrix:
    learners = [str(runs / "training"), str(runs / "heldout" / "a"), str(runs / "taught"), FORAGER]
    return crossplay(learners, [str(runs / "training"), FORAGER], [str(runs / "heldout"), RANDOM], FEW)


def test_who_they_are(matrix: Matrix) -> None:
    learners = [(p.name, p.group, p.seats, p.agents) for p in matrix.learners]
    assert learners == [
        ("training/a", "iql", 1, None),
        ("b", "iql", 1, None),
        ("heldout/a", "ippo", 1, None),
        ("taught", "iql", 1, (1,)),
        ("nearest_food", "nearest_food (script)", 1, None),
    ]
    assert [(p.name, p.group) for p in matrix.partners] == [
        ("training/a", "training"),
        ("b", "training"),
        ("nearest_food", "training"),
        ("heldout/a", "held out"),
        ("random", "held out"),
    ]
    same = {(int(row), int(column)) for row, column in zip(*matrix.self_play.nonzero(), strict=True)}
    assert same == {(0, 0), (1, 1), (2, 3), (4, 2)}
    assert matrix.seen == (("taught", "heldout/a"),)  # and the forager, which is not said to be held out
    assert matrix.env == ENV
    assert matrix.outcomes == {}


def test_every_cell_is_that_of_one_evaluation(matrix: Matrix, runs: Path) -> None:
    """Bit-equal, with the runs loaded anew and environments made anew for each cell."""
    seeds = list(itertools.islice(EpisodeSeeds(FINAL, 0), EPISODES))
    assert matrix.seeds == tuple(seeds)
    for row, learner in enumerate(matrix.learners):
        for column, partner in enumerate(matrix.partners):
            if learner.source == FORAGER:
                config: TrainConfig[Any] = IQL
                policy: Any = Scripted(nearest_food, torch.Generator().manual_seed(1))
            else:
                config, network = load(Path(learner.source.partition("@")[0]), device="cpu")
                policy = network.greedy_policy(config.n_envs)
            config = replace(config, partners=(partner.source,), learner_agents=learner.agents)
            with closing(make_envs(config, config.n_envs)) as envs:
                batch = played_with(load_partners(config, envs.spec), policy, envs, seeds)
            assert matrix.returns[row, column].tolist() == episode_returns(batch)
            assert matrix.lengths[row, column].tolist() == batch.lengths.tolist()
            reward = batch.steps("reward").sum(-1).double()
            totals = [float(one.sum()) for one in torch.split(reward, batch.lengths.tolist())]
            assert matrix.team_returns is not None
            np.testing.assert_allclose(matrix.team_returns[row, column], totals, rtol=1e-12)
    assert matrix.returns.std() > 0


def test_a_cell_is_what_endmark_eval_says_of_a_run_with_that_partner(matrix: Matrix, runs: Path) -> None:
    config, learner = load(runs / "taught")
    config = replace(config, partners=(FORAGER,))
    summary = evaluate(config, learner.greedy_policy(config.n_envs), EPISODES)
    assert summary.return_mean == matrix.returns[3, 2].mean()
    assert summary.length_mean == matrix.lengths[3, 2].mean()


def test_the_same_agent_learns_in_the_same_episode_of_every_cell() -> None:
    pool.SEATED.clear()
    settings = FEW._replace(env=ENV, episodes=12)
    partners = [FORAGER, RANDOM, "endmark.policies.scripted:farthest_food"]
    crossplay(["support.pool:watcher"], partners, (), settings)
    cells = [sorted(pool.SEATED[i * 12 : (i + 1) * 12]) for i in range(3)]
    assert cells[0] == cells[1] == cells[2]
    assert {learns for _, learns in cells[0]} == {(True, False), (False, True)}
    assert [seed for seed, _ in cells[0]] == sorted(itertools.islice(EpisodeSeeds(FINAL, 0), 12))


def test_other_seats_may_be_asked_for() -> None:
    pool.SEATED.clear()
    crossplay(["support.pool:watcher"], [RANDOM], (), FEW._replace(env=ENV, learner_agents=(1,)))
    assert {learns for _, learns in pool.SEATED} == {(False, True)}
    with pytest.raises(ValueError, match="learner watcher: learners: given 2, want 1 <= learners < 2"):
        crossplay(["support.pool:watcher"], [RANDOM], (), FEW._replace(env=ENV, learner_seats=2))
    with pytest.raises(ValueError, match="learners: given 0, want 1"):
        crossplay(["support.pool:watcher"], [RANDOM], (), FEW._replace(env=ENV, learner_seats=0))


def test_runs_are_loaded_and_environments_made_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, loaded, cells = [], [], []

    def counted_envs(config: TrainConfig[Any], n_envs: int) -> Any:
        made.append(n_envs)
        return make_envs(config, n_envs)

    def counted_load(directory: Path, checkpoint: str, *, device: str | None = None) -> Any:
        loaded.append(directory.name)
        return load(directory, checkpoint, device=device)

    monkeypatch.setattr(sys.modules["endmark.training.crossplay"], "make_envs", counted_envs)
    monkeypatch.setattr(sys.modules["endmark.training.partners"], "load", counted_load)
    learners = [str(runs / "training"), str(runs / "heldout" / "a")]
    crossplay(learners, learners, [], FEW, progress=lambda *at: cells.append(at))
    assert made == [2, 3]
    assert sorted(loaded) == ["a", "a", "b"]
    assert cells == [(i, 9) for i in range(10)]


def test_one_named_twice_is_one(runs: Path) -> None:
    a = runs / "training" / "a"
    given = [str(a), str(a / ".." / "a"), str(a / "weights.safetensors"), FORAGER, FORAGER]
    matrix = crossplay(given, [str(a)], (), FEW)
    assert [player.name for player in matrix.learners] == ["a", "nearest_food"]


def test_outcomes_and_one_reward_for_the_team() -> None:
    matrix = crossplay([RANDOM], [RANDOM], (), WINNABLE)
    wanted = [outcomes_of(seed % 40) for seed in matrix.seeds]
    assert {name: values[0, 0].tolist() for name, values in matrix.outcomes.items()} == {
        name: [float(np.float32(its[name])) for its in wanted] for name in ("win", "score")
    }
    assert matrix.team_returns is None


def test_json_and_back(matrix: Matrix) -> None:
    for one in (matrix, crossplay([RANDOM], [RANDOM], (), WINNABLE)):
        again = Matrix.from_json(json.loads(json.dumps(one.to_json(), allow_nan=False)))
        assert again.to_json() == one.to_json()
        assert again.learners == one.learners
        assert again.partners == one.partners
        assert again.returns.tobytes() == one.returns.tobytes()
        assert (again.self_play == one.self_play).all()


def test_learners_of_one_algorithm_are_told_apart_by_its_settings(runs: Path, tmp_path: Path) -> None:
    algorithm = IQLConfig(hidden_size=16, batch_size=2, replay_frames=2000)
    trained(replace(IQL, algorithm=algorithm), tmp_path / "wide")
    matrix = crossplay([str(runs / "training"), str(tmp_path / "wide")], [RANDOM], (), FEW)
    assert [p.group for p in matrix.learners] == ["iql hidden_size=8"] * 2 + ["iql hidden_size=16"]


def test_names() -> None:
    pin = "@sha256:00"
    sources = [
        f"/pool/x/iql{pin}",
        f"/pool/y/iql{pin}",
        f"/pool/y/vdn{pin}",
        f"/pool/y/vdn/best.safetensors{pin}",
        f"/other/y/iql{pin}",
        "first:random",
        "second:random",
        "second:other",
    ]
    assert list(short_names(sources).values()) == [
        "x/iql",
        "pool/y/iql",
        "vdn",
        "vdn/best",
        "other/y/iql",
        "first:random",
        "second:random",
        "other",
    ]
    assert short_names([f"/iql{pin}", f"/a/iql{pin}"]) == {f"/iql{pin}": "/iql", f"/a/iql{pin}": "a/iql"}


def test_the_environment_is_that_of_the_runs(runs: Path, tmp_path: Path) -> None:
    """Learners that were trained on variants of it say so; what to play may be given."""
    harder = replace(IQL, env_arg=("max_player_level=1",), episode_limit=9)
    trained(harder, tmp_path / "harder")
    a = str(runs / "training" / "a")
    matrix = crossplay([str(tmp_path / "harder")], [a], (), FEW)
    assert matrix.env_arg == ("max_player_level=1",)
    assert matrix.episode_limit == 9
    assert matrix.lengths.max() <= 9
    assert crossplay([RANDOM], [a], (), FEW).env == ENV
    wanted = rf"learner {tmp_path}/harder: trained with 'max_player_level=1 episode_limit=9', and {a} with ''"
    with pytest.raises(RunError, match=wanted):
        crossplay([a, str(tmp_path / "harder")], [RANDOM], (), FEW)
    matrix = crossplay([a, str(tmp_path / "harder")], [RANDOM], (), FEW._replace(env_arg=("max_num_food=1",)))
    assert matrix.env_arg == ("max_num_food=1",)


def test_what_cannot_be_played(runs: Path, tmp_path: Path) -> None:
    a = str(runs / "training" / "a")
    shutil.copytree(a, tmp_path / "bare", ignore=shutil.ignore_patterns("weights.safetensors"))
    (tmp_path / "empty").mkdir()
    trained(replace(IQL, env="lbforaging:Foraging-5x5-2p-2f-v3"), tmp_path / "other")
    trained(replace(IQL, env_arg=("players=3",)), tmp_path / "three")
    bare, empty, other, three = (str(tmp_path / name) for name in ("bare", "empty", "other", "three"))
    cases: list[tuple[list[str], list[str], list[str], str]] = [
        ([], [a], [], "given nobody to play with, want at least one learner and one partner"),
        ([a], [], [], "given nobody to play with"),
        ([a], [a], [a], f"partner {a}: given as seen in training and as held out, want one"),
        (["nowhere"], [a], [], "learner nowhere: no such directory"),
        ([a], [], ["nowhere"], "partner nowhere: no such directory"),
        ([empty], [a], [], f"learner {empty}: neither a run directory nor a folder with runs in it"),
        ([a], [bare], [], f"partner {bare}: no weights in it"),
        ([bare], [a], [], f"learner {bare}: no weights in it"),
        ([a], [other], [], f"partner {other}: trained on lbforaging:Foraging-5x5-2p-2f-v3, want {ENV}"),
        ([other, a], [RANDOM], [], f"learner {a}: trained on {ENV}, want lbforaging:Foraging-5x5-2p-2f-v3"),
        ([a], [three], [], f"partner {three}: field 'obs': given shape (3, 12), want shape (2, 9)"),
        ([a], ["support.pool:nobody"], [], "partner support.pool:nobody: the module 'support.pool' has no"),
        (["no_such_module:f"], [a], [], "learner no_such_module:f: cannot import"),
        ([RANDOM], [RANDOM], [], "env: given no run, which would say it, want an environment's id"),
        ([a], ["support.pool:fails"], [], "partner support.pool:fails: KeyError: 'no such thing'"),
        ([a], ["support.pool:gives_floats"], [], "gives_floats: given torch.float32"),
    ]
    for learners, partners, held_out, message in cases:
        with pytest.raises(ValueError) as refused:
            crossplay(learners, partners, held_out, FEW)
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="episodes: given 0, want at least 1"):
        crossplay([a], [a], (), FEW._replace(episodes=0))
    with pytest.raises(ValueError, match="seed: given -1, want at least 0"):
        crossplay([a], [a], (), FEW._replace(seed=-1))


def test_members_and_seats_by_hand() -> None:
    """A learner that draws does not draw what its partner draws."""
    settings = FEW._replace(env=ENV, episodes=40)
    matrix = crossplay([RANDOM], [RANDOM], (), settings)
    seeds = list(matrix.seeds)
    config = replace(IQL, n_envs=8)

    def member(n_envs: int, generator: torch.Generator) -> Any:
        return Scripted(random, generator)

    with closing(make_envs(config, 8)) as envs:
        partners = Partners([Member("random", member)], Seating(2, 1))
        policy = member(8, torch.Generator().manual_seed(1))
        batch = played_with(partners, policy, envs, seeds)
    assert matrix.returns[0, 0].tolist() == episode_returns(batch)
    assert matrix.self_play.all()


def test_learners_with_a_prior_each_are_seeds_of_one_algorithm() -> None:
    configs = {
        name: TrainConfig[Any](
            algorithm=OMGConfig(model="omg", prior=f"priors/{name}", horizon=horizon), env=ENV
        )
        for name, horizon in [("a", 3), ("b", 3), ("c", 5)]
    }
    groups = algorithm_groups(configs, {name: name for name in configs})
    name = configs["a"].name
    assert groups == {"a": f"{name} horizon=3", "b": f"{name} horizon=3", "c": f"{name} horizon=5"}
