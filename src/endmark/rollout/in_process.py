"""K environments in this process, one batched forward pass a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from endmark.envs import Environment, Frame
from endmark.episodes import EpisodeBatch, EpisodeBuilder


@runtime_checkable
class Policy(Protocol):
    """Acts in K environments at once, and remembers what it needs from frame to frame."""

    def act(
        self, obs: Float[Tensor, "K N ..."], avail_actions: Bool[Tensor, "K N A"], first: Bool[Tensor, " K"]
    ) -> Int[Tensor, "K N"]:
        """A legal action for each agent; `first` says where an episode starts, so that memory starts anew."""
        ...


class RandomPolicy:
    """Every legal action is equally likely."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def act(
        self,
        obs: Float[Tensor, "K N ..."],  # noqa: ARG002
        avail_actions: Bool[Tensor, "K N A"],
        first: Bool[Tensor, " K"],  # noqa: ARG002
    ) -> Int[Tensor, "K N"]:
        """An action for each agent."""
        noise = torch.rand(avail_actions.shape, generator=self.generator)
        return torch.where(avail_actions, noise, -1.0).argmax(-1)


class Rollout:
    """Plays in K environments and hands over every episode whole, when it has ended.

    seeds: each episode starts from the next of these, so it can be played again by itself; when they are
    used up, environments fall idle as their episodes end. All further randomness is the policy's.
    """

    def __init__(self, envs: Sequence[Environment], seeds: Iterable[int]) -> None:
        self.envs = envs
        self.env_steps = 0
        self.episodes = 0
        self._seeds = iter(seeds)
        spec = envs[0].spec
        self._builders = [EpisodeBuilder(spec) for _ in envs]
        # What the policy sees: one row an environment, the same memory at every step.
        fields = spec.fields
        self._obs = np.zeros((len(envs), *fields["obs"].shape), dtype=np.float32)
        self._avail_actions = np.zeros((len(envs), *fields["avail_actions"].shape), dtype=np.bool_)
        self._first = np.ones(len(envs), dtype=np.bool_)
        self._running = [self._begin(k) for k in range(len(envs))]

    @property
    def running(self) -> bool:
        """Whether any environment is in an episode."""
        return any(self._running)

    def collect(self, policy: Policy) -> list[EpisodeBatch]:
        """Step the environments until an episode ends; the episodes that have, one batch each.

        Empty when nothing is running any more.
        """
        finished: list[EpisodeBatch] = []
        while self.running and not finished:
            finished = self._step(policy)
        self.episodes += len(finished)
        return finished

    def _step(self, policy: Policy) -> list[EpisodeBatch]:
        inputs = map(torch.from_numpy, (self._obs, self._avail_actions, self._first))
        actions = policy.act(*inputs).cpu().numpy()
        self._first[:] = False
        finished = []
        for k, env in enumerate(self.envs):
            if not self._running[k]:
                continue
            step = env.step(actions[k])
            self.env_steps += 1
            builder = self._builders[k]
            builder.add({"actions": actions[k], "reward": step.reward}, **step.frame._asdict())
            if step.terminated or step.truncated:
                finished.append(builder.finish(terminated=step.terminated))
                self._running[k] = self._begin(k)
            else:
                self._see(k, step.frame)
        return finished

    def _begin(self, k: int) -> bool:
        """Start an episode in environment k, if there is a seed for it."""
        seed = next(self._seeds, None)
        self._first[k] = True
        if seed is None:
            return False
        frame = self.envs[k].reset(seed=seed)
        self._builders[k].begin(**frame._asdict())
        self._see(k, frame)
        return True

    def _see(self, k: int, frame: Frame) -> None:
        self._obs[k] = frame.obs
        self._avail_actions[k] = frame.avail_actions


def play(envs: Sequence[Environment], policy: Policy, seeds: Iterable[int]) -> EpisodeBatch:
    """One whole episode for each seed, whatever their lengths, so short ones are not favoured."""
    rollout = Rollout(envs, seeds)
    episodes = []
    while finished := rollout.collect(policy):
        episodes += finished
    return EpisodeBatch.cat(episodes)


def episode_seeds(*entropy: int) -> Iterator[int]:
    """An endless sequence of seeds, the same for the same entropy."""
    generator = np.random.Generator(np.random.PCG64(entropy))
    while True:
        yield int(generator.integers(2**31))
