"""Training with actors on a cluster of Ray, on loopback: one cluster for all of these tests."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from endmark.algorithms import ALGORITHMS
from endmark.envs import ContractError
from endmark.rollout import Actors, RayError, WorkerError, WorkerWarning
from endmark.rollout.on_ray import connect
from endmark.run import Counters, read_metrics
from endmark.training import TrainConfig, actors, train
from support.commands import status
from support.stopping import assert_same_run
from support.trials import WHOLE

pytest.importorskip("ray")
IN_TROUBLE = "support.troubled:InTheSecondStep"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray, is_ours = connect(None, cpus=4)
    assert is_ours
    yield ray
    ray.shutdown()


def config_of(name: str, env: str = "matrix:two-step", **settings: Any) -> TrainConfig[Any]:
    """A short run of four environments with two actors."""
    kind: Any = ALGORITHMS[name]
    own = {key: settings.pop(key) for key in list(settings) if hasattr(kind, key)}
    defaults = {"n_envs": 4, "ray_actors": 2, "steps": 300, "seed": 1, "log_every": 100}
    evaluations = {"eval_every": 150, "eval_episodes": 2}
    algorithm = kind(**{"hidden_size": 8, "batch_size": 4, **own})
    return TrainConfig(algorithm=algorithm, env=env, **{**defaults, **evaluations, **settings})


def once(at: int, do: Callable[[], object]) -> Callable[[Counters, object], None]:
    """What a run calls as it goes on: does this once, after so many steps."""
    left = [do]

    def on_progress(counters: Counters, _: object) -> None:
        if counters.env_steps >= at and left:
            left.pop()()

    return on_progress


@pytest.mark.slow
def test_a_run_whose_actor_is_killed_is_the_run_without_faults(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("vdn", weights_every=2, replay_frames=400)
    train(config, tmp_path / "whole", lambda *_: None)
    stale = [line["staleness"] for line in read_metrics(tmp_path / "whole") if "staleness" in line]
    assert any(stale)
    made: list[Actors] = []

    class Noted(Actors):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(actors, "Actors", Noted)
    with pytest.warns(WorkerWarning, match=r"^actor 1 died, and another goes on from its last answer: "):
        train(config, tmp_path / "killed", once(100, lambda: cluster.kill(made[0]._handles[1])))
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.skipif(not WHOLE, reason="`make sweep-kill-test`: it takes long")
@pytest.mark.usefixtures("cluster")
def test_a_run_that_is_stopped_and_resumed_is_the_run_without_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("ippo")
    train(config, tmp_path / "whole", lambda *_: None)
    stop = threading.Event()

    @contextmanager
    def stop_on_signal() -> Iterator[threading.Event]:
        yield stop

    monkeypatch.setattr("endmark.training.loop.stop_on_signal", stop_on_signal)
    assert train(config, tmp_path / "stopped", once(150, stop.set)).stopped
    stop.clear()
    assert not train(config, tmp_path / "stopped", lambda *_: None, resume=True).stopped
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")
    assert "exact" not in json.loads((tmp_path / "stopped" / "config.json").read_text())["made_with"]


@pytest.mark.usefixtures("cluster")
def test_what_an_environment_raises_in_an_actor_ends_the_run_with_its_message(tmp_path: Path) -> None:
    config = config_of("vdn", IN_TROUBLE, env_arg=("trouble=nan",), replay_frames=4000)
    want = r"^actor 0: environment \d, seed \d+, step 1, reward: given nan, want finite numbers$"
    with pytest.raises(ContractError, match=want):
        train(config, tmp_path / "run", lambda *_: None)


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_dies_again_and_again_ends_the_run(tmp_path: Path) -> None:
    config = config_of("vdn", IN_TROUBLE, env_arg=("trouble=kill",), replay_frames=4000)
    with (
        pytest.warns(WorkerWarning, match=r"^actor 0 died"),
        pytest.raises(WorkerError, match=r"^actor 0 died 3 times without an answer: "),
    ):
        train(config, tmp_path / "run", lambda *_: None)


@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_is_too_small_is_refused() -> None:
    with pytest.raises(RayError, match=r"^the Ray cluster has 4 processors, want 50, one for each actor$"):
        connect(None, cpus=50)


def test_a_cluster_that_does_not_answer_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = f"--env matrix:two-step --steps 10 --ray-actors 2 --ray-address {address} --run-dir".split()
    assert status("train", "iql", *options, tmp_path / "run") == 2
    assert capsys.readouterr().err == f"endmark: no cluster at {address}: Connection refused\n"
    assert not (tmp_path / "run").exists()


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayError, match=r'^Ray is not installed: pip install "endmark\[ray\]"$'):
        connect(None, cpus=1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ray_actors": 3}, "n_envs: given 4, want a multiple of 3, the ray_actors"),
        ({"ray_actors": -1}, "ray_actors: given -1, want at least 0"),
        ({"workers": 2}, "workers: given 2 beside ray_actors, want one of them"),
        (
            {"ray_actors": 0, "weights_every": 2},
            "weights_every: given 2 without ray_actors, want ray_actors ",
        ),
        ({"ray_actors": 0, "ray_address": "auto"}, "ray_address: given auto without ray_actors, want "),
        ({"weights_every": 0}, "weights_every: given 0, want at least 1"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        config_of("vdn", **settings)
