"""A worker process from its parent's side: start, request, reply, failure, replacement, end."""

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
from multiprocessing.util import get_temp_dir

from endmark.envs import ContractError, EnvError, Environment
from endmark.rollout.shared import SharedRows
from endmark.rollout.worker import BROKE, DONE, END, NOT_CLOSED, PLAY, work

Context = ForkServerContext | SpawnContext

SECONDS_TO_END = 5.0
# Added to the first timeout, for imports and constructors on a busy machine.
_SECONDS_TO_START = 120.0
# After Ctrl-Z and `fg` the timeout may have passed, though the worker is about to reply.
_SECONDS_OF_GRACE = 1.0
_FAILURES_IN_A_ROW = 3


class WorkerWarning(UserWarning):
    """A worker process failed and was replaced; its running episodes are lost."""


class WorkerError(EnvError):
    """A worker process fails again and again: three times without the end of one of its episodes in between.

    So an environment that fails in every episode ends the run, also one that fails late in each.
    """


def start_context() -> Context:
    """How processes start: not by fork, which breaks torch's threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # A server process imports torch once; each worker is forked from it in milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", work.__module__])
    return context


class WorkerProcess:
    """A worker process, and its replacement if it fails.

    number: of this worker. mine: its environments, and so its rows. timeout: seconds that a reply may take.
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
        self._deadline = self._seconds = 0.0
        self._is_new, self._is_pending = True, False
        self._connection, self._process = self._start()

    def send_request(self) -> None:
        """Let it do what its rows request."""
        self._seconds = self._timeout + (_SECONDS_TO_START if self._is_new else 0.0)
        self._deadline = time.monotonic() + self._seconds
        self._is_pending = True
        with suppress(OSError):  # it is dead; `wait_for_reply` will notice
            self._connection.send_bytes(PLAY)

    def wait_for_reply(self) -> bool:
        """Wait for the reply to a pending request; False if the worker failed, and was replaced.

        `ContractError` if an environment broke its contract.
        """
        if not self._is_pending:
            return True
        self._is_pending = False
        failure = self._failure()
        if failure is not None:
            self._replace(failure)
            return False
        self._is_new = False
        if self._failures_in_a_row and self._rows.has_ended(self.mine):
            self._failures_in_a_row = 0
        return True

    def send_end(self) -> None:
        """Let it close its environments and exit."""
        with suppress(OSError):  # it is dead
            self._connection.send_bytes(END)

    def join(self, deadline: float) -> list[str]:
        """Wait for its exit until the deadline, then kill it.

        What environments say that cannot be closed, one line each.
        """
        problems: list[str] = []
        either: list[Connection | int] = [self._connection, self._process.sentinel]
        with suppress(EOFError, OSError):  # it has ended
            while self._connection in wait(either, max(0.0, deadline - time.monotonic())):
                reply = self._connection.recv_bytes()
                if reply[:1] == NOT_CLOSED:
                    problems = reply[1:].decode().splitlines()
        self._connection.close()
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self._process.is_alive():
            self._process.kill()
            self._process.join(SECONDS_TO_END)
        return problems

    def _start(self) -> tuple[Connection, BaseProcess]:
        ours, theirs = self._context.Pipe()
        # Where the server's address is. A process that multiprocessing started shares its parent's directory.
        has_own = isinstance(self._context, ForkServerContext) and multiprocessing.parent_process() is None
        temporary = get_temp_dir() if has_own else None
        process = self._context.Process(
            target=work,
            args=(theirs, self._make_env, self._rows, self.mine, temporary),
            name=f"endmark worker {self._number}",
            daemon=True,
        )
        with signals_blocked():
            process.start()
        theirs.close()  # so that the pipe closes when the worker dies
        return ours, process

    def _failure(self) -> str | None:
        """Wait for the reply; None if it is fine, else what went wrong."""
        either: list[Connection | int] = [self._connection, self._process.sentinel]
        left = max(0.0, self._deadline - time.monotonic())
        ready = wait(either, left) or wait(either, _SECONDS_OF_GRACE)
        if not ready:
            self._process.kill()
            return f"no answer within {self._seconds:g} s"
        try:
            # It may be dead without a reply while a process that it started keeps the pipe open.
            has_reply = self._connection in ready or self._connection.poll()
            reply = self._connection.recv_bytes() if has_reply else b""
        except (EOFError, OSError):
            reply = b""
        if reply[:1] == BROKE:
            raise ContractError(reply[1:].decode())
        if reply:
            return None if reply == DONE else reply[1:].decode()
        self._process.join(SECONDS_TO_END)
        return how_it_ended(self._process.exitcode) + (" at its start" if self._is_new else "")

    def _replace(self, failure: str) -> None:
        self._failures += 1
        self._failures_in_a_row += 1
        self.send_end()
        self.join(time.monotonic() + SECONDS_TO_END)
        name = f"worker {self._number} (environments {self.mine.start} to {self.mine.stop - 1})"
        if self._failures_in_a_row == _FAILURES_IN_A_ROW:
            in_a_row = f"failed {_FAILURES_IN_A_ROW} times without the end of an episode in between"
            raise WorkerError(f"{name} {in_a_row}: {failure}")
        self._is_new = True
        self._connection, self._process = self._start()
        warnings.warn(
            f"{name}: {failure}; its running episodes are lost, and it was started anew "
            f"(its failures so far: {self._failures})",
            WorkerWarning,
            stacklevel=2,
        )


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes started in here get neither SIGINT nor SIGTERM, not even during their imports.

    Both signals often go to a whole process group, which includes the server that workers are forked from.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # first, since its start would clear the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def how_it_ended(status: int | None) -> str:
    """A process's exit status in words."""
    if status is None or status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # real-time signals have no names
        return f"killed by signal {-status}"
