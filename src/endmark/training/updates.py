"""When a learner's updates run: at once, or beside the acting.

Both ways offer the same: `agent`, which acts; `begin`, for an update; and `finish`, after which all updates
begun so far are done. `finish` returns the metrics of those done since it was last called, in their order.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from endmark.algorithms.qlearning import QLearner
from endmark.episodes import EpisodeBatch

Metrics = Mapping[str, Tensor]


class InTurn:
    """An update runs while nothing else does, and the next action is by its weights."""

    def __init__(self, learner: QLearner) -> None:
        self.learner, self.agent = learner, learner.agent
        self._metrics: list[Metrics] = []

    def begin(self, batch: EpisodeBatch) -> None:
        """Update."""
        self._metrics.append(self.learner.update(batch))

    def finish(self) -> Sequence[Metrics]:
        """Nothing runs any more."""
        metrics, self._metrics = self._metrics, []
        return metrics


class Overlapped:
    """Updates run one after the other in a thread, while the caller goes on: torch's kernels need no Python.

    agent: acts with weights of its own. They are renewed by a `begin` when nothing is running, and at no
        other time: so which weights act depends on the calls alone, and on no clock.
    threads: on the CPU, in that thread: OpenMP counts them for each thread by itself.

    The batch must not change any more. An error in an update is raised by `finish`.
    """

    def __init__(self, learner: QLearner, threads: int) -> None:
        self.learner, self.agent = learner, copy.deepcopy(learner.agent)
        self._thread = ThreadPoolExecutor(1, "update", torch.set_num_threads, (threads,))
        self._running: list[Future[dict[str, Tensor]]] = []

    def begin(self, batch: EpisodeBatch) -> None:
        """Put an update in the queue."""
        if not self._running:
            self.agent.load_state_dict(self.learner.agent.state_dict())
        self._running.append(self._thread.submit(self.learner.update, batch))

    def finish(self) -> Sequence[Metrics]:
        """Wait until nothing runs any more."""
        running, self._running = self._running, []
        return [update.result() for update in running]
