"""The program of a worker process: wait for a request, step the environments, reply."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection

import torch

from endmark.envs import ContractError, EnvError, Environment
from endmark.envs.guarded import problems_of_closing
from endmark.rollout.checked import Checked
from endmark.rollout.shared import SharedRows
from endmark.wording import one_line

# Requests.
PLAY = b"!"  # what the rows request
END = b"#"
# Replies. After the first byte comes the text of an error, or of one a line.
DONE = b"."
FAILED = b"-"
BROKE = b"?"  # an environment broke its contract, and would do so again
NOT_CLOSED = b"~"
_SECONDS_TO_CLOSE = 5.0


def work(
    connection: Connection,
    make_env: Callable[[], Environment],
    rows: SharedRows,
    mine: range,
    temporary: str | None,
) -> None:
    """Serve the environments of these rows until the parent wants an end, or is gone.

    temporary: the parent's own directory for temporary files, which nobody removes if the parent is killed.
    """
    _ignore_signals()
    threading.Thread(target=_exit_with_the_parent, args=(temporary,), daemon=True).start()
    torch.set_num_threads(1)  # the other cores belong to the other workers
    envs: dict[int, Checked] = {}
    request = END
    try:
        for k in mine:
            envs[k] = env = Checked(make_env(), k)
            if env.spec != rows.spec:
                raise ContractError(f"environment {k}: given {env.spec}, want {rows.spec}")
        while (request := _receive_request(connection)) == PLAY:
            for k, env in envs.items():
                rows.execute(k, env)
            _reply(connection, DONE)
    except ContractError as error:
        _reply(connection, BROKE, str(error))
    except BaseException as error:  # sys.exit() in a constructor is a failure, too
        _reply(connection, FAILED, str(error) if isinstance(error, EnvError) else one_line(error))
    finally:
        problems = problems_of_closing(envs.values())
        _reply(connection, NOT_CLOSED if problems else DONE, "\n".join(problems))
        if not request:
            _remove_after_the_parent(temporary)


def _receive_request(connection: Connection) -> bytes:
    """Wait for a request; empty when the parent is gone."""
    try:
        return connection.recv_bytes()
    except (EOFError, OSError):
        return b""


def _reply(connection: Connection, kind: bytes, text: str = "") -> None:
    with suppress(OSError):  # the parent is gone; `_receive_request` will notice
        connection.send_bytes(kind + text.encode(errors="backslashreplace"))


def _ignore_signals() -> None:
    """Leave it to the parent when this process ends.

    A Ctrl-C or SIGTERM for the whole process group must not end a game under a run that is about to stop in
    good order. Programs that an environment starts inherit an ignored or blocked signal but no handler: so
    SIGINT is ignored for them too, and SIGTERM still ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # blocked by the parent during the start


def _exit_with_the_parent(temporary: str | None) -> None:
    """Exit when the parent is gone, also in the middle of a step."""
    _remove_after_the_parent(temporary)
    time.sleep(_SECONDS_TO_CLOSE)  # for a regular end by the closed connection
    os._exit(1)


def _remove_after_the_parent(temporary: str | None) -> None:
    """Wait until the parent is gone, then remove its directory."""
    if parent := parent_process():
        parent.join()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
