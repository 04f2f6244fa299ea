"""Recurrent Q-learning on whole episodes: IQL, VDN and QMIX, which differ in the mixer alone.

    q_i(t)    the agents' values along the episode, from one recurrent network
    Q(t)      = mix(q_1(t, u_1(t)), .., q_N(t, u_N(t)); state(t))
    target(t) = λ-return of the reward and the target network's Q(t+1) under greedy actions
    loss      = mean over real steps of (target(t) - Q(t))²

IQL has no mixer: each agent has its own return, and the mean is over pairs (step, agent alive at it).
Tan (1993); Sunehag et al. (2018), arXiv:1706.05296; Rashid et al. (2018), arXiv:1803.11485.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets import NO_ACTION, QMIXMixer, RecurrentAgent, VDNMixer
from endmark.ops import greedy
from endmark.targets import lambda_return

Mixing = Literal["iql", "vdn", "qmix"]


@dataclass(frozen=True)
class QLearningConfig:
    """How to learn."""

    gamma: float = 0.99
    """Discount of a step's future."""
    td_lambda: float = 0.6
    """Mix of n-step returns in the target: 0 is the usual one-step target, 1 the Monte Carlo return."""
    lr: float = 5e-4
    """Adam's learning rate."""
    double_q: bool = True
    """Choose the target's greedy actions by the online network (van Hasselt et al. 2016)."""
    target_update: Literal["soft", "hard"] = "soft"
    """How the target network follows: a little at every update, or all at once now and then."""
    target_tau: float = 0.01
    """Soft: the share of the way that the target network goes at every update."""
    target_period: int = 200
    """Hard: updates between two copies."""
    max_grad_norm: float = 10.0
    """Gradients with a larger norm are scaled down to it."""
    standardise_reward: bool = False
    """Subtract the mean of all rewards seen at real steps and divide by their standard deviation."""
    hidden_size: int = 64
    """Units of the agents' encoder and GRU."""
    mixer_embed_size: int = 32
    """QMIX: units of the mixing layer."""
    mixer_hyper_size: int = 64
    """QMIX: hidden units of the networks that make the mixing weights."""
    last_action: bool = True
    """Let an agent see what it did at the step before."""
    agent_id: bool = True
    """Let an agent see which agent it is, as all share one network."""

    def __post_init__(self) -> None:
        for name, low, high in [("gamma", 0, 1), ("td_lambda", 0, 1), ("target_tau", 0, 1)]:
            if not low <= (given := getattr(self, name)) <= high:
                raise ValueError(f"{name}: given {given}, want {low} to {high}")
        sizes = "hidden_size", "mixer_embed_size", "mixer_hyper_size"
        for name in ("lr", "target_period", "max_grad_norm", *sizes):
            if not (given := getattr(self, name)) > 0:
                raise ValueError(f"{name}: given {given}, want more than 0")
        if self.target_update not in ("soft", "hard"):
            raise ValueError(f"target_update: given {self.target_update!r}, want 'soft' or 'hard'")


