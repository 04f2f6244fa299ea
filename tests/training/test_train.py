"""Training end to end: reproducible, documented, and readable however it ends."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from endmark.algorithms import (
    ALGORITHMS,
    IQLConfig,
    Learner,
    MAPPOConfig,
    QLearner,
    QLearningConfig,
    QMIXConfig,
    VDNConfig,
)
from endmark.episodes import EpisodeBatch
from endmark.policies import EpsilonGreedy
from endmark.run import Counters, RunError, read_checkpoint, read_config, read_metrics
from endmark.training import TrainConfig, evaluate, load, random_policy, train
from endmark.training.meters import METRICS
from endmark.training.signals import MESSAGE
from support.seated import BESIDE_PARTNERS

LBF = "lbforaging:Foraging-5x5-2p-1f-v3"
SMALL: dict[str, Any] = {"hidden_size": 8, "batch_size": 4, "replay_frames": 2100, "epsilon_steps": 300}
IQL = IQLConfig(**SMALL)
QMIX = QMIXConfig(mixer_embed_size=4, mixer_hyper_size=4, **SMALL)
MAPPO = MAPPOConfig(hidden_size=8, batch_size=4, epochs=2, minibatches=2)
Config = TrainConfig[Any]
TINY = Config(
    algorithm=IQL,
    env="CartPole-v1",
    steps=400,
    seed=3,
    n_envs=3,
    log_every=100,
    eval_every=150,
    eval_episodes=3,
)
COUNTERS = {"env_steps", "episodes", "updates", "seconds"}
TRAINING = {
    "epsilon", "episode_return", "episode_length",
    "loss", "q_taken", "target", "td_error_abs", "grad_norm",
}  # fmt: skip
EVALUATION = {"greedy_return", "greedy_length", "greedy_terminated"}


def quietly(_: Counters, __: object) -> None:
    pass


def metrics_of(directory: Path) -> list[dict[str, float | None]]:
    """All lines but for the time that passed."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(directory)]


def assert_same_tensors(given: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    assert given.keys() == want.keys()
    for name, tensor in given.items():
        assert torch.equal(tensor, want[name]), name


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, algorithm=QMIX, env=LBF),
        replace(TINY, algorithm=VDNConfig(**SMALL), env=LBF),
        replace(TINY, algorithm=MAPPO, env=LBF, steps=1000),
    ],
    ids=["iql", "qmix", "vdn", "mappo"],
)
def test_a_seed_gives_the_same_run_bit_for_bit(config: Config, tmp_path: Path) -> None:
    torch.rand(5)  # what was drawn before does not matter
    first, counters, _ = train(config, tmp_path / "first", quietly)
    torch.rand(7)
    second, _, _ = train(config, tmp_path / "second", quietly)
    train(replace(config, seed=4), tmp_path / "other", quietly)
    assert counters.updates > 5
    assert metrics_of(tmp_path / "first") == metrics_of(tmp_path / "second")
    assert_same_tensors(first.networks.state_dict(), second.networks.state_dict())
    assert_same_tensors(read_checkpoint(tmp_path / "first")[1], read_checkpoint(tmp_path / "second")[1])
    lines = (metrics_of(tmp_path / name) for name in ("first", "other"))
    assert all(a != b for a, b in zip(*lines, strict=False))


