"""Signals that end a run in good order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MESSAGE = "\nendmark: {}: stopping, after this update and a save; once more stops at once\n"


def _signals() -> list[signal.Signals]:
    names = "SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"  # Windows has the first two alone
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that the first of these signals sets, with a line on stderr; a second has its usual effect.

    SIGINT (Ctrl-C), SIGTERM, SIGHUP (the terminal was closed), SIGUSR1 (a batch scheduler's warning).

    Python runs the handler between two bytecodes, so an update is not cut in the middle. Outside the main
    thread, where signals cannot be handled, the event stays unset.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    usual = {number: signal.getsignal(number) for number in _signals()}

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, usual[signal.Signals(number)])
        what = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        with suppress(OSError):  # the terminal may be gone
            os.write(2, MESSAGE.format(what).encode())  # not by a stream, which may be in use at this moment

    try:
        for number in usual:
            signal.signal(number, handle)
        yield stop
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
