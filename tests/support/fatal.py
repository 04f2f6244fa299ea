"""A program that kills itself at a write, a flush or a rename: `python -m support.fatal`.

stdin has a line of JSON for each run: the arguments of `endmark`, the number of the moment at which the run
is killed (null: never), and the bytes that a file may have (null: any number). Each run is a process of its
own, forked from this one, which saves the imports. stdout has a line for each: its exit status, -9 where it
was killed.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

import endmark.cli.resume  # noqa: F401 - before the first fork
from endmark.cli import main
from endmark.run import Counters, Run
from support.helpers import files_limited_to


def arm(fatal: int) -> None:
    """Die at the `fatal`-th of the moments before, in the middle of and after what changes the disk."""
    numbers = itertools.count()

    def moment() -> None:
        if next(numbers) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            moment()
            result = call(*args, **kwargs)
            moment()
            return result

        return called

    def save_file(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        saved(tensors, path, metadata)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        moment()
        path.write_bytes(whole)

    def log(self: Run, counters: Counters, metrics: Mapping[str, float]) -> None:
        size = self._metrics.tell()
        logged(self, counters, metrics)
        path = self.directory / "metrics.jsonl"
        whole = path.read_bytes()
        os.truncate(path, (size + len(whole)) // 2)
        moment()
        path.write_bytes(whole)

    saved, logged = safetensors.torch.save_file, Run.log
    os.fsync, os.replace = around(os.fsync), around(os.replace)
    safetensors.torch.save_file = save_file  # type: ignore[assignment]
    Run.log = log  # type: ignore[method-assign]


def run(arguments: list[str], fatal: int | None, n_bytes: int | None) -> int:
    """The exit status of `endmark` with these arguments, in a process of its own."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        try:
            if fatal is not None:
                arm(fatal)
            with nullcontext() if n_bytes is None else files_limited_to(n_bytes):
                main(arguments)
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(run(*json.loads(line)), flush=True)
