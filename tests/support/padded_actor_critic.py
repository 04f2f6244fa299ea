"""The padded losses of the usual kind for A2C and PPO: a loop over time, an exact mask, selection.

Plain on purpose: of the learners they share the parameters alone, no return, no distribution and no mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, distributions
from torch.nn import functional

from endmark.algorithms.actor_critic import Networks
from endmark.algorithms.actor_critic_settings import ActorCriticConfig
from endmark.algorithms.ppo import PPOConfig
from endmark.nets import (
    Actor,
    AttentionAgent,
    CentralCritic,
    FeedForwardAgent,
    GaussianHead,
    IndependentGaussianHeads,
    IndependentHeads,
)
from support.attention_naive import attention_naive
from support.padded_oracle import network_of, real_steps, unroll


class Padded(NamedTuple):
    """What both losses need, (B, T, ...). counted: of agents; value_counted: of values, N or one."""

    log_prob: Tensor
    entropy: Tensor
    value: Tensor
    advantage: Tensor
    value_target: Tensor
    counted: Tensor
    value_counted: Tensor


def padded_a2c_loss(networks: Networks, config: ActorCriticConfig, padded: Mapping[str, Tensor]) -> Tensor:
    """The loss of `A2CLearner` on the layout of `EpisodeBatch.to_padded`."""
    p = padded_terms(networks, config, padded)
    weight = (p.log_prob.detach() - padded["log_prob"][:, :-1]).exp().clamp(max=1)
    policy = -masked_mean(p.log_prob * weight * p.advantage, p.counted)
    value = 0.5 * masked_mean((p.value - p.value_target) ** 2, p.value_counted)
    return policy + value - config.entropy_coef * masked_mean(p.entropy, p.counted)


def padded_ppo_loss(
    networks: Networks,
    config: PPOConfig,
    padded: Mapping[str, Tensor],
    targets: Padded | None = None,
) -> Tensor:
    """The loss of `PPOLearner`. targets: of an earlier moment, whose advantages and old values count."""
    p = padded_terms(networks, config, padded)
    old = targets or p
    ratio = (p.log_prob - padded["log_prob"][:, :-1]).exp()
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
    policy = -masked_mean(torch.min(ratio * old.advantage, clipped * old.advantage), p.counted)
    error = (p.value - old.value_target) ** 2
    if config.value_clip is not None:
        old_value = old.value.detach()
        near = old_value + (p.value - old_value).clamp(-config.value_clip, config.value_clip)
        error = torch.max(error, (near - old.value_target) ** 2)
    value = 0.5 * masked_mean(error, p.value_counted)
    return policy + value - config.entropy_coef * masked_mean(p.entropy, p.counted)


def padded_terms(networks: Networks, config: ActorCriticConfig, padded: Mapping[str, Tensor]) -> Padded:
    """Everything by loops over rows and time; values and targets in the critic's normalised units."""
    obs, alive = padded["obs"], padded["alive"]
    head: Any = networks.actor._modules["head"]
    vectors = isinstance(head, GaussianHead | IndependentGaussianHeads)
    actions = padded["actions"] if vectors else padded["actions"][..., 0]
    n_rows, _, n_agents = actions.shape[:3]
    mask = real_steps(padded["filled"], padded["terminated"])  # (B, T)
    terminated = padded["terminated"][:, :-1, 0].bool()

    logits = unroll(means_of(networks.actor) if vectors else networks.actor, obs, actions)[:, :-1]
    log_prob, entropy = torch.zeros_like(logits[..., 0]), torch.zeros_like(logits[..., 0])
    for b, t, n in torch.cartesian_prod(*map(torch.arange, log_prob.shape)).tolist():
        if mask[b, t] and alive[b, t, n] and vectors:
            log_prob[b, t, n], entropy[b, t, n] = vector_terms(
                head, config, logits[b, t, n], actions[b, t, n], n
            )
        elif mask[b, t] and alive[b, t, n]:
            avail = padded["avail_actions"]
            legal = avail[b, t, n].nonzero()[:, 0]
            log_p = functional.log_softmax(logits[b, t, n, legal], -1)
            log_prob[b, t, n] = log_p[legal.tolist().index(int(actions[b, t, n]))]
            entropy[b, t, n] = -(log_p.exp() * log_p).sum()

    normalised = values(networks, obs, actions, alive, padded)  # (B, T+1, V)
    moments = networks.value_moments
    mean, std = (moments.mean, moments.std) if config.normalise_value else (0.0, 1.0)
    value = (normalised * std + mean).to(obs.dtype).detach()
    reward = padded["reward"]  # (B, T+1, 1) or (B, T+1, N)
    if config.reward == "team":
        reward = torch.where(alive, reward, 0.0).sum(-1, keepdim=True) if reward.shape[-1] > 1 else reward
    team = config.critic == "team"
    value_counted = mask[..., None] if team else mask[..., None] & alive[:, :-1]
    advantage = torch.zeros_like(value[:, :-1])
    for b in range(n_rows):
        for v in range(value.shape[2]):
            following: float | Tensor = 0.0
            for t in reversed(range(int(mask[b].sum()))):
                r = reward[b, t, v if reward.shape[-1] > 1 else 0]
                goes_on = not terminated[b, t] and (team or bool(alive[b, t + 1, v]))
                future = value[b, t + 1, v] if goes_on else 0.0
                delta = r + config.gamma * future - value[b, t, v]
                following = delta + (config.gamma * config.gae_lambda * following if goes_on else 0.0)
                advantage[b, t, v] = following
    value_target = ((advantage + value[:, :-1] - mean) / std).to(obs.dtype)
    if config.normalise_advantage:
        real = advantage[value_counted]
        advantage = (advantage - real.mean()) / (real.std(correction=0) + 1e-8)
    counted = mask[..., None] & alive[:, :-1]
    advantage = advantage.expand(-1, -1, n_agents)
    return Padded(log_prob, entropy, normalised[:, :-1], advantage, value_target, counted, value_counted)


