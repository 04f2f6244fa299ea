"""A time-major buffer of arrays, as on-policy code has it, and a learner with a memory that trains on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from endmark.audit import ON_POLICY, Report, audit_learner

T, ROWS, AGENTS = 7, 4, 2
FIELDS: dict[str, Any] = {
    "rows": ON_POLICY,
    "frame_fields": ("obs",),
    "step_fields": ("actions", "rewards"),
    "reward": "rewards",
}


class Buffer:
    """(T + 1, rows, agents, ...) arrays. Row 0 has three episodes, row 1 a truncated one, row 2 ends in T.

    `masks[t]` is 0 where frame t begins an episode, `bad_masks[t]` where that before it was truncated.
    """

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.n_rollout_threads, self.gamma = ROWS, 0.9
        self.obs = rng.normal(size=(T + 1, ROWS, AGENTS, 3)).astype(np.float32)
        self.actions = rng.integers(0, 3, (T, ROWS, AGENTS, 1)).astype(np.float32)
        self.rewards = rng.normal(size=(T, ROWS, 1, 1)).repeat(AGENTS, 2).astype(np.float32)
        self.returns = np.zeros((T + 1, ROWS, AGENTS, 1), np.float32)
        self.masks, self.bad_masks, self.active_masks = (
            np.ones((T + 1, ROWS, AGENTS, 1), np.float32) for _ in range(3)
        )
        for t, row in [(2, 0), (5, 0), (4, 1), (T, 2), (3, 3)]:
            self.masks[t, row] = 0
        self.bad_masks[4, 1] = 0
        self.active_masks[1, 0, 1] = self.active_masks[2:4, 1, 1] = 0

    def compute_returns(self, values: Any, masks: Any) -> None:
        """One-step returns, into the buffer; a truncated step's is its own value, so it is left out."""
        following = self.rewards + self.gamma * masks[1:] * self.active_masks[1:] * values[1:]
        self.returns[:-1] = np.where(self.bad_masks[1:] == 0, values[:-1], following)


class Trainer:
    """An actor and a critic with a GRU. `bug` puts one in:

    memory: the hidden state goes on over the seam. auto-reset: the value of the next episode's first frame
    is added at a truncated end. end: the same at every end. active: agents that left are counted.
    """

    def __init__(self, bug: str = "", *, normalise: bool = False) -> None:
        torch.manual_seed(0)
        self.memory, self.actor, self.critic = nn.GRUCell(3, 6), nn.Linear(6, 3), nn.Linear(6, 1)
        self.networks = nn.ModuleList([self.memory, self.actor, self.critic])
        self.optimiser = torch.optim.Adam(self.networks.parameters())
        self.bug, self.normalise = bug, normalise

    def features(self, obs: Tensor, masks: Tensor) -> Tensor:
        hidden = torch.zeros(*obs.shape[1:3], 6).flatten(0, 1)
        outputs = []
        for t in range(len(obs)):
            if self.bug != "memory":
                hidden = torch.where(masks[t].flatten(0, 1) == 0, 0.0, hidden)
            hidden = self.memory(obs[t].flatten(0, 1), hidden)
            outputs.append(hidden.view(*obs.shape[1:3], 6))
        return torch.stack(outputs)

    def train(self, buffer: Buffer) -> None:
        assert buffer.n_rollout_threads == buffer.obs.shape[1]
        assert buffer.actions.dtype == np.float32
        masks, active = torch.from_numpy(buffer.masks), torch.from_numpy(buffer.active_masks)[:-1]
        features = self.features(torch.from_numpy(buffer.obs), masks)
        values = self.critic(features)
        goes_on = {
            "auto-reset": np.maximum(buffer.masks, 1 - buffer.bad_masks),
            "end": np.ones_like(buffer.masks),
        }
        before = buffer.bad_masks
        if self.bug == "auto-reset":
            buffer.bad_masks = np.ones_like(before)
        buffer.compute_returns(values.detach().numpy(), goes_on.get(self.bug, buffer.masks))
        buffer.bad_masks = before
        advantages = torch.from_numpy(buffer.returns[:-1]) - values[:-1]
        weight = advantages.detach()
        if self.normalise:
            weight = weight / (weight[active != 0].std() + 1e-5)
        log_prob = self.actor(features[:-1]).log_softmax(3).gather(3, torch.from_numpy(buffer.actions).long())
        terms = advantages.square() - weight * log_prob
        counts = torch.ones_like(active) if self.bug == "active" else active
        loss = torch.where(counts != 0, terms, 0.0).sum() / counts.sum()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()


def train(trainer: Trainer, buffer: Buffer) -> None:
    trainer.train(buffer)


def ready(bug: str = "", *, seed: int = 0, **settings: Any) -> Callable[..., Report]:
    return partial(audit_learner, Trainer(bug, **settings), Buffer(seed), train, **FIELDS)
