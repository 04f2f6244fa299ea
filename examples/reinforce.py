"""REINFORCE, written from nothing: docs/an-algorithm-from-zero.md walks through it.

    loss = -mean over real steps and alive agents of  log π(u(t)) (G(t) - b) / σ  +  c H(π(t))

G(t) is the Monte Carlo return of the team, b and σ its running mean and deviation. Williams (1992).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from endmark.algorithms.values import mean, team_reward
from endmark.episodes import EpisodeBatch, EpisodeSpec, Field, Fresh, SampleBuffer
from endmark.nets import Actor, RunningMoments
from endmark.ops.categorical import entropy, log_prob, log_softmax
from endmark.policies import EpsilonGreedy, SoftmaxPolicy
from endmark.targets import lambda_return


@dataclass(frozen=True)
class ReinforceConfig:
    """REINFORCE: actions followed by more reward than usual become likelier."""

    gamma: float = 0.95
    """Discount of a step's future."""
    lr: float = 1e-3
    """Adam's learning rate."""
    batch_size: int = 16
    """Episodes an update."""
    entropy_coef: float = 0.02
    """Weight of the policy's entropy."""
    METRICS: ClassVar[Mapping[str, str]] = {"loss": "what is minimised", "entropy": "of the policy, in nats"}

    def learner(self, spec: EpisodeSpec, device: torch.device) -> Reinforce:
        return Reinforce(spec, self, device)

    def store(self, spec: EpisodeSpec, generator: torch.Generator, buffer: SampleBuffer | None) -> Fresh:
        del generator, buffer  # for stores that sample
        return Fresh(spec, self.batch_size)


class Reinforce:
    """A `Learner`."""

    def __init__(self, spec: EpisodeSpec, config: ReinforceConfig, device: torch.device) -> None:
        # The policy gives log_prob with each action, so the spec names it.
        self.spec = spec.extend(log_prob=Field((spec.n_agents,), torch.float32, per="step"))
        self.config, self.updates = config, 0
        self.actor = Actor.of(spec, n_outputs=spec.n_actions, hidden_size=64)
        self.moments = RunningMoments()
        self.networks = nn.ModuleDict({"actor": self.actor, "moments": self.moments}).to(device)
        self.optimiser = torch.optim.Adam(self.actor.parameters(), lr=config.lr)

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """A pure function of networks and batch. There is no padding in a batch, so there is no mask."""
        steps = batch.step_frames  # [S]: the frames that carry a step
        log_probs = log_softmax(self.actor(batch)[steps], batch.avail_actions[steps])  # [S, N, A]
        advantage = self.moments.standardise(self.returns(batch))[:, None]
        gain = log_prob(log_probs, batch.steps("actions")) * advantage  # [S, N]
        alive = batch.alive[steps]
        bonus = mean(entropy(log_probs), alive)
        return {"loss": -mean(gain, alive) - self.config.entropy_coef * bonus, "entropy": bonus.detach()}

    def returns(self, batch: EpisodeBatch) -> Tensor:
        """The Monte Carlo return of each step, [S]. No critic, so a cut is bootstrapped from 0."""
        nothing = torch.zeros(batch.n_steps, device=batch.device)
        discount = batch.discount(self.config.gamma)
        return lambda_return(team_reward(batch), discount, nothing, batch.lengths, 1.0)

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        self.moments.add(self.returns(batch))
        metrics = self.loss(batch)
        self.optimiser.zero_grad()
        torch.autograd.backward(metrics["loss"])
        self.optimiser.step()
        self.updates += 1
        return {name: value.detach() for name, value in metrics.items()}

    def policy(self, actor: Actor, n_envs: int, generator: torch.Generator) -> SoftmaxPolicy:
        return SoftmaxPolicy(actor, n_envs, generator)

    def greedy_policy(self, n_envs: int) -> EpsilonGreedy:
        return EpsilonGreedy(self.actor, n_envs, torch.Generator())

    def state_dict(self) -> dict[str, Any]:
        optimiser = self.optimiser.state_dict()
        return {"networks": self.networks.state_dict(), "optimiser": optimiser, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates = state["updates"]
