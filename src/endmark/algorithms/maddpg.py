"""MADDPG: deterministic policies, each improved through a critic that sees what all agents do.

    Q_i(s, u_1 .. u_N)   the critic's value for agent i
    target_i(t)          λ-return of i's reward and Q'_i(s(t+1), μ'_1 .. μ'_N), by slow copies
    critic               mean (target_i(t) - Q_i(s(t), u(t)))²
    actor                -mean Q_i(s(t), u_1(t) .. μ_i(t) .. u_N(t)), through which no critic learns

Means are over pairs (step, agent alive at it that the learner acts for). An agent's own last step ends its
return. A partner's next action is the one that it took, or none on a final frame. The noise of a loss is that
of its update, by time: an episode's loss does not depend on its company.

Lowe et al. (2017), arXiv:1706.02275.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from endmark.algorithms.agent_settings import TeamSettings
from endmark.algorithms.joint_actions import joint_actions_of
from endmark.algorithms.learner import check_positive, check_ranges
from endmark.algorithms.replay_settings import ReplaySettings
from endmark.algorithms.values import anneal_, backward_, importance, mean, priority, reward_of
from endmark.episodes import EpisodeBatch, EpisodeSpec, ragged
from endmark.nets import Actor, JointCritic
from endmark.policies import Policy, linear_decay
from endmark.targets import lambda_return


@dataclass(frozen=True)
class MADDPGConfig(ReplaySettings, TeamSettings):
    """Deterministic policy gradients through one critic of the joint action, for either kind of actions."""

    TAKES_VECTORS: ClassVar[bool] = True

    td_lambda: float = 0.0
    """Mix of n-step returns in the target: 0 is the one-step target, 1 the Monte Carlo return."""
    actor_lr: float = 5e-4
    """Adam's learning rate for the policy."""
    critic_lr: float = 1e-3
    """Adam's learning rate for the critic."""
    noise_start: float = 0.5
    """Of vectors: standard deviation of the noise at the first step, where the bounds are -1 and 1."""
    noise_end: float = 0.1
    """The same from `noise_steps` on; before that it falls in a straight line."""
    noise_steps: int = 50_000
    """Environment steps until `noise_end` is reached."""
    temperature: float = 1.0
    """Of numbered actions: of the softmax through which the gradient goes."""
    output_penalty: float = 1e-3
    """Weight of the actor's squared outputs in the loss: it keeps them where they have a slope."""
    target_tau: float = 0.01
    """The share of the way that the target networks go at every update."""
    max_grad_norm: float = 10.0
    """The actor's gradient, and the critic's, are scaled down to this norm where theirs is larger."""
    reward: Literal["agent", "team"] = "agent"
    """Whose rewards an agent's return adds up: its own, or the team's (the sum of all agents')."""

    METRICS: ClassVar[Mapping[str, str]] = {
        "loss": "critic_loss + actor_loss",
        "critic_loss": "mean squared TD error of the critic, over real steps and agents alive there",
        "actor_loss": "minus the mean value of what the policies would do, and the penalty on their outputs",
        "q_taken": "mean value of what was done",
        "target": "mean λ-return that these values should have",
        "grad_norm": "norm of the actor's gradient before it is clipped",
        "critic_grad_norm": "norm of the critic's gradient before it is clipped",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, td_lambda=(0, 1), target_tau=(0, 1))
        inf = float("inf")
        check_ranges(
            self, noise_start=(0, inf), noise_end=(0, inf), noise_steps=(0, inf), output_penalty=(0, inf)
        )
        check_positive(self, "actor_lr", "critic_lr", "temperature", "max_grad_norm")
        if self.reward not in ("agent", "team"):
            raise ValueError(f"reward: given {self.reward!r}, want 'agent' or 'team'")

    def learner(self, spec: EpisodeSpec, device: torch.device) -> MADDPGLearner:
        """The learner, untrained."""
        return MADDPGLearner(spec, self, device)


