"""When updates run: in turn with the rollout, or in a thread beside it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from endmark.algorithms import Learner
from endmark.episodes import EpisodeBatch, Replay, Store
from endmark.training.meters import Meters

Metrics = Mapping[str, Tensor]


class InTurn:
    """An update runs while nothing else does, and the next action is by its weights.

    actor: what acts, the learner's own. device: where its networks are. begun: updates so far.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner, self.begun = learner, learner.updates
        self.actor: Any = learner.actor
        self.device = next(learner.actor.parameters()).device
        self._metrics: list[Metrics] = []

    def state_dict(self) -> dict[str, Any]:
        """The number of updates so far."""
        return {"begun": self.begun}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.begun = int(state["begun"])

    def begin(self, batch: EpisodeBatch) -> None:
        """Update."""
        self.begun += 1
        self._metrics.append(_update(self.learner, batch.to(self.device)))

    def finish(self) -> Sequence[Metrics]:
        """The metrics of the updates since the last call."""
        metrics, self._metrics = self._metrics, []
        return metrics


class Overlapped:
    """Updates run one after the other in a thread, while the caller goes on: torch's kernels free Python.

    actor: what acts, a copy of the learner's. It is renewed by a `begin` when no update is pending, and at no
        other time: so which weights act depends on the calls alone, and on no clock.
    threads: of torch on the CPU, in that thread: OpenMP counts them for each thread by itself.
    device: where the networks are. begun: updates so far.

    A batch that was given to `begin` must not change any more. An error in an update is raised by `finish`.
    """

    def __init__(self, learner: Learner, threads: int) -> None:
        self.learner, self.begun = learner, learner.updates
        self.actor: Any = copy.deepcopy(learner.actor)
        self.device = next(learner.actor.parameters()).device
        self._thread = ThreadPoolExecutor(1, "update", torch.set_num_threads, (threads,))
        self._pending: list[Future[Metrics]] = []

    def state_dict(self) -> dict[str, Any]:
        """The number of updates so far, and the weights that act. No update may be pending."""
        return {"begun": self.begun, "actor": self.actor.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.begun = int(state["begun"])
        self.actor.load_state_dict(state["actor"])

    def begin(self, batch: EpisodeBatch) -> None:
        """Put an update in the queue."""
        self.begun += 1
        if not self._pending:
            self.actor.load_state_dict(self.learner.actor.state_dict())
        self._pending.append(self._thread.submit(_update, self.learner, batch.to(self.device)))

    def finish(self) -> Sequence[Metrics]:
        """Wait for the pending updates; their metrics."""
        pending, self._pending = self._pending, []
        return [update.result() for update in pending]


@runtime_checkable
class Updates(Protocol):
    """`InTurn`, `Overlapped`, or what does the same."""

    def begin(self, batch: EpisodeBatch) -> None:
        """Update by this batch, now or later."""
        ...

    def finish(self) -> Sequence[Metrics]:
        """Wait for the pending updates; the metrics of those since the last call."""
        ...


def settle(updates: Updates, meters: Meters, store: Store) -> None:
    """Wait for the pending updates: their metrics go to the meters, new priorities to the store.

    Called before each sample, so that no clock decides by which priorities it is drawn.
    """
    for metrics in updates.finish():
        meters.add({name: value for name, value in metrics.items() if name not in ("serial", "priority")})
        if isinstance(store, Replay) and "serial" in metrics:
            store.prioritise(metrics["serial"], metrics["priority"])


def _update(learner: Learner, batch: EpisodeBatch) -> Metrics:
    """The learner's metrics, and of a prioritised sample its episodes' `serial` numbers beside `priority`."""
    metrics = learner.update(batch)
    if "serial" not in batch.fields:
        return metrics
    if "priority" not in metrics:
        want = "a learner that gives the 'priority' of each episode"
        raise ValueError(f"priority_exponent: given to {type(learner).__name__}, want {want}")
    return metrics | {"serial": batch["serial"][batch.first_frames]}
