"""K environments in worker processes, for environments that are slow."""

from __future__ import annotations

import atexit
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from endmark.envs import Environment, EnvWarning, Frame, Step
from endmark.episodes import EpisodeSpec
from endmark.rollout.process import SECONDS_TO_END, WorkerProcess, start_context
from endmark.rollout.shared import IDLE, RESET, STEP, SharedRows


class Workers:
    """Environments in worker processes: the same episodes as `InProcess`, bit for bit. A `VectorEnv`.

    make_env: makes one environment. It is called in the workers, so it must be picklable: a function of a
        module, a class, or a `functools.partial` of one. A script that uses workers needs the usual
        `if __name__ == "__main__":`, as each worker imports it.
    spec: of these environments.
    workers, envs_per_worker: K is their product; worker w has the environments from w * envs_per_worker on.
    timeout: seconds that a worker may take to step its environments before it counts as hung.

    A worker that dies, hangs, or whose environment raises is replaced, with a `WorkerWarning` that says why.
    Its running episodes are lost. A worker that fails three times without the end of one of its episodes in
    between is a `WorkerError`. An environment that breaks its contract, as in `InProcess`, is a
    `ContractError` at once. Close it, or leave it to the interpreter's exit.
    """

    def __init__(
        self,
        make_env: Callable[[], Environment],
        spec: EpisodeSpec,
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
        except Exception as error:  # a callable's parts may raise anything when they are pickled
            raise ValueError(f"make_env: given {make_env}, which cannot be pickled: {error}") from error
        self.spec, self.n_envs = spec, workers * envs_per_worker
        context = start_context()
        self._rows = SharedRows.allocate(spec, self.n_envs, context)
        self._begun: list[int] = []
        self._workers: list[WorkerProcess] = []
        atexit.register(self.close)  # before multiprocessing waits for its children
        for w in range(workers):
            mine = range(w * envs_per_worker, (w + 1) * envs_per_worker)
            self._workers.append(WorkerProcess(w, mine, make_env, self._rows, timeout, context))

    def reset(self, seeds: Mapping[int, int]) -> None:
        """Begin an episode in each of these environments. Not waited for: the learner may use the time."""
        self._rows.request[:] = IDLE
        for k, seed in seeds.items():
            self._rows.seeds[k], self._rows.request[k] = seed, RESET
        self._begun += seeds
        self._send_requests()

    def first_frames(self, running: Sequence[bool]) -> Iterator[tuple[int, Frame | None]]:
        """The first frames since the last call; None for a running episode that is lost."""
        begun, self._begun = set(self._begun), []
        for worker in self._workers:
            replied = worker.wait_for_reply()
            for k in worker.mine:
                if not replied and running[k]:
                    yield k, None
                elif k in begun:
                    yield k, self._rows.frames[k]

    def step(self, actions: npt.NDArray[Any], running: Sequence[bool]) -> Iterator[tuple[int, Step | None]]:
        """Act where an episode is running: all workers at once, then their replies in order."""
        self._rows.fields["actions"][:] = actions
        self._rows.request[:] = np.where(running, STEP, IDLE)
        self._send_requests()
        for worker in self._workers:
            replied = worker.wait_for_reply()
            for k in worker.mine:
                if running[k]:
                    yield k, self._rows.step(k) if replied else None

    def close(self) -> None:
        """Let the workers close their environments and exit; kill those that do not.

        An `EnvWarning` for each environment that cannot be closed.
        """
        workers, self._workers = self._workers, []
        atexit.unregister(self.close)
        for worker in workers:
            worker.send_end()
        deadline = time.monotonic() + SECONDS_TO_END
        for problem in [problem for worker in workers for problem in worker.join(deadline)]:
            warnings.warn(problem, EnvWarning, stacklevel=2)

    def _send_requests(self) -> None:
        for worker in self._workers:
            if self._rows.request[worker.mine.start : worker.mine.stop].any():
                worker.send_request()
