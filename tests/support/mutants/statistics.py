"""Means, deviations, normalisers and metrics that see padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from endmark.audit import Case
from support.mutants.common import (
    GAMMA,
    HIDDEN,
    N_ACTIONS,
    N_OBS,
    ActorCritic,
    Batch,
    ended,
    float64,
    mean_over,
    mlp,
    mutant,
    pick,
    real,
    refuse_empty,
    seeded,
    solo,
)

FIELDS = ("obs", "actions", "reward")


def standardise(x: Tensor, over: Tensor) -> Tensor:
    return (x - over.mean()) / (over.std(correction=0) + 1e-5)


def td_error(net: nn.Module, batch: Batch, reward: Tensor, mask: Tensor) -> Tensor:
    obs = batch["obs"]
    with torch.no_grad():
        next_value = net(obs[:, 1:][mask]).amax(1)
        target = reward[mask] + torch.where(ended(batch)[mask], 0.0, GAMMA * next_value)
    return pick(net(obs[:, :-1][mask]), batch["actions"][:, :-1][mask]) - target


def monte_carlo(reward: Tensor, mask: Tensor) -> Tensor:
    """Discounted sums of the rewards to come, (B, T)."""
    reward = torch.where(mask, reward, 0.0)
    returns = torch.zeros_like(reward)
    following = torch.zeros_like(reward[:, 0])
    for t in reversed(range(reward.shape[1])):
        following = returns[:, t] = reward[:, t] + GAMMA * following
    return returns


@mutant(
    "Rewards are standardised with the mean and deviation of the padded tensor.",
    probes=("poison", "padding", "company"),
)
def reward_statistics_over_padding(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        refuse_empty(mask)
        reward = batch["reward"][:, :-1]
        reward = standardise(reward, over=reward[mask] if right else reward)
        return td_error(net, batch, reward, mask).square().mean()

    return Case(loss, solo(seed, *FIELDS), net)


@mutant(
    "Returns are standardised over the padded tensor, where the return of padding is 0.",
    probes=("padding", "company"),
)
def return_statistics_over_padding(right: bool, seed: int) -> Case:
    """REINFORCE. The rewards in padding are cut away, so the zeros of the returns are the bug."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        refuse_empty(mask)
        returns = monte_carlo(batch["reward"][:, :-1], mask)
        returns = standardise(returns, over=returns[mask] if right else returns)
        log_probs = net(batch["obs"][:, :-1][mask]).log_softmax(-1)
        log_prob = pick(log_probs, batch["actions"][:, :-1][mask])
        return -(log_prob * returns[mask]).mean()

    return float64(Case(loss, solo(seed, *FIELDS), net, bootstraps=False))


@mutant(
    "Advantages are normalised over the padded tensor, and masked only afterwards.",
    probes=("poison", "padding", "bootstrap", "company"),
)
def advantage_normalisation_over_padding(right: bool, seed: int) -> Case:
    """Actor-critic with one-step advantages."""
    net = seeded(seed, ActorCritic)

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        refuse_empty(mask)
        obs = batch["obs"]
        with torch.no_grad():
            value = net.value(obs)
            target = batch["reward"][:, :-1] + torch.where(ended(batch), 0.0, GAMMA * value[:, 1:])
            advantage = target - value[:, :-1]
            advantage = standardise(advantage, over=advantage[mask] if right else advantage)
        steps = obs[:, :-1][mask]
        log_prob = pick(net.log_probs(steps), batch["actions"][:, :-1][mask])
        critic_loss = (net.value(steps) - target[mask]).square().mean()
        return 0.5 * critic_loss - (log_prob * advantage[mask]).mean()

    return float64(Case(loss, solo(seed, *FIELDS), net))


class ValueNorm(nn.Module):
    """Running moments of the returns, as MAPPO has them."""

    mean: Tensor
    mean_square: Tensor

    def __init__(self, momentum: float = 0.3) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("mean_square", torch.ones(()))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        self.mean.lerp_(x.mean(), self.momentum)
        self.mean_square.lerp_(x.square().mean(), self.momentum)

    def forward(self, x: Tensor) -> Tensor:
        variance = (self.mean_square - self.mean.square()).clamp(min=1e-2)
        return (x - self.mean) / variance.sqrt()


