"""What an actor's outputs stand for, chosen once by the spec: logits of actions, or Gaussian vectors.

A stochastic policy's learner asks for an actor, for log-probabilities and entropies, and for policies. It
does not ask which kind of action there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from endmark.episodes import Bounds, EpisodeBatch, EpisodeSpec
from endmark.nets import Actor, GaussianHead, IndependentGaussianHeads, IndependentHeads
from endmark.ops import gaussian
from endmark.ops.gaussian import Squash
from endmark.policies import EpsilonGreedy, GaussianMode, GaussianPolicy, Policy, SoftmaxPolicy

Terms = tuple[Float[Tensor, "S N"], Float[Tensor, "S N"]]


@runtime_checkable
class Distribution(Protocol):
    """A kind of stochastic policy."""

    def actor(self, spec: EpisodeSpec, **options: Any) -> Actor:
        """The networks that act; `options` are those of `Actor.of` but for the outputs."""
        ...

    def terms(self, actor: Actor, batch: EpisodeBatch) -> Terms:
        """The log-probability of each action taken, and the policy's entropy there."""
        ...

    def policy(self, actor: Actor, n_envs: int, generator: torch.Generator) -> Policy:
        """Draw from the policy; `log_prob` is stored with each action."""
        ...

    def greedy_policy(self, actor: Actor, n_envs: int) -> Policy:
        """The likeliest legal action, or the mean."""
        ...


class Categorical:
    """One of A numbered actions, by the softmax of logits over the legal ones. A `Distribution`."""

    def actor(self, spec: EpisodeSpec, **options: Any) -> Actor:
        """A logit for each action."""
        return Actor.of(spec, n_outputs=spec.n_actions, **options)

    def terms(self, actor: Actor, batch: EpisodeBatch) -> Terms:
        """The log-probability of each action taken, and the policy's entropy there."""
        # On all frames, as a copy of the features of some would cost more; final ones have action -1.
        given = actor.agent.features(batch), batch.avail_actions, batch.actions_taken
        log_prob, entropy = actor.head.terms(*given)
        return log_prob[batch.step_frames], entropy[batch.step_frames]

    def policy(self, actor: Actor, n_envs: int, generator: torch.Generator) -> SoftmaxPolicy:
        """Draw from the policy."""
        return SoftmaxPolicy(actor, n_envs, generator)

    def greedy_policy(self, actor: Actor, n_envs: int) -> EpsilonGreedy:
        """The likeliest legal action."""
        return EpsilonGreedy(actor, n_envs, torch.Generator())


@dataclass(frozen=True)
class Gaussian:
    """Vectors within bounds. A `Distribution`. The settings are those of `ActorCriticConfig`."""

    bounds: Bounds
    squash: Squash
    log_std: tuple[float, float, float]

    def actor(self, spec: EpisodeSpec, **options: Any) -> Actor:
        """Means from observations, and standard deviations as parameters."""
        agent, means = Actor.of(spec, n_outputs=spec.action_size, **options).children()
        if not isinstance(means, IndependentHeads):
            return Actor(agent, self._head(means, self.bounds))
        heads = []
        for head, group in zip(means.heads, means.groups, strict=True):
            bounds = spec.agents(group).bounds
            assert bounds is not None
            heads.append(self._head(head, bounds))
        return Actor(agent, IndependentGaussianHeads(heads, means.groups))

    def terms(self, actor: Actor, batch: EpisodeBatch) -> Terms:
        """The log-probability of each action taken, and the policy's entropy there."""
        steps = batch.step_frames
        given = actor.gaussian.distribution(actor.agent.features(batch)[steps])
        # What agents that have left did may be anything: selected before it is computed with.
        counted = batch.learning[steps][..., None]
        actions = torch.where(counted, batch.steps("actions"), given.middle)
        return gaussian.log_prob(given, actions), gaussian.entropy(given)

    def policy(self, actor: Actor, n_envs: int, generator: torch.Generator) -> GaussianPolicy:
        """Draw from the policy."""
        return GaussianPolicy(actor, n_envs, generator)

    def greedy_policy(self, actor: Actor, n_envs: int) -> GaussianMode:
        """The mean."""
        return GaussianMode(actor, n_envs)

    def _head(self, means: nn.Module, bounds: Bounds) -> GaussianHead:
        return GaussianHead(means, bounds, self.squash, log_std=self.log_std)


def check_numbered(spec: EpisodeSpec) -> None:
    """ValueError where actions are vectors, for an algorithm that chooses among numbered ones."""
    if spec.bounds is not None:
        from endmark.algorithms import ALGORITHMS

        takers = [name for name, kind in ALGORITHMS.items() if getattr(kind, "TAKES_VECTORS", False)]
        given = f"given vectors of {spec.action_size} numbers"
        raise ValueError(f"actions: {given}, want numbered actions; {', '.join(takers)} take either")