class QLearner(nn.Module):
    """Learns Q-values from batches of episodes.

    `loss` is a pure function of parameters, buffers and batch; `update` optimises; `agent` is what acts.
    """

    def __init__(self, mixing: Mixing, spec: EpisodeSpec, config: QLearningConfig) -> None:
        super().__init__()
        if mixing not in get_args(Mixing):
            raise ValueError(f"mixing: given {mixing!r}, want one of {', '.join(get_args(Mixing))}")
        self.spec, self.config = spec, config
        self.agent = RecurrentAgent(
            spec, hidden_size=config.hidden_size, last_action=config.last_action, agent_id=config.agent_id
        )
        self.mixer: VDNMixer | QMIXMixer | None = None
        if mixing == "vdn":
            self.mixer = VDNMixer()
        elif mixing == "qmix":
            embed_size, hyper_size = config.mixer_embed_size, config.mixer_hyper_size
            self.mixer = QMIXMixer(spec, embed_size=embed_size, hyper_size=hyper_size)
        self._online: list[Tensor] = list(self.parameters())
        self.target_agent, self.target_mixer = copy.deepcopy(self.agent), copy.deepcopy(self.mixer)
        self._target: list[Tensor] = list(self.target_agent.parameters())
        if self.target_mixer is not None:
            self._target += self.target_mixer.parameters()
        for parameter in self._target:
            parameter.requires_grad_(False)
        self.reward_moments = RunningMoments()
        self.optimiser = torch.optim.Adam(self._online, lr=config.lr, fused=True)
        self.updates = 0

    @property
    def device(self) -> torch.device:
        """Where the parameters are, and batches have to be."""
        return self._online[0].device

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """Named scalars: `loss` to minimise, and for the log, without gradient:

        `q_taken` the mean value of the actions taken, `target` the mean return that they should have,
        `td_error_abs` the mean absolute difference. All over real steps; for IQL over alive agents there.
        """
        steps, successors = batch.step_frames, batch.step_frames + 1
        alive, next_alive = batch.alive[steps], batch.alive[successors]
        with torch.no_grad():
            target_hidden = self.target_agent.unroll_hidden(batch)  # [F, N, H]
        hidden = self.agent.unroll_hidden(batch)
        q_taken = self.agent.value_of(hidden, batch.actions_taken)[steps]  # [S, N]
        with torch.no_grad():
            if self.config.double_q:
                best = self.agent.greedy(hidden, batch.avail_actions)  # [F, N]
            else:
                best = self.target_agent.greedy(target_hidden, batch.avail_actions)
            next_q = self.target_agent.value_of(target_hidden, best)[successors]  # [S, N]
        if self.mixer is None or self.target_mixer is None:
            counted, discount = alive, batch.agent_discount(self.config.gamma)
        else:
            # An agent that has left adds nothing to the team. From here on [S].
            counted, discount = None, batch.discount(self.config.gamma)
            q_taken = self.mixer(torch.where(alive, q_taken, 0.0), batch.state, steps)
            with torch.no_grad():
                next_q = self.target_mixer(torch.where(next_alive, next_q, 0.0), batch.state, successors)
        reward = self._reward(batch)
        if self.config.standardise_reward:
            reward = self.reward_moments.standardise(reward)
        target = lambda_return(reward, discount, next_q, batch.lengths, self.config.td_lambda)
        td_error = target - q_taken
        if counted is not None:
            td_error = torch.where(counted, td_error, 0.0)  # before it is squared: the slope of NaN is NaN
        return {
            "loss": mean(td_error.square(), counted),
            "q_taken": mean(q_taken.detach(), counted),
            "target": mean(target, counted),
            "td_error_abs": mean(td_error.detach().abs(), counted),
        }

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One optimiser step; `loss`'s scalars and `grad_norm`, the gradient's norm before clipping."""
        if self.config.standardise_reward:
            reward = self._reward(batch)
            self.reward_moments.add(reward[batch.alive[batch.step_frames]] if self.mixer is None else reward)
        metrics = self.loss(batch)
        gradients = torch.autograd.grad(metrics["loss"], self._online)
        metrics["loss"] = metrics["loss"].detach()
        metrics["grad_norm"] = clip_(gradients, self.config.max_grad_norm)
        for parameter, gradient in zip(self._online, gradients, strict=True):
            parameter.grad = gradient
        self.optimiser.step()
        self.updates += 1
        self._follow()
        return metrics

    def _reward(self, batch: EpisodeBatch) -> Float[Tensor, "S *N"]:
        """Each agent's reward where there is no mixer, else the team's: what those alive get together."""
        reward = batch.steps("reward")
        if self.mixer is not None:
            alive = batch.alive[batch.step_frames]
            return torch.where(alive, reward, 0.0).sum(-1) if self.spec.reward_per_agent else reward
        return reward if self.spec.reward_per_agent else reward[:, None].expand(-1, self.spec.n_agents)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the target network towards the online one."""
        if self.config.target_update == "soft":
            torch._foreach_lerp_(self._target, self._online, self.config.target_tau)
        elif self.updates % self.config.target_period == 0:
            torch._foreach_copy_(self._target, self._online)


