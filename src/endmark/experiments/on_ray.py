"""Cells as tasks of a Ray cluster. Each node trains in the experiment directory, on storage that all share.

A node that dies costs what its cells had not saved: they go on elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from endmark.experiments.cell import Outcome, run_cell, said
from endmark.experiments.cells import Cell
from endmark.experiments.directory import GRID, Experiment
from endmark.experiments.local import cores_of
from endmark.rollout import RayError
from endmark.rollout.on_ray import import_ray, reachable
from endmark.training.config import from_json
from endmark.training.state_file import STATE
from endmark.wording import joined

MOST_DEATHS = 3
"""How often in a row a cell's process may die before it has saved a further state."""


class RayTasks:
    """Cells on the cluster at this address, `auto` or HOST:PORT, as many as its cores take.

    A context manager: leaving it ends those that still run, at once. ValueError, one line, within seconds if
    there is no Ray, here or there.
    """

    def __init__(self, experiment: Experiment, address: str) -> None:
        self._experiment = experiment
        try:
            self._ray, where = import_ray(), reachable(address)
        except RayError as error:
            raise ValueError(f"--ray {address}: {error}") from None
        self._tasks: dict[Any, Cell] = {}
        self._is_stopping = False
        self._states: dict[
            str, tuple[int, int]
        ] = {}  # of each cell: its deaths, and its state's time at the last
        self._token = _token(experiment.directory)
        try:
            self._ray.init(where, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except Exception as error:  # whatever a client of another version or of no cluster raises
            raise ValueError(f"--ray {address}: {said(error)}") from None
        self._work = self._ray.remote(max_retries=0)(_work)

    @property
    def running(self) -> Sequence[Cell]:
        """The cells that run."""
        return list(self._tasks.values())

    def has_room(self, cell: Cell) -> bool:
        """Whether the cluster has cores for one more cell. ValueError if no node has as many as it wants."""
        wants, nodes = cores_of(cell.config), [node for node in self._ray.nodes() if node["Alive"]]
        cores = [node["Resources"].get("CPU", 0) for node in nodes]
        if max(cores, default=0) < wants and not self._tasks:
            raise ValueError(f"cell {cell.name}: wants {wants} cores, and no node of the cluster has as many")
        taken = sum(cores_of(other.config) for other in self._tasks.values())
        return bool(sum(cores) >= wants + taken)

    def start(self, cell: Cell) -> None:
        """Start the cell on a node that has room for it."""
        options: dict[str, Any] = {"num_cpus": cores_of(cell.config), "name": cell.name}
        if cell.config.device.startswith("cuda"):
            options["num_gpus"] = 1
        directory = self._experiment.directory.resolve()
        task = self._work.options(**options).remote(
            cell.config.to_json(), str(directory), cell.name, self._token, os.getcwd()
        )
        self._tasks[task] = cell

    def wait(self, seconds: float) -> list[tuple[Cell, Outcome]]:
        """The cells that ended, after at most so many seconds.

        ValueError if a node does not see the experiment directory.
        """
        if not self._tasks:
            time.sleep(seconds)
            return []
        tasks = list(self._tasks)
        try:
            self._ray.wait(tasks, num_returns=1, timeout=seconds)
            ready, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)
        except self._ray.exceptions.RayError as error:
            raise ValueError(f"--ray: the cluster is gone: {joined(error)}") from None
        return [(cell, self._outcome(task, cell)) for task in ready for cell in [self._tasks.pop(task)]]

    def stop(self) -> None:
        """Let every cell save its state and end."""
        self._is_stopping = True
        for task in self._tasks:
            self._ray.cancel(task, force=False)  # a KeyboardInterrupt there, which a run takes for a Ctrl-C

    def __enter__(self) -> RayTasks:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def _outcome(self, task: Any, cell: Cell) -> Outcome:
        errors = self._ray.exceptions
        try:
            kind, line = self._ray.get(task)
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            return self._after_death(cell, joined(error))
        except Exception as error:  # of a node on which endmark is missing, or another one
            if self._is_stopping:  # before it trained
                return Outcome("stopped")
            return Outcome("failed", joined(error).split(" Traceback")[0] or type(error).__name__)
        if kind == "elsewhere":
            where = self._experiment.directory.resolve()
            raise ValueError(f"--ray: {line}, want {where} on storage that all nodes share")
        return Outcome(kind, line)

    def _after_death(self, cell: Cell, line: str) -> Outcome:
        deaths, before = self._states.get(cell.name, (0, 0))
        path = self._experiment.directory / cell.name / STATE
        saved = path.stat().st_mtime_ns if path.exists() else 0
        deaths = 1 if saved != before else deaths + 1
        self._states[cell.name] = deaths, saved
        if deaths < MOST_DEATHS:
            return Outcome("lost", line)
        return Outcome(
            "failed", f"its process died {deaths} times before it had saved a further state: {line}"
        )


def _token(directory: Path) -> str:
    """A digest of the grid that is kept here, by which a node knows that it sees the same directory."""
    return hashlib.sha256((directory / GRID).read_bytes()).hexdigest()


def _work(
    config: Mapping[str, Any], directory: str, name: str, token: str, import_from: str
) -> tuple[str, str]:
    """The program of a task: how the cell ended."""
    experiment = Experiment(Path(directory))
    try:
        same = _token(experiment.directory) == token
    except OSError:
        same = False
    if not same:
        return "elsewhere", f"node {socket.gethostname()} does not see {experiment.directory}"
    if import_from not in sys.path:  # environments and algorithms in files of one's own
        sys.path.insert(0, import_from)
    return run_cell(from_json(config), experiment.directory / name, experiment.log(name))