def test_what_is_logged_is_what_is_documented(tmp_path: Path) -> None:
    _, counters, _ = train(TINY, tmp_path, quietly)
    lines = list(read_metrics(tmp_path))
    assert all(line.keys() >= COUNTERS for line in lines)
    kinds = [line.keys() - COUNTERS for line in lines]
    evaluations = [line for line, kind in zip(lines, kinds, strict=True) if kind == EVALUATION]
    training = [line for line, kind in zip(lines, kinds, strict=True) if kind != EVALUATION]
    assert set().union(*kinds) == TRAINING | EVALUATION
    assert {*QLearningConfig.METRICS} == TRAINING - {"epsilon", "episode_return", "episode_length"}
    assert all("epsilon" in line for line in training)
    elsewhere = {
        "episode_win",
        "greedy_win",
        "staleness",
        "noise",
    }  # of outcomes, Ray actors, vectors as actions
    assert METRICS.keys() == EVALUATION | COUNTERS | elsewhere | {
        "epsilon",
        "episode_return",
        "episode_length",
    }

    # One after each multiple, at the first episode's end, and both at the end.
    for lines_of_kind, every in [(training, TINY.log_every), (evaluations, TINY.eval_every)]:
        at = [int(line["env_steps"] or 0) for line in lines_of_kind]
        assert len({steps // every for steps in at[:-1]}) == len(at[:-1])
        assert {steps // every for steps in at} >= set(range(1, TINY.steps // every + 1))
    assert training[-1]["env_steps"] == evaluations[-1]["env_steps"] == counters.env_steps >= TINY.steps
    for line in lines:
        assert all(value is not None for value in line.values())
    steps = [line["env_steps"] for line in lines]
    assert steps == sorted(steps, key=lambda step: step or 0)
    assert training[0]["epsilon"] == pytest.approx(
        1 - 0.95 * int(training[0]["env_steps"] or 0) / 300, abs=0.1
    )
    assert training[-1]["epsilon"] == pytest.approx(IQL.epsilon_end)


def test_training_metrics_are_means_over_what_happened_since_the_last_line(tmp_path: Path) -> None:
    """CartPole gives a reward of 1 a step, so return and length agree, and account for all steps."""
    train(replace(TINY, n_envs=1), tmp_path, quietly)
    lines = [line for line in metrics_of(tmp_path) if "epsilon" in line]
    steps, episodes = 0.0, 0.0
    for line in lines:
        length, now = line["episode_length"], line["episodes"]
        assert length is not None
        assert now is not None
        assert line["episode_return"] == length
        steps += length * (now - episodes)
        episodes = now
        assert line["env_steps"] == pytest.approx(steps)


def test_observers_see_every_hand_over(tmp_path: Path) -> None:
    seen: list[tuple[Counters, Mapping[str, float]]] = []
    _, counters, _ = train(TINY, tmp_path, lambda now, greedy: seen.append((now, greedy)))
    steps = [now.env_steps for now, _ in seen]
    assert steps == sorted(set(steps))
    assert seen[-1][0] == counters
    assert seen[0][1] == {}
    greedy = [line["greedy_return"] for line in read_metrics(tmp_path) if "greedy_return" in line]
    assert list(dict.fromkeys(means["return"] for _, means in seen if means)) == list(dict.fromkeys(greedy))


def test_updates_come_after_every_so_many_episodes(tmp_path: Path) -> None:
    _, each, _ = train(TINY, tmp_path / "each", quietly)
    assert each.updates == each.episodes - IQL.batch_size + 1
    third = replace(TINY, algorithm=replace(IQL, episodes_per_update=3))
    _, counters, _ = train(third, tmp_path / "third", quietly)
    assert counters.updates == pytest.approx((counters.episodes - IQL.batch_size) / 3, abs=1.5)


def test_load_gives_the_same_learner_and_configuration(tmp_path: Path) -> None:
    config = replace(TINY, algorithm=QMIX, env=LBF)
    learner, counters, _ = train(config, tmp_path, quietly)
    loaded_config, loaded = load(tmp_path)
    assert loaded_config == config
    assert loaded.spec == learner.spec
    assert loaded.updates == learner.updates == counters.updates
    assert read_checkpoint(tmp_path)[0] == counters
    assert_same_tensors(loaded.networks.state_dict(), learner.networks.state_dict())
    assert evaluate(config, loaded.greedy_policy(config.n_envs), 5) == evaluate(
        config, learner.greedy_policy(config.n_envs), 5
    )


def test_every_option_round_trips(tmp_path: Path) -> None:
    """Also those that are not their default."""
    values: dict[type, Any] = {int: 3, float: 0.125, type(None): 0.25}
    words: dict[str, Any] = {
        "normalise_reward": "none",
        "target_update": "hard",
        "agent": "feedforward",
        "share": "none",
        "critic": "own",
        "reward": "agent",
        "squash": "tanh",
        "log_std": 0.25,
        "log_std_min": -3.0,
        "log_std_max": 0.375,
    }
    wide = {"replay_frames": 2100}
    for name in ALGORITHMS.keys() - {*BESIDE_PARTNERS}:
        kind = ALGORITHMS[name]
        options: dict[str, Any] = {
            field.name: (words | wide).get(field.name)
            or (not field.default if isinstance(field.default, bool) else values[type(field.default)])
            for field in dataclasses.fields(kind)  # type: ignore[arg-type]
            if field.name != "td_n"  # beside another td_lambda
        }
        config = replace(TINY, algorithm=kind(**options), episode_limit=50, device="cpu", steps=100)
        train(config, tmp_path / name, quietly)
        assert load(tmp_path / name)[0] == config


def test_the_episode_limit_cuts(tmp_path: Path) -> None:
    train(replace(TINY, episode_limit=7), tmp_path, quietly)
    lines = list(read_metrics(tmp_path))
    assert all((line.get("episode_length") or 0) <= 7 for line in lines)
    assert min(line["greedy_terminated"] or 0 for line in lines if "greedy_terminated" in line) == 0


def test_a_replay_that_is_too_small_is_refused(tmp_path: Path) -> None:
    needed = 4 * 501
    with pytest.raises(
        ValueError,
        match=f"replay_frames: given {needed - 1}, want at least {needed}, which holds batch_size 4",
    ):
        train(replace(TINY, algorithm=replace(IQL, replay_frames=needed - 1)), tmp_path / "run", quietly)
    assert not (tmp_path / "run").exists(), "what is refused leaves nothing behind"
    with pytest.raises(ValueError, match="do not fit into memory"):
        train(replace(TINY, algorithm=replace(IQL, replay_frames=10**14)), tmp_path / "run", quietly)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps: given 0, want at least 1"),
        ({"n_envs": -1}, "n_envs: given -1, want at least 1"),
        ({"eval_episodes": 0}, "eval_episodes: given 0, want at least 1"),
        ({"seed": -1}, "seed: given -1"),
        ({"seed": 2**63}, f"seed: given {2**63}"),
        ({"workers": -1}, "workers: given -1, want at least 0"),
        ({"n_envs": 8, "workers": 3}, "n_envs: given 8, want a multiple of 3, the workers"),
        ({"worker_timeout": 0.0}, "worker_timeout: given 0.0, want more than 0 seconds"),
        ({"env_arg": ("size",)}, "env_arg: given 'size', want key=value"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(TINY, **changes)


def test_the_highest_seed_works(tmp_path: Path) -> None:
    _, counters, _ = train(replace(TINY, seed=2**63 - 1, steps=50), tmp_path, quietly)
    assert counters.env_steps >= 50


@pytest.mark.parametrize("device", ["nonsense", "meta", "cuda:77"])
def test_a_device_that_is_none_is_refused(device: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"device: given '{device}': .+"):
        train(replace(TINY, device=device), tmp_path / "run", quietly)
    assert not (tmp_path / "run").exists()


# --- workers ---


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_give_the_same_run_bit_for_bit(workers: int, tmp_path: Path) -> None:
    config = replace(TINY, algorithm=QMIX, env=LBF, n_envs=4)
    here, _, _ = train(config, tmp_path / "here", quietly)
    there, _, _ = train(replace(config, workers=workers), tmp_path / "there", quietly)
    assert metrics_of(tmp_path / "there") == metrics_of(tmp_path / "here")
    assert_same_tensors(there.networks.state_dict(), here.networks.state_dict())


# --- overlap ---


class Stale:
    """`Overlapped` without a thread: the same order of weights, one thing after the other."""

    def __init__(self, learner: Learner, threads: int) -> None:
        self.learner, self.actor, self.begun = learner, copy.deepcopy(learner.actor), 0
        self.device = torch.device("cpu")
        self.waiting: list[EpisodeBatch] = []

    def state_dict(self) -> dict[str, Any]:
        return {"begun": self.begun}

    def begin(self, batch: EpisodeBatch) -> None:
        self.begun += 1
        if not self.waiting:
            self.actor.load_state_dict(self.learner.actor.state_dict())
        self.waiting.append(batch)

    def finish(self) -> list[dict[str, torch.Tensor]]:
        waiting, self.waiting = self.waiting, []
        return [self.learner.update(batch) for batch in waiting]


# A high learning rate, so that weights matter early.
OVERLAPPED = replace(TINY, algorithm=replace(IQL, lr=0.01), overlap=True)


@pytest.mark.parametrize(
    "config",
    [
        OVERLAPPED,
        replace(OVERLAPPED, algorithm=replace(IQL, episodes_per_update=3, lr=0.01)),
        replace(OVERLAPPED, algorithm=replace(QMIX, lr=0.01), env=LBF, n_envs=4, workers=2),
        replace(OVERLAPPED, algorithm=replace(MAPPO, actor_lr=0.03), env=LBF, steps=500),
    ],
    ids=["an update an episode", "now and then", "with workers", "on-policy"],
)
def test_overlapped_updates_change_what_acts_and_nothing_else(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, steps=2 * config.steps)
    first, counters, _ = train(config, tmp_path / "first", quietly)
    second, _, _ = train(config, tmp_path / "second", quietly)
    train(replace(config, overlap=False), tmp_path / "in turn", quietly)
    monkeypatch.setattr("endmark.training.parts.Overlapped", Stale)
    naive, _, _ = train(config, tmp_path / "naive", quietly)
    assert counters.updates == first.updates > 5
    for other, directory in [(second, "second"), (naive, "naive")]:
        assert metrics_of(tmp_path / "first") == metrics_of(tmp_path / directory)
        assert_same_tensors(other.networks.state_dict(), first.networks.state_dict())
    assert metrics_of(tmp_path / "first") != metrics_of(tmp_path / "in turn")


def test_overlap_makes_no_difference_where_weights_make_none(tmp_path: Path) -> None:
    config = replace(TINY, algorithm=replace(IQL, epsilon_end=1.0))
    train(config, tmp_path / "in turn", quietly)
    train(replace(config, overlap=True), tmp_path / "overlapped", quietly)
    lines = [
        [line for line in metrics_of(tmp_path / name) if "greedy_return" not in line]
        for name in ("in turn", "overlapped")
    ]
    assert lines[0] == lines[1]


def test_how_often_is_logged_does_not_change_an_overlapped_run(tmp_path: Path) -> None:
    often, _, _ = train(replace(OVERLAPPED, log_every=1), tmp_path / "often", quietly)
    seldom, _, _ = train(OVERLAPPED, tmp_path / "seldom", quietly)
    assert_same_tensors(often.networks.state_dict(), seldom.networks.state_dict())


@pytest.mark.parametrize("overlap", [False, True])
def test_lines_speak_of_the_updates_that_they_count(
    overlap: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Means are over the updates since the last line; an evaluation is of all updates so far."""
    evaluated: list[int] = []
    update = QLearner.update

    def numbered_update(learner: QLearner, batch: EpisodeBatch) -> dict[str, torch.Tensor]:
        time.sleep(0.01)  # so that what does not wait is caught
        return update(learner, batch) | {"loss": torch.tensor(float(learner.updates))}

    greedy_policy = QLearner.greedy_policy

    def noted_policy(learner: QLearner, n_envs: int) -> EpsilonGreedy:
        evaluated.append(learner.updates)
        return greedy_policy(learner, n_envs)

    monkeypatch.setattr(QLearner, "update", numbered_update)
    monkeypatch.setattr(QLearner, "greedy_policy", noted_policy)
    train(replace(TINY, overlap=overlap), tmp_path, quietly)
    lines = list(read_metrics(tmp_path))
    assert [line["updates"] for line in lines if "greedy_return" in line] == evaluated
    before = 0.0
    for line in lines:
        if "loss" in line:
            assert line["updates"] is not None
            assert line["loss"] == pytest.approx((before + 1 + line["updates"]) / 2)
            before = line["updates"]
    assert before > 5


@pytest.mark.parametrize("overlap", [False, True])
def test_an_error_in_an_update_ends_the_run(
    overlap: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(learner: QLearner, batch: EpisodeBatch) -> None:
        raise ZeroDivisionError("in an update")

    monkeypatch.setattr(QLearner, "update", fail)
    with pytest.raises(ZeroDivisionError, match="in an update"):
        train(replace(TINY, overlap=overlap), tmp_path, quietly)


def test_torch_has_its_threads_where_updates_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    update = QLearner.update

    def counting_update(learner: QLearner, batch: EpisodeBatch) -> dict[str, torch.Tensor]:
        threads.append((torch.get_num_threads(), threading.current_thread() is threading.main_thread()))
        return update(learner, batch)

    monkeypatch.setattr(QLearner, "update", counting_update)
    try:
        train(replace(OVERLAPPED, threads=2), tmp_path, quietly)
    finally:
        torch.set_num_threads(1)
    assert set(threads) == {(2, False)}


def test_a_stop_waits_for_the_updates_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the machine is slow: the checkpoint holds all updates that it counts."""
    counters_of: dict[str, Counters] = {}

    def stop_early(name: str) -> Learner:
        def observe(counters: Counters, _: object) -> None:
            if counters.updates >= 7:
                signal.raise_signal(signal.SIGINT)

        learner, counters_of[name], _ = train(replace(OVERLAPPED, log_every=10_000), tmp_path / name, observe)
        return learner

    update = QLearner.update

    def slow_update(learner: QLearner, batch: EpisodeBatch) -> dict[str, torch.Tensor]:
        time.sleep(0.1)
        return update(learner, batch)

    monkeypatch.setattr(QLearner, "update", slow_update)
    slow = stop_early("slow")
    monkeypatch.setattr("endmark.training.parts.Overlapped", Stale)
    naive = stop_early("naive")
    assert counters_of["slow"] == counters_of["naive"]
    assert slow.updates == counters_of["slow"].updates == read_checkpoint(tmp_path / "slow")[0].updates
    assert_same_tensors(read_checkpoint(tmp_path / "slow")[1], slow.networks.state_dict())
    assert_same_tensors(slow.networks.state_dict(), naive.networks.state_dict())


def config_with(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(read_config(directory) | changes))


def test_a_run_that_does_not_fit_is_said_on_one_line(tmp_path: Path) -> None:
    train(replace(TINY, steps=50), tmp_path, quietly)
    original = (tmp_path / "config.json").read_bytes()
    for changes, message in [
        ({"algorithm": {"name": "qmix"}}, "does not fit the run's config"),
        ({"algorithm": {"name": "iql", "hidden_size": 9}}, "does not fit the run's config"),
        ({"algorithm": 3}, "does not fit this version of endmark"),
        ({"algorithm": {"name": "iql", "no_such_option": 3}}, "does not fit this version of endmark"),
        ({"algorithm": {"name": "qmux"}}, "does not fit this version of endmark: unknown algorithm 'qmux'"),
        ({"steps": -5}, "does not fit this version of endmark: steps: given -5"),
    ]:
        config_with(tmp_path, **changes)  # type: ignore[arg-type]
        with pytest.raises(RunError, match=message) as error:
            load(tmp_path)
        assert "\n" not in str(error.value)
        (tmp_path / "config.json").write_bytes(original)
    weights = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(
        {"agent.head.bias": torch.zeros(2)},
        weights,
        metadata={"counters": '{"env_steps": 0, "episodes": 0, "updates": 3}'},
    )
    with pytest.raises(RunError, match=r"does not fit the run's config") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


# --- however it ends ---


def start(directory: Path, *options: str) -> subprocess.Popen[str]:
    """`endmark train`, for longer than anybody waits, until its first checkpoint is there.

    In a process group of its own, as a terminal would start it.
    """
    arguments = (
        "train iql --env CartPole-v1 --steps 100000000 --batch-size 4 --replay-frames 4000 --n-envs 2 "
        "--log-every 100 --eval-every 200 --eval-episodes 2 --hidden-size 8 --seed 1"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "endmark", *arguments.split(), "--run-dir", str(directory), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    for _ in range(600):
        assert process.poll() is None, process.communicate()
        # The first checkpoint is also the best, which is written second.
        if (directory / "best.safetensors").exists():
            return process
        time.sleep(0.1)
    process.kill()
    raise AssertionError("no checkpoint within a minute")


@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGINT, []), (signal.SIGTERM, ["--workers", "2", "--overlap"])],
    ids=["in turn", "side by side"],
)
def test_a_signal_ends_training_with_a_checkpoint(
    number: signal.Signals, options: list[str], tmp_path: Path
) -> None:
    process = start(tmp_path / "run", *options)
    os.killpg(process.pid, number)  # to the workers as well
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    assert err.splitlines() == ["", MESSAGE.format(name).strip()]
    assert "stopped after" in out
    assert f"endmark eval {tmp_path / 'run'}" in out
    config, learner = load(tmp_path / "run")
    counters, _ = read_checkpoint(tmp_path / "run")
    assert (config.steps, config.algorithm.hidden_size) == (100_000_000, 8)
    assert learner.updates == counters.updates > 0
    assert f"stopped after {counters.env_steps} steps" in out


def test_a_kill_leaves_what_can_be_read(tmp_path: Path) -> None:
    process = start(tmp_path / "run")
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert read_config(tmp_path / "run")["env"] == "CartPole-v1"
    lines = list(read_metrics(tmp_path / "run"))
    assert any("greedy_return" in line for line in lines)
    config, learner = load(tmp_path / "run")
    assert learner.updates > 0
    assert evaluate(config, learner.greedy_policy(config.n_envs), 3).episodes == 3


@pytest.mark.slow
def test_training_improves_on_random(tmp_path: Path) -> None:
    # Long enough for six of six seeds, by three times and more: bits differ from processor to processor.
    config = Config(
        algorithm=IQLConfig(lr=1e-3, td_lambda=0.8, batch_size=16, epsilon_steps=5_000),
        env="CartPole-v1",
        steps=20_000,
        seed=3,
        eval_every=20_000,
        eval_episodes=4,
    )
    learner, _, _ = train(config, tmp_path, quietly)
    trained = evaluate(config, learner.greedy_policy(config.n_envs), 20)
    random = evaluate(config, random_policy(), 20)
    assert random.return_mean < 35
    assert trained.return_mean > 1.5 * random.return_mean
    assert trained.return_low > random.return_high
