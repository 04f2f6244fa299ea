"""Stores: which batches are due for learning, from the episodes collected.

A store is all that differs between off-policy and on-policy training. `add` takes the episodes that have
ended, `due` gives the batches to learn from, on the CPU or in the sample buffer's memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int, Real
from torch import Tensor

from endmark.episodes import priorities
from endmark.episodes.batch import EpisodeBatch
from endmark.episodes.replay import EpisodeReplay, SampleBuffer
from endmark.episodes.spec import EpisodeSpec


@runtime_checkable
class Store(Protocol):
    """Takes episodes and says which batches are due."""

    def add(self, episodes: EpisodeBatch) -> None:
        """Store episodes that have ended."""
        ...

    def due(self) -> Iterator[EpisodeBatch]:
        """The batches to learn from now. Each is valid until the next is asked for."""
        ...

    def episodes(self) -> EpisodeBatch | None:
        """What is stored, from the oldest to the newest; None if nothing is."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the batches to come depend on. It stays as it is while the store goes on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        ...


class Replay:
    """Off-policy: a sample of `batch_size` stored episodes for every `every` new ones.

    capacity: in frames; the oldest episodes make way. Nothing is due while fewer than `batch_size` episodes
    are stored, and updates missed until then are not made up for.
    generator: draws the samples. buffer: memory that samples are put in, one after the other; None if a batch
    must outlast the next.

    exponent: 0 for samples of different episodes, all equally likely. Above it, episodes are drawn by their
    priorities to this power, with replacement, and a sample has two further step fields: `importance`, the
    weight of the step's episode by `beta`, and `serial`, by which `prioritise` knows the episode again. A new
    episode has the largest priority that there was so far. See `endmark.episodes.priorities`.
    """

    def __init__(
        self,
        spec: EpisodeSpec,
        capacity: int,
        *,
        batch_size: int,
        every: int,
        generator: torch.Generator,
        buffer: SampleBuffer | None = None,
        exponent: float = 0.0,
        beta: float = 0.0,
    ) -> None:
        needed = batch_size * (spec.episode_limit + 1)
        if capacity < needed:
            raise ValueError(
                f"replay_frames: given {capacity}, want at least {needed}, which holds batch_size "
                f"{batch_size} episodes of {spec.episode_limit} steps"
            )
        self.memory = EpisodeReplay(spec, capacity)
        self._batch_size, self._every = batch_size, every
        self._generator, self._buffer = generator, buffer
        self._exponent, self._beta = exponent, beta
        self._largest = 1.0
        self._added = self._since_sample = self._n_due = 0

    def add(self, episodes: EpisodeBatch) -> None:
        """Store episodes that have ended."""
        self.memory.add(episodes, self._largest)
        for _ in range(episodes.n_episodes):
            self._added += 1
            self._since_sample += 1
            if self._added >= self._batch_size and self._since_sample >= self._every:
                self._n_due += 1
                self._since_sample = 0

    def due(self) -> Iterator[EpisodeBatch]:
        """One sample for every `every` episodes added since the last one."""
        while self._n_due > 0:
            self._n_due -= 1
            if self._exponent > 0:
                yield self._prioritised()
            else:
                yield self.memory.sample(self._batch_size, self._generator, self._buffer)

    def prioritise(self, serials: Int[Tensor, " E"], given: Real[Tensor, " E"]) -> None:
        """Give episodes of a sample a priority. One that was overwritten since is passed over.

        ValueError for a priority that is not finite and more than 0: the TD error it was made of is neither.
        """
        given = given.double().cpu()
        if (wrong := ~(given.isfinite() & (given > 0))).any():
            value = float(given[wrong][0])
            raise ValueError(
                f"priority: given {value}, want a finite number above 0: have the values diverged?"
            )
        self.memory.prioritise(serials.cpu(), given)
        self._largest = max(self._largest, float(given.max()))

    def episodes(self) -> EpisodeBatch | None:
        """The replay's episodes, from the oldest to the newest."""
        return self.memory.episodes() if len(self.memory) > 0 else None

    def state_dict(self) -> dict[str, Any]:
        """The replay's episodes, the counts that say when a sample is due, the generator, and priorities."""
        state: dict[str, Any] = {
            "memory": self.memory.state_dict(),
            "counts": [self._added, self._since_sample, self._n_due],
            "generator": self._generator.get_state(),
        }
        if self._exponent > 0:
            state |= {"priorities": self.memory.priorities, "largest": self._largest}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.memory.load_state_dict(state["memory"])
        self._added, self._since_sample, self._n_due = map(int, state["counts"])
        self._generator.set_state(state["generator"])
        if self._exponent > 0:
            serials = torch.arange(len(self.memory))
            self.memory.prioritise(serials, torch.as_tensor(state["priorities"]))
            self._largest = float(state["largest"])

    def _prioritised(self) -> EpisodeBatch:
        """A sample by priorities."""
        probability = priorities.probabilities(self.memory.priorities, self._exponent)
        ages = priorities.draw(probability, self._batch_size, self._generator)
        batch = self.memory.take(ages, self._buffer)
        weight = priorities.importance(probability[ages.numpy()], self._beta)
        each = {"importance": weight, "serial": self.memory.first_serial + ages}
        steps = {name: row.repeat_interleave(batch.lengths) for name, row in each.items()}
        return batch.with_steps(**{name: row.to(batch.device) for name, row in steps.items()})


class Fresh:
    """On-policy: every episode is used exactly once, in batches of `batch_size`, in the order of their ends.

    An episode that still runs when a batch is due is not dropped: it ends, and is in a later batch. So each
    episode that was begun is used, and short ones are not preferred. It may have been acted by weights of
    several updates, which is why `log_prob` is stored.
    """

    def __init__(self, spec: EpisodeSpec, batch_size: int) -> None:
        self._spec, self._batch_size = spec, batch_size
        self._waiting: deque[EpisodeBatch] = deque()

    def add(self, episodes: EpisodeBatch) -> None:
        """Store episodes that have ended."""
        if episodes.spec != self._spec:
            raise ValueError("add: the batch has another spec than this store")
        self._waiting += episodes.split()

    def due(self) -> Iterator[EpisodeBatch]:
        """Batches of the episodes that wait, as long as there are enough."""
        while len(self._waiting) >= self._batch_size:
            yield EpisodeBatch.cat([self._waiting.popleft() for _ in range(self._batch_size)])

    def episodes(self) -> EpisodeBatch | None:
        """The episodes that wait."""
        return EpisodeBatch.cat(list(self._waiting)) if self._waiting else None

    def state_dict(self) -> dict[str, Any]:
        """The episodes that wait: fields end to end, lengths and ends."""
        waiting = self.episodes()
        if waiting is None:
            return {"lengths": torch.zeros(0, dtype=torch.int64)}
        return {
            "fields": dict(waiting.fields),
            "lengths": waiting.lengths,
            "terminated": waiting.terminated,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._waiting.clear()
        if len(state["lengths"]) > 0:
            self.add(EpisodeBatch(self._spec, state["fields"], state["lengths"], state["terminated"]))
