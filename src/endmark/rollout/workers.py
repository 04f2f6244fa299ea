"""K environments in worker processes, for environments that are slow."""

from __future__ import annotations

import atexit
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from endmark.envs import Environment, Frame, Step
from endmark.episodes import EpisodeSpec
from endmark.rollout.lockstep import Lockstep
from endmark.rollout.process import SECONDS_TO_END, WorkerProcess, start_context
from endmark.rollout.shared import IDLE, RESET, STEP, SharedRows


class WorkerRollout(Lockstep):
    """Plays as `Rollout` does, episode for episode and bit for bit, in worker processes.

    make_env: makes one environment; it is called in the workers, so it can be pickled: a function of a
        module, a class, or a `functools.partial` of one. A script that uses workers needs the usual
        `if __name__ == "__main__":`, as Python imports it there once more.
    spec: of these environments.
    workers, envs_per_worker: K is their product; worker w has the environments from w * envs_per_worker on.
    timeout: seconds that a worker has to answer with a step of all of its environments, or it counts as hung.

    A worker that dies, hangs, or whose environment raises is replaced, with a `WorkerWarning` that says why.
    The episodes running there are dropped, and others begin from the next seeds. One that fails three times
    without a step in between is a `WorkerError`.

    Use it in a `with`, or `close` it.
    """

    def __init__(
        self,
        make_env: Callable[[], Environment],
        spec: EpisodeSpec,
        seeds: Iterable[int],
        *,
        workers: int,
        envs_per_worker: int,
        timeout: float = 60.0,
    ) -> None:
        for name, given in [("workers", workers), ("envs_per_worker", envs_per_worker)]:
            if given < 1:
                raise ValueError(f"{name}: given {given}, want at least 1")
        if not timeout > 0:
            raise ValueError(f"timeout: given {timeout}, want more than 0 seconds")
        try:
            pickle.dumps(make_env)
        except Exception as error:  # whatever its parts say to it
            raise ValueError(f"make_env: given {make_env}, which cannot be pickled: {error}") from error
        stage = _Workers(make_env, spec, workers, envs_per_worker, timeout)
        super().__init__(stage, workers * envs_per_worker, spec, seeds)


class _Workers:
    """A `Stage` of processes. All are asked at once, then heard in their order."""

    def __init__(
        self,
        make_env: Callable[[], Environment],
        spec: EpisodeSpec,
        n_workers: int,
        envs_per_worker: int,
        timeout: float,
    ) -> None:
        context = start_context()
        self._rows = SharedRows.allocate(spec, n_workers * envs_per_worker, context)
        self._begun: list[int] = []
        self._workers: list[WorkerProcess] = []
        atexit.register(self.close)  # before multiprocessing waits for its children
        for w in range(n_workers):
            mine = range(w * envs_per_worker, (w + 1) * envs_per_worker)
            self._workers.append(WorkerProcess(w, mine, make_env, self._rows, timeout, context))

    def reset(self, seeds: Mapping[int, int]) -> None:
        # Not waited for: the learner may use the time.
        self._rows.command[:] = IDLE
        for k, seed in seeds.items():
            self._rows.seeds[k], self._rows.command[k] = seed, RESET
        self._begun += seeds
        self._ask()

    def frames(self, running: Sequence[bool]) -> Iterator[tuple[int, Frame | None]]:
        begun, self._begun = set(self._begun), []
        for worker in self._workers:
            answered = worker.answers()
            for k in worker.mine:
                if not answered and running[k]:
                    yield k, None
                elif k in begun:
                    yield k, self._rows.frames[k]

    def step(
        self, actions: npt.NDArray[np.int64], running: Sequence[bool]
    ) -> Iterator[tuple[int, Step | None]]:
        self._rows.fields["actions"][:] = actions
        self._rows.command[:] = np.where(running, STEP, IDLE)
        self._ask()
        for worker in self._workers:
            answered = worker.answers()
            for k in worker.mine:
                if running[k]:
                    yield k, self._rows.step(k) if answered else None

    def close(self) -> None:
        for worker in self._workers:
            worker.hang_up()
        deadline = time.monotonic() + SECONDS_TO_END
        for worker in self._workers:
            worker.end(deadline)
        self._workers.clear()
        atexit.unregister(self.close)

    def _ask(self) -> None:
        for worker in self._workers:
            if self._rows.command[worker.mine.start : worker.mine.stop].any():
                worker.ask()
