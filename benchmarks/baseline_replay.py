"""The usual replay: one row an episode, padded to the limit; actions are also stored one-hot."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.baseline import PaddedBatch


class PaddedReplay:
    """A ring buffer of `capacity` rows of `limit` + 1 columns; fields as in `PaddedBatch`.

    Flags and masks take one byte each, which is less than usual. Memory is allocated at the start.
    """

    def __init__(
        self, capacity: int, limit: int, n_agents: int, n_actions: int, obs_size: int, state_size: int | None
    ) -> None:
        self.n_actions, self._at, self._count = n_actions, 0, 0

        def store(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(capacity, limit + 1, *shape, dtype=dtype)

        self._store = PaddedBatch(
            obs=store(n_agents, obs_size),
            avail_actions=store(n_agents, n_actions, dtype=torch.bool),
            alive=store(n_agents, dtype=torch.bool),
            actions=store(n_agents, dtype=torch.int64),
            actions_onehot=store(n_agents, n_actions),
            reward=store(),
            mask=store(dtype=torch.bool),
            terminated=store(dtype=torch.bool),
            state=None if state_size is None else store(state_size),
        )
        self._fields = {name: field for name, field in vars(self._store).items() if field is not None}

    def __len__(self) -> int:
        return self._count

    @property
    def n_bytes(self) -> int:
        """Bytes allocated for the fields."""
        return sum(field.numel() * field.element_size() for field in self._fields.values())

    def add(self, fields: dict[str, Tensor], *, terminated: bool) -> None:
        """Store an episode of L steps, given as fields (L+1, ...) without flags and one-hot actions.

        Columns after the episode keep their old contents; the mask is False there.
        """
        n_columns, row = len(fields["actions"]), self._at
        for name, field in fields.items():
            self._fields[name][row, :n_columns] = field
        one_hot = functional.one_hot(fields["actions"], self.n_actions)
        self._store.actions_onehot[row, :n_columns] = one_hot
        self._store.mask[row, : n_columns - 1] = True
        self._store.mask[row, n_columns - 1 :] = False
        self._store.terminated[row] = False
        self._store.terminated[row, n_columns - 2] = terminated
        self._at = (row + 1) % len(self._store.mask)
        self._count = max(self._count, row + 1)

    def sample(self, n: int, generator: torch.Generator) -> PaddedBatch:
        """`n` different episodes, the usual way: index every field by rows, then trim to the longest."""
        return self.rows(torch.randperm(self._count, generator=generator)[:n])

    def rows(self, rows: Tensor) -> PaddedBatch:
        """These rows, trimmed to the longest episode among them."""
        chosen = {name: field[rows] for name, field in self._fields.items()}
        n_columns = int(chosen["mask"].sum(1).max()) + 1
        return PaddedBatch(**{name: field[:, :n_columns] for name, field in chosen.items()})

    def sample_trimmed(self, n: int, generator: torch.Generator) -> PaddedBatch:
        """`n` different episodes, trimmed before anything is copied, which is better than usual."""
        rows = torch.randperm(self._count, generator=generator)[:n]
        n_columns = int(self._store.mask[rows].sum(1).max()) + 1
        return PaddedBatch(**{name: field[:, :n_columns][rows] for name, field in self._fields.items()})