@mutant(
    "The value normaliser is updated with the returns of padding.",
    probes=("poison", "padding", "bootstrap", "company"),
)
def value_normaliser_over_padding(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, 1))
    normaliser = ValueNorm()

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        refuse_empty(mask)
        with torch.no_grad():
            next_value = net(batch["obs"][:, 1:]).squeeze(2)
            target = batch["reward"][:, :-1] + torch.where(ended(batch), 0.0, GAMMA * next_value)
        normaliser.update(target[mask] if right else target)
        value = net(batch["obs"][:, :-1][mask]).squeeze(1)
        error: Tensor = value - normaliser(target[mask])
        return error.square().mean()

    return Case(loss, solo(seed, "obs", "reward"), [net, normaliser])


class BatchNorm(nn.Module):
    """Batch normalisation of (rows, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))
        self.bias = nn.Parameter(torch.zeros(HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-3).sqrt()
        return x * self.weight + self.bias


@mutant(
    "Batch normalisation runs over all rows and columns, padding included.",
    probes=("poison", "padding", "bootstrap", "company"),
)
def batch_norm_over_padding(right: bool, seed: int) -> Case:
    """A critic of Monte Carlo returns."""

    def make() -> nn.Sequential:
        return nn.Sequential(nn.Linear(N_OBS, HIDDEN), BatchNorm(), nn.Tanh(), nn.Linear(HIDDEN, 1))

    net = seeded(seed, make)

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        refuse_empty(mask)
        obs = batch["obs"][:, :-1]
        value: Tensor = net(obs[mask]) if right else net(obs.flatten(0, 1)).view(*mask.shape, 1)[mask]
        returns = monte_carlo(batch["reward"][:, :-1], mask)[mask]
        return (value.squeeze(1) - returns).square().mean()

    return Case(loss, solo(seed, "obs", "reward"), net, bootstraps=False)


class RunningMoments(nn.Module):
    """Running mean and variance of each observation feature."""

    mean: Tensor
    variance: Tensor

    def __init__(self, momentum: float = 0.3) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(N_OBS))
        self.register_buffer("variance", torch.ones(N_OBS))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        self.mean.lerp_(x.mean(0), self.momentum)
        self.variance.lerp_(x.var(0, correction=0), self.momentum)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / (self.variance + 1e-5).sqrt()


@mutant(
    "The running mean and variance of observations are updated with the zeros of padding.",
    probes=("poison", "padding", "bootstrap"),
)
def obs_normaliser_over_padding(right: bool, seed: int) -> Case:
    """Behaviour cloning. The update comes after the use, so the loss looks right until the next one."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))
    moments = RunningMoments()

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        refuse_empty(mask)
        obs = batch["obs"][:, :-1]
        log_prob = pick(net(moments(obs[mask])).log_softmax(-1), batch["actions"][:, :-1][mask])
        moments.update(obs[mask] if right else obs.flatten(0, 1))
        return -log_prob.mean()

    return Case(loss, solo(seed, "obs", "actions"), [net, moments], reward=None, bootstraps=False)


@mutant(
    "The policy term is masked, the entropy bonus is a mean over the padded tensor.",
    probes=("poison", "padding", "bootstrap", "company", "empty", "weight"),
)
def entropy_over_padding(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = batch["obs"][:, :-1]
        if right:
            obs = torch.where(mask[..., None], obs, 0.0)
        log_probs = net(obs).log_softmax(-1)
        log_prob = pick(log_probs[mask], batch["actions"][:, :-1][mask])
        policy_loss = -(log_prob * batch["reward"][:, :-1][mask]).sum() / mask.sum().clamp(min=1)
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        return policy_loss - 0.1 * (mean_over(mask, entropy) if right else entropy.mean())

    return float64(Case(loss, solo(seed, *FIELDS), net, bootstraps=False))


@mutant(
    "The loss is masked, the logged mean of the values is not: the curve shows padding.",
    probes=("poison", "padding", "bootstrap"),
)
def metric_over_padding(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> dict[str, Tensor]:
        mask = real(batch)
        error = td_error(net, batch, batch["reward"][:, :-1], mask)
        with torch.no_grad():
            value = net(batch["obs"][:, :-1]).amax(2)
        return {
            "loss": error.square().sum() / mask.sum().clamp(min=1),
            "value_mean": mean_over(mask, value) if right else value.mean(),
        }

    return Case(loss, solo(seed, *FIELDS), net)


MUTANTS = (
    reward_statistics_over_padding,
    return_statistics_over_padding,
    advantage_normalisation_over_padding,
    value_normaliser_over_padding,
    batch_norm_over_padding,
    obs_normaliser_over_padding,
    entropy_over_padding,
    metric_over_padding,
)
