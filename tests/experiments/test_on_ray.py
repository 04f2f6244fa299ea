"""Sweeps on a Ray cluster of three nodes on loopback, some of which are killed; and addresses of none."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from endmark.rollout.on_ray import forking
from endmark.run import is_finished
from support.commands import status
from support.sweeps import SMALL, assert_same_runs, finish, runs_in, start
from support.trials import WHOLE

pytest.importorskip("ray")
LOOPBACK = "127.0.0.2"  # Ray takes 127.0.0.1 for the machine's outer address
MEMORY = 80 * 2**20
GRID = f"""
algorithms = ["iql", "vdn", "ippo"]
tasks = "matrix:climbing"
seeds = "0:{10 if WHOLE else 1}"
{SMALL}
steps = {240 if WHOLE else 320}
eval_every = 40
log_every = 20
"""
N_CELLS = 30 if WHOLE else 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes of a core each; the last two may be killed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {
        "num_cpus": 1,
        "object_store_memory": MEMORY,
        "node_ip_address": LOOPBACK,
        "include_dashboard": False,
    }
    with forking():
        made = Cluster(initialize_head=True, head_node_args=node)
        made.endmark_nodes = [made.add_node(**node) for _ in range(2)]
    yield made
    made.shutdown()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path


def n_finished(directory: Path) -> int:
    return sum(is_finished(directory / name) for name in runs_in(directory))


def n_running(directory: Path) -> int:
    """Runs that have logged something and are not finished."""
    logged = [path.parent for path in directory.glob("*/metrics.jsonl") if path.stat().st_size]
    return sum(not is_finished(run) for run in logged)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_node_that_dies_costs_nothing_but_time(
    cluster: Any, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("sweep", "grid.toml", "--directory", "whole") == 0
    began = time.monotonic()
    process = start("grid.toml", "--directory", "out", "--ray", cluster.address)
    # Each node has one core: of this many running cells one at least is on a node that dies.
    n_victims = 1 if WHOLE else 2
    while (done := n_finished(here / "out")) < (10 if WHOLE else 0) or n_running(
        here / "out"
    ) < 4 - n_victims:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    for _ in range(n_victims):
        cluster.remove_node(cluster.endmark_nodes.pop(), allow_graceful=False)
    said = finish(process)
    assert f"{N_CELLS} of {N_CELLS} cells finished: out" in said
    assert_same_runs(here / "out", here / "whole")
    logs = [path.read_text() for path in (here / "out" / "logs").iterdir()]
    resumed = sum(text.count("goes on") for text in logs)
    seconds = time.monotonic() - began
    print(f"{N_CELLS} cells, {done} done when the node died, {resumed} went on elsewhere, {seconds:.0f} s")
    assert resumed >= 1


@pytest.mark.skipif(not WHOLE, reason="`make sweep-kill-test`: Ray's workers take long to start")
@pytest.mark.filterwarnings("ignore")
def test_a_signal_stops_the_cells_on_the_nodes_with_their_states_saved(cluster: Any, here: Path) -> None:
    (here / "grid.toml").write_text(GRID.replace("steps = 1", "steps = 10000").replace("0.05", "1000"))
    process = start("grid.toml", "--directory", "out", "--ray", cluster.address)
    while len(list((here / "out").glob("*/metrics.jsonl"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    finish(process, 3)
    assert len(list((here / "out").glob("*/state.safetensors"))) >= 2


def listener() -> socket.socket:
    """Something that listens and is no Ray."""
    made = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        try:
            connection, _ = made.accept()
        except OSError:
            return
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    return made


def test_clusters_that_are_none(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "")
    monkeypatch.setattr("endmark.rollout.on_ray._RUNNING_CLUSTER", here / "none")
    words = ["sweep", "iql", "--env", "matrix:climbing", "--directory", "out", "--ray"]
    with closing(socket.socket()) as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        silent = f"127.0.0.1:{bound.getsockname()[1]}"
        assert status(*words, silent) == 2
        assert (
            capsys.readouterr().err
            == f"endmark: --ray {silent}: no cluster at {silent}: Connection refused\n"
        )
    with closing(listener()) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert status(*words, address) == 2
        assert capsys.readouterr().err == f"endmark: --ray {address}: what listens at {address} is no Ray\n"
    for given, line in [
        ("auto", "--ray auto: no cluster on this machine, want `ray start --head`, or HOST:PORT"),
        ("here", "--ray here: given 'here', want auto or HOST:PORT, such as 10.0.0.1:6379"),
        ("ray://a:1", "--ray ray://a:1: given 'ray://a:1', want auto or HOST:PORT, such as 10.0.0.1:6379"),
    ]:
        assert status(*words, given) == 2
        assert capsys.readouterr().err == f"endmark: {line}\n"
    monkeypatch.setitem(sys.modules, "ray", None)
    assert status(*words, silent) == 2
    assert (
        capsys.readouterr().err
        == f'endmark: --ray {silent}: Ray is not installed: pip install "endmark[ray]"\n'
    )
    assert status(*words, silent, "--jobs", "2") == 2
    assert "jobs: given with --ray" in capsys.readouterr().err
