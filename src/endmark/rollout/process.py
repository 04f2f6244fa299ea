"""One worker process as its parent sees it: how it starts, answers, fails, is replaced and ends."""

from __future__ import annotations

import multiprocessing
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess

from endmark.envs import EnvError, Environment
from endmark.rollout.shared import STEP, SharedRows
from endmark.rollout.worker import BELL, DONE, work

Context = ForkServerContext | SpawnContext

SECONDS_TO_END = 5.0
# For imports and constructors, on a machine that is busy, on top of the time for an answer.
_SECONDS_TO_START = 120.0
# More for an answer that is late: after Ctrl-Z and `fg`, parent and workers wake up at the same time.
_SECONDS_OF_GRACE = 1.0
_FAILURES_IN_A_ROW = 3


class WorkerWarning(UserWarning):
    """A worker process failed and was replaced; its running episodes are lost."""


class WorkerError(EnvError):
    """A worker process fails again and again."""


def start_context() -> Context:
    """How processes start. Not by fork, which torch's threads do not survive."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # A server that has imported torch once, so that a worker starts in milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", work.__module__])
    return context


class WorkerProcess:
    """One process, and the one after it if it fails.

    number: its own. mine: the environments, and so the rows, that it has. timeout: seconds to answer in.
    """

    def __init__(
        self,
        number: int,
        mine: range,
        make_env: Callable[[], Environment],
        rows: SharedRows,
        timeout: float,
        context: Context,
    ) -> None:
        self.mine = mine
        self._number, self._make_env, self._rows, self._timeout = number, make_env, rows, timeout
        self._context = context
        self._failures = self._failures_in_a_row = 0
        self._deadline = self._patience = 0.0
        self._is_new, self._is_asked = True, False
        self._connection, self._process = self._start()

    def ask(self) -> None:
        """Ring the bell: do what your rows say."""
        self._patience = self._timeout + (_SECONDS_TO_START if self._is_new else 0.0)
        self._deadline = time.monotonic() + self._patience
        self._is_asked = True
        with suppress(OSError):  # it is dead, as `answers` will find out
            self._connection.send_bytes(BELL)

    def answers(self) -> bool:
        """Wait until it has done what it was asked for, if it was; False if it failed, and is replaced."""
        if not self._is_asked:
            return True
        self._is_asked = False
        failure = self._failure()
        if failure is not None:
            self._replace(failure)
            return False
        self._is_new = False
        if (self._rows.command[self.mine.start : self.mine.stop] == STEP).any():
            self._failures_in_a_row = 0
        return True

    def hang_up(self) -> None:
        """Let it close its environments and end."""
        self._connection.close()

    def end(self, deadline: float) -> None:
        """Wait for its end until the deadline, then make it end."""
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self._process.is_alive():
            self._process.kill()
            self._process.join(SECONDS_TO_END)

    def _start(self) -> tuple[Connection, BaseProcess]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=work,
            args=(theirs, self._make_env, self._rows, self.mine),
            name=f"endmark worker {self._number}",
            daemon=True,
        )
        with _deaf():
            process.start()
        theirs.close()  # so that the pipe ends where one of the two processes does
        return ours, process

    def _failure(self) -> str | None:
        """Wait for the answer; why there is none, or None."""
        either: list[Connection | int] = [self._connection, self._process.sentinel]
        left = max(0.0, self._deadline - time.monotonic())
        ready = wait(either, left) or wait(either, _SECONDS_OF_GRACE)
        if not ready:
            self._process.kill()
            return f"no answer within {self._patience:g} s"
        try:
            # Dead without an answer, even if a process that it has started keeps the pipe open?
            is_answer = self._connection in ready or self._connection.poll()
            answer = self._connection.recv_bytes() if is_answer else b""
        except (EOFError, OSError):
            answer = b""
        if answer:
            return None if answer == DONE else answer.decode()
        self._process.join(SECONDS_TO_END)
        return _how_it_ended(self._process.exitcode) + (" at its start" if self._is_new else "")

    def _replace(self, failure: str) -> None:
        self._failures += 1
        self._failures_in_a_row += 1
        self.hang_up()
        self.end(time.monotonic() + SECONDS_TO_END)
        name = f"worker {self._number} (environments {self.mine.start} to {self.mine.stop - 1})"
        if self._failures_in_a_row == _FAILURES_IN_A_ROW:
            raise WorkerError(
                f"{name} failed {_FAILURES_IN_A_ROW} times without a step in between: {failure}"
            )
        self._is_new = True
        self._connection, self._process = self._start()
        warnings.warn(
            f"{name}: {failure}; its running episodes are lost, and it was started anew "
            f"(its failures so far: {self._failures})",
            WorkerWarning,
            stacklevel=2,
        )


@contextmanager
def _deaf() -> Iterator[None]:
    """What is started in here hears neither Ctrl-C nor SIGTERM, not even while it still imports.

    Both often go to a whole group of processes, the server that workers are forked from included.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # as its start, a part of every other's, clears the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how_it_ended(status: int | None) -> str:
    """A process's exit status in words."""
    if status is None or status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # real-time signals have no names
        return f"killed by signal {-status}"
