"""When a learner's updates run: at once, or beside the acting.

Both ways offer the same: `agent`, which acts; `update`, which begins an update; `wait`, after which the
learner is as the updates begun so far have made it. Both return the metrics of the update that they waited
for, if any.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from endmark.algorithms.qlearning import QLearner
from endmark.episodes import EpisodeBatch

Metrics = Mapping[str, Tensor]


class InTurn:
    """An update runs while nothing else does; the next action is by its weights."""

    def __init__(self, learner: QLearner) -> None:
        self.learner, self.agent = learner, learner.agent

    def update(self, batch: EpisodeBatch) -> Metrics:
        """Update."""
        return self.learner.update(batch)

    def wait(self) -> Metrics:
        """Nothing to wait for."""
        return {}


class Overlapped:
    """An update runs in a thread of its own, while the caller goes on: torch's kernels run without Python.

    agent: acts with the weights from before the update that was begun last, and so changes at `update` and
        at no other time: which weights act never depends on how fast anything is.
    threads: of torch on the CPU, in that thread; torch counts them for each thread by itself.

    An error in an update is raised by the call that waits for it.
    """

    def __init__(self, learner: QLearner, threads: int) -> None:
        self.learner, self.agent = learner, copy.deepcopy(learner.agent)
        self._thread = ThreadPoolExecutor(1, "update", torch.set_num_threads, (threads,))
        self._running: Future[Metrics] | None = None

    def update(self, batch: EpisodeBatch) -> Metrics:
        """Wait for the last update, act with its weights from now on, and begin the next."""
        metrics = self.wait()
        self.agent.load_state_dict(self.learner.agent.state_dict())
        self._running = self._thread.submit(self.learner.update, batch)
        return metrics

    def wait(self) -> Metrics:
        """Wait for the last update."""
        running, self._running = self._running, None
        return running.result() if running else {}
