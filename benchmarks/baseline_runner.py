"""The usual runner: one environment, one forward pass for each step, one padded episode buffer.

It works like PyMARL's EpisodeRunner, without its avoidable copies: arrays are written in place. This file
does not import endmark: an environment is any object with `reset` and `step` like those of `endmark.envs`.
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
        """Start an episode: reset the hidden states and last actions."""
        self.hidden = self._nothing.new_zeros(self.agent.n_agents, self.agent.hidden_size)
        self.last = self._nothing

    @torch.no_grad()
    def act(self, obs: Tensor, avail_actions: Tensor) -> Tensor:
        """Actions (N,) from obs (N, O) and avail_actions (N, A)."""
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
        """Play one episode: its fields (L+1, ...), valid until the next call, and whether it terminated."""
        frame = self._next_frame() if self._first is None else self._first
        self._first = None
        obs, avail, arrays = self._fields["obs"], self._fields["avail_actions"], self._arrays
        self.actor.begin()
        t, ended, cut = 0, False, False
        self._insert(t, frame)
        while not (ended or cut):
            arrays["actions"][t] = self.actor.act(obs[t], avail[t]).numpy()
            step = self.env.step(arrays["actions"][t])
            # With a reward for each agent, the team's reward is the sum over agents that still take part.
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