def means_of(actor: Actor) -> Actor:
    """The actor of the means alone."""
    agent, head = actor.children()
    if isinstance(head, IndependentGaussianHeads):
        heads: list[Any] = [own.means for own in head.heads]
        return Actor(agent, IndependentHeads(heads, head.groups))
    assert isinstance(head, GaussianHead)
    return Actor(agent, head.means)


def head_of(head: Any, n: int) -> tuple[Any, int]:
    """The Gaussian head of agent n, and its place in it."""
    if isinstance(head, GaussianHead):
        return head, n
    at = network_of(head.groups)[n]
    return head.heads[at], head.groups[at].index(n)


def vector_terms(
    head: Any, config: ActorCriticConfig, mean: Tensor, action: Tensor, n: int
) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy of one agent's vector, number by number, by torch.distributions."""
    least, most = config.log_std_min, config.log_std_max
    head, n = head_of(head, n)
    log_std = (least + (most - least) * torch.sigmoid(head.log_std[0])).to(mean.dtype)
    log_prob, entropy = mean.new_zeros(()), mean.new_zeros(())
    for d in range(len(mean)):
        low, high = float(head.low[n, d]), float(head.high[n, d])
        if low == high:
            continue
        half, middle = (high - low) / 2, (high + low) / 2
        normal: Any = distributions.Normal(mean[d], log_std[d].exp())
        u = (action[d] - middle) / half
        if config.squash == "tanh":
            u = u.clamp(-1 + 1e-6, 1 - 1e-6)
            log_prob = log_prob + normal.log_prob(torch.atanh(u)) - torch.log((1 - u**2) * half)
            nodes, weights = np.polynomial.hermite.hermgauss(16)  # the physicists': exp(-x²)
            x = mean[d] + math.sqrt(2) * log_std[d].exp() * torch.from_numpy(nodes)
            slope = (torch.from_numpy(weights / math.sqrt(math.pi)) * torch.log(1 / torch.cosh(x) ** 2)).sum()
            entropy = entropy + normal.entropy() + slope + math.log(half)
        else:
            scale = normal.scale * math.sqrt(2)
            below, above = (0.5 * torch.erfc((1 + sign * normal.mean) / scale) for sign in (1, -1))
            if action[d] <= low:
                log_prob = log_prob + below.log()
            elif action[d] >= high:
                log_prob = log_prob + above.log()
            else:
                log_prob = log_prob + normal.log_prob(u) - math.log(half)
            grid = torch.linspace(-1, 1, 4001, dtype=mean.dtype)
            density = normal.log_prob(grid)
            inside = torch.trapezoid(-density.exp() * (density - math.log(half)), grid)
            ends = [share * share.log() for share in (below, above) if share > 0]
            entropy = entropy + inside - sum(ends)
    return log_prob, entropy


def values(
    networks: Networks, obs: Tensor, actions: Tensor, alive: Tensor, padded: Mapping[str, Tensor]
) -> Tensor:
    """The critic's outputs (B, T+1, V)."""
    critic: Any = networks.critic
    if not isinstance(critic, CentralCritic):
        return unroll(critic.actor, obs, actions)[..., 0]
    seen = obs.masked_fill(~alive.view(*alive.shape, *[1] * (obs.ndim - 3)), 0)
    state = padded.get("state", seen).flatten(2)
    trunk: Any = critic.trunk
    if isinstance(trunk, AttentionAgent):
        return torch.stack([critic.head(x) for x in attention_naive(trunk, list(state.unbind(1)))], 1)
    hidden, outputs = state.new_zeros(len(state), trunk.n_features), []
    for frame in state.unbind(1):
        x = functional.relu(trunk.encoder(frame))
        if isinstance(trunk, FeedForwardAgent):
            outputs.append(critic.head(functional.relu(trunk.hidden(x))))
        else:
            hidden = trunk.recurrence(x, hidden)
            outputs.append(critic.head(hidden))
    return torch.stack(outputs, 1)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    return x[mask.expand_as(x)].sum() / mask.sum()
