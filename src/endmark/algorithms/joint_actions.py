"""What all agents do, as numbers that a critic reads and that a gradient goes back through.

There is one kind for numbered actions and one for vectors, chosen once by the spec. An action that there is
not, such as one of an agent that has left, is zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor
from torch.nn.functional import one_hot

from endmark.episodes import Bounds, EpisodeBatch, EpisodeSpec
from endmark.nets import Actor
from endmark.policies import EpsilonGreedy, NoisyPolicy, Policy, SoftmaxPolicy


@runtime_checkable
class JointActions(Protocol):
    """A kind of actions."""

    @property
    def size(self) -> int:
        """B, the numbers that stand for one."""
        ...

    def taken(self, batch: EpisodeBatch) -> Float[Tensor, "F N B"]:
        """What was done at each frame; zeros on final frames and for agents that have left."""
        ...

    def best(self, outputs: Float[Tensor, "F N B"], batch: EpisodeBatch) -> Float[Tensor, "F N B"]:
        """What the actor does at each frame without noise; without gradient for numbered actions."""
        ...

    def relaxed(
        self, outputs: Float[Tensor, "S N B"], batch: EpisodeBatch, noise: Float[Tensor, "S N B"]
    ) -> Float[Tensor, "S N B"]:
        """What the actor does at each step, with a gradient. noise: uniform, from 0 to 1."""
        ...

    def policy(
        self, actor: Actor, n_envs: int, generator: torch.Generator, noise_at: Callable[[int], float]
    ) -> Policy:
        """How to act while training."""
        ...

    def greedy_policy(self, actor: Actor, n_envs: int) -> Policy:
        """How to act in an evaluation."""
        ...


def joint_actions_of(spec: EpisodeSpec, temperature: float) -> JointActions:
    """The kind of the spec's actions. temperature: of numbered ones that are relaxed."""
    return Numbered(spec.n_actions, temperature) if spec.bounds is None else Vectors(spec.bounds)


@dataclass(frozen=True)
class Numbered:
    """One of A numbered actions, one-hot. A `JointActions`."""

    size: int
    temperature: float

    def taken(self, batch: EpisodeBatch) -> Float[Tensor, "F N A"]:
        """One-hot; garbage of agents that have left is not looked at."""
        actions = torch.where(batch.alive, batch.actions_taken, -1)
        hot = one_hot(actions.clamp(min=0), self.size).bool() & (actions >= 0)[..., None]
        return hot.to(_float_of(batch))

    def best(self, outputs: Float[Tensor, "F N A"], batch: EpisodeBatch) -> Float[Tensor, "F N A"]:
        """The legal action of the highest output."""
        return self._hardest(self._legal(outputs, batch.avail_actions))

    def relaxed(
        self, outputs: Float[Tensor, "S N A"], batch: EpisodeBatch, noise: Float[Tensor, "S N A"]
    ) -> Float[Tensor, "S N A"]:
        """A draw by Gumbel noise, one-hot, whose gradient is that of a softmax over the legal actions.

        Jang et al. (2017), arXiv:1611.01144: the straight-through estimator.
        """
        gumbel = -torch.log(-torch.log(noise.clamp(1e-20, 1 - 1e-7)))
        logits = self._legal(outputs, batch.avail_actions[batch.step_frames])
        soft = ((logits + gumbel) / self.temperature).softmax(-1)
        return self._hardest(soft.detach()) + soft - soft.detach()

    def policy(
        self, actor: Actor, n_envs: int, generator: torch.Generator, noise_at: Callable[[int], float]
    ) -> SoftmaxPolicy:
        """Draw from the softmax, whose own noise explores."""
        del noise_at
        return SoftmaxPolicy(actor, n_envs, generator, gives_log_prob=False)

    def greedy_policy(self, actor: Actor, n_envs: int) -> EpsilonGreedy:
        """The legal action of the highest output."""
        return EpsilonGreedy(actor, n_envs, torch.Generator())

    def _legal(self, outputs: Tensor, avail_actions: Bool[Tensor, "*rows A"]) -> Float[Tensor, "*rows A"]:
        legal = avail_actions | ~avail_actions.any(-1, keepdim=True)
        return torch.where(legal, outputs, -torch.inf)

    def _hardest(self, outputs: Tensor) -> Float[Tensor, "*rows A"]:
        return one_hot(outputs.argmax(-1), self.size).to(outputs)


@dataclass(frozen=True)
class Vectors:
    """Vectors within bounds, which are -1 and 1 for the critic. A `JointActions`."""

    bounds: Bounds

    @property
    def size(self) -> int:
        """D."""
        return self.bounds.size

    def taken(self, batch: EpisodeBatch) -> Float[Tensor, "F N D"]:
        """In units of the bounds."""
        low, high = self.bounds.tensors(batch.device)
        half = 0.5 * high - 0.5 * low
        u = (batch.actions_taken - (0.5 * high + 0.5 * low)) / torch.where(half > 0, half, 1.0)
        acts = batch.alive.clone()
        acts[batch.final_frames] = False
        return torch.where(acts[..., None], u, 0.0).to(_float_of(batch))

    def best(self, outputs: Float[Tensor, "F N D"], batch: EpisodeBatch) -> Float[Tensor, "F N D"]:
        """tanh; 0 where there is no choice."""
        low, high = self.bounds.tensors(batch.device)
        return torch.where(high > low, outputs.tanh(), 0.0)

    def relaxed(
        self,
        outputs: Float[Tensor, "S N D"],
        batch: EpisodeBatch,
        noise: Float[Tensor, "S N D"],
    ) -> Float[Tensor, "S N D"]:
        """The same: a deterministic policy (Silver et al. 2014)."""
        del noise
        return self.best(outputs, batch)

    def policy(
        self, actor: Actor, n_envs: int, generator: torch.Generator, noise_at: Callable[[int], float]
    ) -> NoisyPolicy:
        """With noise."""
        return NoisyPolicy(actor, n_envs, self.bounds, generator, noise_at)

    def greedy_policy(self, actor: Actor, n_envs: int) -> NoisyPolicy:
        """Without."""
        return NoisyPolicy(actor, n_envs, self.bounds, torch.Generator())


def _float_of(batch: EpisodeBatch) -> torch.dtype:
    """That of what the batch's networks compute with."""
    reward: Real[Tensor, "F ..."] = batch["reward"]
    return reward.dtype
