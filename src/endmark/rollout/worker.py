"""The program of a worker process: wait for a request, step the environments, reply."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection

import torch

from endmark.envs import EnvError, Environment
from endmark.rollout.shared import SharedRows

REQUEST = b"!"
DONE = b"."  # any other reply is the text of an error
_SECONDS_TO_CLOSE = 5.0


def work(connection: Connection, make_env: Callable[[], Environment], rows: SharedRows, mine: range) -> None:
    """Serve the environments of these rows until the parent closes the connection."""
    _ignore_signals()
    threading.Thread(target=_exit_with_the_parent, daemon=True).start()
    torch.set_num_threads(1)  # the other cores belong to the other workers
    envs: dict[int, Environment] = {}
    try:
        for k in mine:
            envs[k] = make_env()
            if envs[k].spec != rows.spec:
                raise EnvError(f"environment {k}: given {envs[k].spec}, want {rows.spec}")
        while _receive_request(connection):
            for k, env in envs.items():
                rows.execute(k, env)
            _reply(connection, DONE)
    except BaseException as error:  # sys.exit() in an environment is a failure, too
        _reply(connection, _in_one_line(error).encode())
    finally:
        for env in envs.values():
            env.close()


def _receive_request(connection: Connection) -> bool:
    """Wait for a request; False when the parent has closed the connection."""
    try:
        return connection.recv_bytes() == REQUEST
    except (EOFError, OSError):
        return False


def _reply(connection: Connection, text: bytes) -> None:
    with suppress(OSError):  # the parent is gone; `_receive_request` will notice
        connection.send_bytes(text)


def _in_one_line(error: BaseException) -> str:
    """The error, and where it was raised."""
    said = " ".join("".join(traceback.format_exception_only(error)).split())
    frames = traceback.extract_tb(error.__traceback__)
    return f"{said} ({frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name})" if frames else said


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


def _exit_with_the_parent() -> None:
    """Exit when the parent is gone, also in the middle of a step."""
    if parent := parent_process():
        parent.join()
        time.sleep(_SECONDS_TO_CLOSE)  # for a regular end by the closed connection
        os._exit(1)
