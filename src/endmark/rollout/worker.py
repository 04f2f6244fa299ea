"""What runs in a worker process: it waits for a bell, does what its rows ask for, and answers."""

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

BELL = b"!"
DONE = b"."  # any other answer is the text of an error
_SECONDS_TO_CLOSE = 5.0


def work(connection: Connection, make_env: Callable[[], Environment], rows: SharedRows, mine: range) -> None:
    """Play the environments of these rows until the parent hangs up."""
    _leave_signals_to_the_parent()
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    torch.set_num_threads(1)  # the other cores are the other workers'
    envs: dict[int, Environment] = {}
    try:
        for k in mine:
            envs[k] = make_env()
            if envs[k].spec != rows.spec:
                raise EnvError(f"environment {k}: given {envs[k].spec}, want {rows.spec}")
        while _bell(connection):
            for k, env in envs.items():
                rows.obey(k, env)
            _answer(connection, DONE)
    except BaseException as error:  # sys.exit() in an environment is a failure, too
        _answer(connection, _in_one_line(error).encode())
    finally:
        for env in envs.values():
            env.close()


def _bell(connection: Connection) -> bool:
    """Wait until there is something to do; False if there never will be."""
    try:
        return connection.recv_bytes() == BELL
    except (EOFError, OSError):
        return False


def _answer(connection: Connection, text: bytes) -> None:
    with suppress(OSError):  # nobody listens any more, as `_bell` will find out
        connection.send_bytes(text)


def _in_one_line(error: BaseException) -> str:
    """The error, and where it was raised."""
    said = " ".join("".join(traceback.format_exception_only(error)).split())
    frames = traceback.extract_tb(error.__traceback__)
    return f"{said} ({frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name})" if frames else said


def _leave_signals_to_the_parent() -> None:
    """It decides when this process ends. What an environment starts is to hear SIGTERM, but not Ctrl-C.

    So a game is not torn away from under a run that is about to end in good order, and can be ended: an
    ignored signal and a blocked one are inherited, a handler is not.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the parent blocked it, for the start


def _leave_with_the_parent() -> None:
    """End also in the middle of a step, when the parent is gone, however it went."""
    if parent := parent_process():
        parent.join()
        time.sleep(_SECONDS_TO_CLOSE)  # in good order by the pipe, if it can
        os._exit(1)
