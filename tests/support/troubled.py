"""Environments for worker processes, most of them in trouble: workers import them from here."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from endmark.envs import Frame, Step
from support.scripted import Scripted

Trouble = Literal["kill", "exit", "raise", "hang"]


def workers_alive() -> list[str]:
    """The names of this process's workers."""
    return [child.name for child in multiprocessing.active_children()]


def get_into(trouble: Trouble) -> None:
    if trouble == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif trouble == "exit":
        sys.exit("the game is gone")
    elif trouble == "raise":
        raise RuntimeError("the game\nis broken")
    else:
        time.sleep(3600)


class InStep(Scripted):
    """In trouble at step 3 of the episodes with these seeds."""

    def __init__(self, trouble: Trouble, seeds: frozenset[int]) -> None:
        super().__init__()
        self.trouble, self.seeds = trouble, seeds

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        if len(self.logs[-1].actions) == 3 and self.logs[-1].seed in self.seeds:
            get_into(self.trouble)
        return super().step(actions)


class InReset(Scripted):
    """In trouble when these episodes begin."""

    def __init__(self, trouble: Trouble, seeds: frozenset[int]) -> None:
        super().__init__()
        self.trouble, self.seeds = trouble, seeds

    def reset(self, seed: int | None = None) -> Frame:
        if seed in self.seeds:
            get_into(self.trouble)
        return super().reset(seed)


class Slow(Scripted):
    """Takes its time."""

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        time.sleep(0.02)
        return super().step(actions)


class KeepsActions(Scripted):
    """The reward is for what was done one step earlier, of which it keeps no copy of its own."""

    def reset(self, seed: int | None = None) -> Frame:
        self._kept = np.zeros(2, dtype=np.int64)
        return super().reset(seed)

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        kept, self._kept = self._kept, actions
        return super().step(actions)._replace(reward=np.float32(kept.sum()))


class InConstructor(Scripted):
    """Cannot be made."""

    def __init__(self) -> None:
        raise OSError("no game is installed")


class InStepOnce(InStep):
    """In trouble once for each of these seeds, whichever process plays it: a file tells that it was."""

    def __init__(self, trouble: Trouble, seeds: frozenset[int], directory: Path) -> None:
        super().__init__(trouble, seeds)
        self.directory = directory

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        note = self.directory / str(self.logs[-1].seed)
        if len(self.logs[-1].actions) == 3 and self.logs[-1].seed in self.seeds:
            if note.exists():
                return Scripted.step(self, actions)
            note.touch()
        return super().step(actions)


class LeavesANote(Scripted):
    """Writes a file for each environment that is closed, with a letter for each time that it was."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def close(self) -> None:
        with (self.directory / f"{os.getpid()}-{id(self)}").open("a") as note:
            note.write("x")


class InTheSecondStep(Scripted):
    """In trouble in the second step of every episode; `nan`: its reward is none."""

    def __init__(self, trouble: Trouble | Literal["nan"]) -> None:
        super().__init__()
        self._trouble, self._steps = trouble, 0

    def reset(self, seed: int | None = None) -> Frame:
        self._steps = 0
        return super().reset(seed)

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        step = super().step(actions)
        self._steps += 1
        if self._steps == 2:
            if self._trouble == "nan":
                return step._replace(reward=np.float32("nan"))
            get_into(self._trouble)
        return step
