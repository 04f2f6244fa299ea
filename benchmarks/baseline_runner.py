"""The usual runner: one environment, a forward pass for each of its steps, a padded buffer that fills up.

As PyMARL's EpisodeRunner does it, but for the waste: arrays are written in place, and nothing is kept twice.
This file knows nothing of endmark: an environment is anything with its `reset` and `step`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.baseline import Agent


class OneEnvironmentActor:
    """Acts in one environment: greedily, or at random with probability `epsilon`."""

    def __init__(
        self, agent: Agent, n_actions: int, generator: torch.Generator, epsilon: float = 0.0
    ) -> None:
        self.agent, self.generator, self.epsilon = agent, generator, epsilon
        self._nothing = torch.zeros(1, agent.n_agents, n_actions)
        self._one_hot = torch.eye(n_actions)
        self.begin()

    def begin(self) -> None:
        """An episode starts."""
        self.hidden = self._nothing.new_zeros(self.agent.n_agents, self.agent.hidden_size)
        self.last = self._nothing

    @torch.no_grad()
    def act(self, obs: Tensor, avail_actions: Tensor) -> Tensor:
        """An action for each agent (N,), from obs (N, O) and avail_actions (N, A)."""
        q, self.hidden = self.agent.step(obs[None], self.last, self.hidden)
        actions = torch.where(avail_actions, q[0], -torch.inf).argmax(-1)
        if self.epsilon > 0:
            explore = torch.rand(actions.shape, generator=self.generator) < self.epsilon
            noise = torch.rand(avail_actions.shape, generator=self.generator)
            actions = torch.where(explore, torch.where(avail_actions, noise, -1.0).argmax(-1), actions)
        self.last = self._one_hot[actions][None]
        return actions


class OneEnvironmentRunner:
    """Plays episode after episode in one environment."""

    def __init__(
        self, env: Any, limit: int, n_actions: int, actor: OneEnvironmentActor, seeds: Iterator[int]
    ) -> None:
        self.env, self.actor, self.env_steps = env, actor, 0
        self._seeds = seeds
        n_agents, columns = actor.agent.n_agents, limit + 1
        self._fields: dict[str, Tensor] = {
            "avail_actions": torch.zeros(columns, n_agents, n_actions, dtype=torch.bool),
            "alive": torch.zeros(columns, n_agents, dtype=torch.bool),
            "actions": torch.zeros(columns, n_agents, dtype=torch.int64),
            "reward": torch.zeros(columns),
        }
        self._first = self._next_frame()
        self._fields["obs"] = torch.zeros(
            columns, *np.shape(self._first.obs)[:1], np.size(self._first.obs[0])
        )
        if self._first.state is not None:
            self._fields["state"] = torch.zeros(columns, np.size(self._first.state))
        self._arrays = {name: field.numpy() for name, field in self._fields.items()}

    def episode(self) -> tuple[dict[str, Tensor], bool]:
        """An episode's fields (L+1, ...), which the next one overwrites, and whether it terminated."""
        frame = self._next_frame() if self._first is None else self._first
        self._first = None
        obs, avail, arrays = self._fields["obs"], self._fields["avail_actions"], self._arrays
        self.actor.begin()
        t, ended, cut = 0, False, False
        self._insert(t, frame)
        while not (ended or cut):
            arrays["actions"][t] = self.actor.act(obs[t], avail[t]).numpy()
            step = self.env.step(arrays["actions"][t])
            # One an agent: the team's is the sum of those who still take part.
            arrays["reward"][t] = np.sum(
                step.reward, where=arrays["alive"][t] if np.ndim(step.reward) else True
            )
            ended, cut = step.terminated, step.truncated
            t += 1
            self._insert(t, step.frame)
        self.env_steps += t
        arrays["actions"][t], arrays["reward"][t] = 0, 0
        return {name: field[: t + 1] for name, field in self._fields.items()}, ended

    def _next_frame(self) -> Any:
        return self.env.reset(seed=next(self._seeds))

    def _insert(self, t: int, frame: Any) -> None:
        arrays = self._arrays
        arrays["obs"][t] = np.reshape(frame.obs, arrays["obs"].shape[1:])
        arrays["avail_actions"][t], arrays["alive"][t] = frame.avail_actions, frame.alive
        if frame.state is not None:
            arrays["state"][t] = np.reshape(frame.state, -1)