class RunningMoments(nn.Module):
    """Mean and variance of everything seen so far (Chan et al. 1979, the parallel form)."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "mean", "squares"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def add(self, values: Tensor) -> None:
        """Take in all of `values`."""
        values = values.double()
        n, mean = values.numel(), values.mean()
        total = self.count + n
        delta = mean - self.mean
        self.squares += (values - mean).square().sum() + delta.square() * self.count * n / total
        self.mean += delta * n / total
        self.count.copy_(total)

    def standardise(self, values: Tensor) -> Tensor:
        """`values` less the mean, over the standard deviation; unchanged before anything was seen."""
        std = (self.squares / self.count.clamp(min=1)).sqrt().clamp(min=1e-6)
        scaled = ((values - self.mean) / std).to(values.dtype)
        return torch.where(self.count > 0, scaled, values)


class EpsilonGreedy:
    """Acts in K environments at once: each agent greedily, or at random with probability `epsilon`.

    It remembers hidden states and last actions; a row is forgotten where an episode starts.
    """

    def __init__(self, agent: RecurrentAgent, n_envs: int, generator: torch.Generator) -> None:
        self.agent, self.generator, self.epsilon = agent, generator, 0.0
        self.hidden = agent.initial_hidden(n_envs)
        self.last_actions = torch.full((n_envs, agent.n_agents), NO_ACTION, device=self.hidden.device)

    def act(
        self, obs: Float[Tensor, "K N ..."], avail_actions: Bool[Tensor, "K N A"], first: Bool[Tensor, " K"]
    ) -> Int[Tensor, "K N"]:
        """An action for each agent in each environment; `first` says where an episode starts."""
        device = self.hidden.device
        with torch.inference_mode():
            self._choose(obs.to(device), avail_actions.to(device), first.to(device))
        return self.last_actions.clone()  # with which a caller may do what it likes

    def _choose(
        self, obs: Float[Tensor, "K N ..."], avail_actions: Bool[Tensor, "K N A"], first: Bool[Tensor, " K"]
    ) -> None:
        """Write the actions into `last_actions`."""
        self.hidden.masked_fill_(first[:, None, None], 0.0)
        self.last_actions.masked_fill_(first[:, None], NO_ACTION)
        q, self.hidden = self.agent.step(obs, self.last_actions, self.hidden)
        actions = greedy(q, avail_actions)
        if self.epsilon > 0:
            # Random numbers come from the CPU, so that a seed means the same on every device.
            explore = torch.rand(actions.shape, generator=self.generator) < self.epsilon
            random_actions = random_legal(avail_actions.cpu(), self.generator)
            actions = torch.where(explore.to(actions.device), random_actions.to(actions.device), actions)
        self.last_actions.copy_(actions)


def random_legal(avail_actions: Bool[Tensor, "*rows A"], generator: torch.Generator) -> Int[Tensor, "*rows"]:
    """A legal action, each equally likely; on the CPU."""
    noise = torch.rand(avail_actions.shape, generator=generator)
    return torch.where(avail_actions, noise, -1.0).argmax(-1)


def mean(values: Float[Tensor, "S *N"], counted: Bool[Tensor, "S *N"] | None) -> Float[Tensor, ""]:
    """The mean of the values that count; None: of all."""
    return values.mean() if counted is None else torch.where(counted, values, 0.0).sum() / counted.sum()


@torch.no_grad()
def clip_(gradients: tuple[Tensor, ...], max_norm: float) -> Float[Tensor, ""]:
    """Scale all gradients down, if their norm is more than `max_norm`; the norm before that."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
