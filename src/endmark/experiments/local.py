"""Cells in processes of this machine, each on cores of its own where the platform can say so."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any, NamedTuple

from endmark.experiments.cell import Outcome, problem_of, run_cell
from endmark.experiments.cells import Cell
from endmark.experiments.directory import Experiment
from endmark.rollout.process import how_it_ended, signals_blocked
from endmark.training import TrainConfig

SECONDS_TO_SAVE = 60.0
"""After the sweep was killed: until a cell that has not ended by itself is ended."""
PRELOADED = "torch._dynamo", "torch.utils.tensorboard"
"""What every run imports when it makes its optimiser and its log: seconds a cell, if not once for all."""


class _Running(NamedTuple):
    cell: Cell
    process: BaseProcess
    connection: Connection
    cores: frozenset[int]


class Processes:
    """At most `jobs` cells at once. A context manager: leaving it ends those that still run, at once."""

    def __init__(self, experiment: Experiment, jobs: int) -> None:
        self._experiment, self._jobs, self._context = experiment, jobs, _start_context()
        self._running: dict[str, _Running] = {}
        self._free = _cores()
        self._is_stopping = False

    @property
    def running(self) -> list[Cell]:
        """The cells that run."""
        return [one.cell for one in self._running.values()]

    def has_room(self, cell: Cell) -> bool:  # noqa: ARG002 - on other machines it depends on the cell
        """Whether one more cell may start."""
        return len(self._running) < self._jobs

    def start(self, cell: Cell) -> None:
        """Start the cell in a process of its own."""
        wants = cores_of(cell.config)
        cores = frozenset(sorted(self._free)[:wants] if wants <= len(self._free) else ())
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_work,
            args=(
                theirs,
                cell.config,
                self._experiment.directory / cell.name,
                self._experiment.log(cell.name),
                cores,
                get_temp_dir() if isinstance(self._context, ForkServerContext) else None,
            ),
            name=f"endmark {cell.name}",
        )
        with signals_blocked():
            process.start()
        theirs.close()
        self._free = self._free - cores
        self._running[cell.name] = _Running(cell, process, ours, cores)

    def wait(self, seconds: float) -> list[tuple[Cell, Outcome]]:
        """The cells that ended, after at most so many seconds."""
        wait([one.process.sentinel for one in self._running.values()], seconds)
        ended = []
        for name, one in list(self._running.items()):
            if one.process.exitcode is None:
                continue
            ended.append((one.cell, self._outcome(one)))
            one.process.join()
            one.connection.close()
            self._free = self._free | one.cores
            del self._running[name]
        return ended

    def stop(self) -> None:
        """Let every cell save its state and end."""
        self._is_stopping = True
        for one in self._running.values():
            one.process.terminate()

    def _outcome(self, one: _Running) -> Outcome:
        with suppress(EOFError, OSError):
            kind, line = one.connection.recv()
            return Outcome(kind, line)
        if self._is_stopping and one.process.exitcode == -signal.SIGTERM:  # before it trained
            return Outcome("stopped")
        return Outcome("failed", f"its process {how_it_ended(one.process.exitcode)}")

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._running.values():
            one.process.kill()
            one.process.join()


def problems(configs: Sequence[Sequence[TrainConfig[Any]]], jobs: int) -> list[str | None]:
    """`problem_of` each of these lists, in processes: environments leave threads and gigabytes behind."""
    context = _start_context()
    found: list[str | None] = [None] * len(configs)
    waiting = list(enumerate(configs))
    running: dict[int, tuple[BaseProcess, Connection]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                number, group = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_check, args=(theirs, group), daemon=True)
                with signals_blocked():
                    process.start()
                theirs.close()
                running[number] = process, ours
            wait([process.sentinel for process, _ in running.values()])
            for number, (checker, connection) in list(running.items()):
                if checker.exitcode is None:
                    continue
                try:
                    found[number] = connection.recv()
                except EOFError:
                    found[number] = f"its process {how_it_ended(checker.exitcode)}"
                connection.close()
                del running[number]
    finally:
        for checker, _ in running.values():
            checker.kill()
    return found


def cores_of(config: TrainConfig[Any]) -> int:
    """Cores that a run keeps busy: torch's threads, its worker processes, and a rollout beside updates."""
    return config.threads + config.workers + int(config.overlap)


def jobs_for(cells: Sequence[Cell]) -> int:
    """How many of these cells fit on this machine's cores at once; at least 1."""
    n_cores = len(_cores()) or os.cpu_count() or 1
    return max(1, n_cores // max((cores_of(cell.config) for cell in cells), default=1))


def _cores() -> frozenset[int]:
    """The cores that this process may use; none where the platform cannot say so."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def _start_context() -> ForkServerContext | SpawnContext:
    """Processes are forked from a server that has imported endmark, in milliseconds, where there are such."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__, "endmark.rollout.worker", *PRELOADED])
    return context


def _work(
    connection: Connection,
    config: TrainConfig[Any],
    directory: Path,
    log: Path,
    cores: frozenset[int],
    temporary: str | None,
) -> None:
    """The program of a cell's process.

    temporary: the sweep's directory for temporary files, which nobody removes if the sweep is killed.
    """
    # A Ctrl-C goes to all processes of the terminal's group; a second signal would end this one at once.
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    if cores:
        os.sched_setaffinity(0, cores)
    threading.Thread(target=_stop_with_the_sweep, args=(temporary,), daemon=True).start()
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):  # for what is written past Python, such as the last words of a crash
        os.dup2(descriptor, stream)
    outcome = run_cell(config, directory, log)
    with suppress(OSError):  # the sweep is gone
        connection.send(tuple(outcome))
    sys.stdout.flush()


def _stop_with_the_sweep(temporary: str | None) -> None:
    """When the sweep is gone, save the state and end, so that the next sweep can go on with this cell."""
    if (sweep := multiprocessing.parent_process()) is None:
        return
    sweep.join()
    if temporary is not None:
        shutil.rmtree(temporary, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_SAVE)
    os._exit(1)


def _check(connection: Connection, configs: Sequence[TrainConfig[Any]]) -> None:
    devices = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(devices, stream)
    connection.send(problem_of(configs))