class MADDPGLearner:
    """Learns policies and their critic: `online` and `target` hold an `actor` and a `critic`. A `Learner`."""

    def __init__(self, spec: EpisodeSpec, config: MADDPGConfig, device: torch.device | str = "cpu") -> None:
        self.spec, self.config, self.updates = spec, config, 0
        self.kind = joint_actions_of(spec, config.temperature)
        actor = Actor.of(spec, n_outputs=self.kind.size, **config.actor_options())
        critic = JointCritic(spec, hidden_size=config.hidden_size, action_size=self.kind.size)
        self.online = nn.ModuleDict({"actor": actor, "critic": critic})
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.networks = nn.ModuleDict({"online": self.online, "target": self.target}).to(device)
        self._groups: list[list[Tensor]] = [list(self.online[n].parameters()) for n in ("actor", "critic")]
        self._target: list[Tensor] = list(self.target.parameters())
        rates = zip(self._groups, (config.actor_lr, config.critic_lr), strict=True)
        self.optimiser = torch.optim.Adam([{"params": own, "lr": lr} for own, lr in rates], fused=True)
        self._seed = int(torch.randint(2**62, ()))  # of the noise of losses; drawn as the weights are

    @property
    def actor(self) -> Actor:
        """The online networks that act."""
        return cast(Actor, self.online["actor"])

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`loss` to minimise, and for the log, without gradient, the scalars of `MADDPGConfig.METRICS`."""
        config, kind, steps = self.config, self.kind, batch.step_frames
        learning, successors = batch.learning[steps], steps + 1
        critic, taken = self.online["critic"], kind.taken(batch)
        with torch.no_grad():
            best = kind.best(self.target["actor"](batch), batch)
            following = torch.where(batch.learning[..., None], best, taken)[successors]
            next_q = self.target["critic"](batch.state[successors], following)
            reward = reward_of(batch, config.reward).expand_as(next_q)
            discount = batch.agent_discount(config.gamma)
            target = lambda_return(reward, discount, next_q, batch.lengths, config.td_lambda)
        state, taken = batch.state[steps], taken[steps]
        q_taken = critic(state, taken)
        td_error, weight = torch.where(learning, target - q_taken, 0.0), importance(batch)
        critic_loss = mean(td_error.square(), learning, weight)

        outputs = self.actor.head.outputs(self.actor.agent.features(batch)[steps])
        would = torch.where(learning[..., None], kind.relaxed(outputs, batch, self._noise(batch)), taken)
        frozen = {name: parameter.detach() for name, parameter in critic.named_parameters()}
        q_would = functional_call(critic, frozen, (state, taken, would))
        penalty = torch.where(learning[..., None], outputs, 0.0).square().mean(-1)
        actor_loss = config.output_penalty * mean(penalty, learning, weight) - mean(q_would, learning, weight)
        logged = {"critic_loss": critic_loss, "actor_loss": actor_loss}
        logged |= {"q_taken": mean(q_taken, learning), "target": mean(target, learning)}
        logged |= priority(batch, td_error, learning)
        return {"loss": critic_loss + actor_loss} | {name: value.detach() for name, value in logged.items()}

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One optimiser step."""
        metrics = self.loss(batch)
        actor, critic = backward_(metrics["loss"], self._groups, self.config.max_grad_norm)
        metrics |= {"loss": metrics["loss"].detach(), "grad_norm": actor, "critic_grad_norm": critic}
        anneal_(self.optimiser, self.updates, self.config.lr_updates)
        self.optimiser.step()
        self.updates += 1
        with torch.no_grad():
            torch._foreach_lerp_(self._target, [*chain(*self._groups)], self.config.target_tau)
        return metrics

    def policy(self, actor: Actor, n_envs: int, generator: torch.Generator) -> Policy:
        """With noise, or drawn from the softmax."""
        noise = self.config.noise_start, self.config.noise_end, self.config.noise_steps
        return self.kind.policy(actor, n_envs, generator, linear_decay(*noise))

    def greedy_policy(self, n_envs: int) -> Policy:
        """Without noise."""
        return self.kind.greedy_policy(self.actor, n_envs)

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser, the number of updates, and the seed of the losses' noise."""
        counters = {"updates": self.updates, "seed": self._seed}
        return {name: getattr(self, name).state_dict() for name in ("networks", "optimiser")} | counters

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates, self._seed = int(state["updates"]), int(state["seed"])

    def _noise(self, batch: EpisodeBatch) -> Float[Tensor, "S N B"]:
        """Uniform numbers of this update, by time and agent."""
        generator = torch.Generator().manual_seed((self._seed + self.updates) % 2**63)
        shape = self.spec.episode_limit, self.spec.n_agents, self.kind.size
        return torch.rand(shape, generator=generator)[ragged.ramp(batch.lengths)].to(batch.device)
