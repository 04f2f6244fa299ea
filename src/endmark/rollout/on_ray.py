"""Actors on a Ray cluster: how they are reached, replaced when they die, and ended.

This and `endmark.experiments.on_ray` are the only files that know Ray.
"""

from __future__ import annotations

import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from endmark.envs import EnvError
from endmark.episodes import EpisodeSpec
from endmark.rollout.player import Answer, MakePlayer, PlayingActor, Request
from endmark.rollout.process import WorkerError, WorkerWarning
from endmark.rollout.rollout import Stopped
from endmark.wording import quoted

AUTO = "auto"
_SECONDS_BETWEEN_CHECKS = 0.1
_SECONDS_TO_ANSWER = 3.0
_SECONDS_TO_CLOSE = 1.0
_DEATHS_IN_A_ROW = 3
# Nothing is reported to anybody, and a busy machine may take its time.
_BEFORE_IT_STARTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # no GPU for a task that asked for none
    "RAY_raylet_start_wait_time_s": "30",
    "RAY_agent_register_timeout_ms": "120000",
}
_RUNNING_CLUSTER = Path("/tmp/ray/ray_current_cluster")  # where `ray start` notes it
# An HTTP/2 connection's first bytes and its settings, none; a gRPC server such as Ray's answers with its own.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4


class RayError(ValueError):
    """Ray is not installed, or the cluster cannot be reached, or is too small."""


class Actors:
    """Actors of a cluster, as they start, die, are replaced and end. An `ActorPool`, to be closed.

    spec: of their environments. n_envs: of all of them. address: of the cluster; None: one on this machine,
    for this process alone, unless this process is connected to one already.

    `RayError` if there is no such cluster, or if it has fewer processors than there are actors.
    """

    def __init__(
        self, make: MakePlayer, spec: EpisodeSpec, *, actors: int, n_envs: int, address: str | None = None
    ) -> None:
        self.spec, self.n_envs, self.n_actors = spec, n_envs, actors
        self._make = make
        self._ray, self._is_ours = connect(address, cpus=actors)
        self._remote = self._ray.remote(num_cpus=1, max_restarts=0)(PlayingActor)
        self._deaths = [0] * actors  # since its last answer
        self._put: tuple[Any, Any] = None, None  # the weights that were put into the cluster last, and where
        self._handles: list[Any] = [self._start(number) for number in range(actors)]

    def ask(self, number: int, request: Request) -> Any:
        """Let an actor do this; what `answer` waits for.

        The same weights for the next actor are put into the cluster once.
        """
        weights = request.weights
        if weights is not None:
            if weights is not self._put[0]:
                self._put = weights, self._ray.put(dict(weights))
            weights = self._put[1]
        return self._handles[number].collect.remote(*request._replace(weights=weights))

    def answer(self, number: int, asked: Any, stop: Callable[[], bool] = lambda: False) -> Answer | None:
        """Wait for an actor's answer; None if the actor has died, and a new one is in its place.

        `Stopped` if `stop` says True meanwhile. What an environment raises in an actor is raised here.
        """
        while not self._ray.wait([asked], timeout=_SECONDS_BETWEEN_CHECKS)[0]:
            if stop():
                raise Stopped
        try:
            given: Answer = self._ray.get(asked)
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error, f"actor {number}") from None
        except self._ray.exceptions.RayError as error:
            self._replace(number, error)
            return None
        self._deaths[number] = 0
        return given

    def close(self) -> None:
        """End all actors, and the cluster, if it is this process's own."""
        closing = [handle.close.remote() for handle in self._handles]
        self._ray.wait(closing, num_returns=len(closing), timeout=_SECONDS_TO_CLOSE)
        for handle in self._handles:
            self._ray.kill(handle)
        if self._is_ours:
            self._ray.shutdown()

    def _start(self, number: int) -> Any:
        return self._remote.remote(self._make, number)

    def _replace(self, number: int, error: Exception) -> None:
        self._deaths[number] += 1
        said = " ".join(str(error).split())[:200]
        if self._deaths[number] == _DEATHS_IN_A_ROW:
            raise WorkerError(f"actor {number} died {_DEATHS_IN_A_ROW} times without an answer: {said}")
        self._handles[number] = self._start(number)
        warnings.warn(
            f"actor {number} died, and another goes on from its last answer: {said}",
            WorkerWarning,
            stacklevel=2,
        )


def connect(address: str | None, *, cpus: int) -> tuple[Any, bool]:
    """Ray, connected to a cluster, and whether the cluster is this process's own, to be shut down by it.

    address: `auto` for the one that runs on this machine, HOST:PORT, or None for one of this process's own,
    unless it is connected already. `RayError` where Ray is not installed, where nothing answers, and where
    the cluster has fewer processors than `cpus`.
    """
    ray = import_ray()
    where = "local" if address is None else reachable(address)
    if is_ours := not ray.is_initialized():
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        own = {"num_cpus": max(cpus, os.cpu_count() or 1), "include_dashboard": False}
        try:
            with forking():
                ray.init(
                    address=where,
                    runtime_env={"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}},
                    log_to_driver=False,
                    logging_level="ERROR",
                    **({} if address is not None else own),
                )
        except Exception as error:  # it raises plain ones, too
            said = " ".join(str(error).split())[:200]
            raise RayError(f"no cluster at {where}: {said}") from None
    given = int(ray.cluster_resources().get("CPU", 0))
    if given < cpus:
        if is_ours:
            ray.shutdown()
        raise RayError(f"the Ray cluster has {given} processors, want {cpus}, one for each actor")
    return ray, is_ours


@contextmanager
def forking() -> Iterator[None]:
    """Silence JAX's warning of forks while Ray starts its programs: each fork becomes a program at once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"os\.fork\(\)", category=RuntimeWarning)
        yield


def import_ray() -> Any:
    """The module `ray`; `RayError` where it is not installed."""
    for name, value in _BEFORE_IT_STARTS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise RayError('Ray is not installed: pip install "endmark[ray]"') from None
    return ray


def reachable(address: str) -> str:
    """The address HOST:PORT of a cluster, where something answers as Ray does; `RayError` if nothing does.

    address: HOST:PORT, or `auto` for RAY_ADDRESS or the cluster that was started on this machine. Ray itself
    waits for minutes where nothing answers, or something else does.
    """
    if address == AUTO:
        address = os.environ.get("RAY_ADDRESS", "")
        if not address and _RUNNING_CLUSTER.is_file():
            address = _RUNNING_CLUSTER.read_text(encoding="utf-8").strip()
        if not address:
            raise RayError("no cluster on this machine, want `ray start --head`, or HOST:PORT")
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in host:
        raise RayError(f"given {quoted(address)}, want auto or HOST:PORT, such as 10.0.0.1:6379")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER) as connection:
            connection.sendall(_HELLO)
            answer = connection.recv(9)
    except OSError as error:
        raise RayError(f"no cluster at {address}: {error.strerror or 'no answer'}") from None
    if len(answer) < 4 or answer[3] != _SETTINGS:
        raise RayError(f"what listens at {address} is no Ray")
    return address


def _cause(error: Any, where: str) -> Exception:
    """What was raised in an actor, as it would be raised here."""
    cause = error.cause
    if isinstance(cause, EnvError):
        return type(cause)(f"{where}: {cause}")
    if isinstance(cause, ValueError):
        return ValueError(f"{where}: {cause}")
    return cause if isinstance(cause, Exception) else RuntimeError(f"{where}: {cause}")
