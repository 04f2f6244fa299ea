"""The padded loss of the usual kind: what PyMARL's descendants compute, with the exact mask.

Padded tensors (B, T+1, ...), a Python loop over time with `GRUCell`, mixers by `bmm`, returns by a backward
loop, the mask applied by selection. Plain on purpose; it shares no code with the learner but the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from endmark.algorithms import QLearner
from endmark.nets import (
    Actor,
    AttentionAgent,
    FeedForwardAgent,
    IndependentAgents,
    IndependentHeads,
    QMIXMixer,
)
from support.attention_naive import attention_naive


def padded_loss(learner: QLearner, padded: Mapping[str, Tensor]) -> Tensor:
    """The loss of `learner` on the padded layout of `EpisodeBatch.to_padded`."""
    config = learner.config
    mixing = mixing_of(learner)
    obs, avail = padded["obs"], padded["avail_actions"]
    actions = padded["actions"][..., 0]  # (B, T+1, N)
    alive = padded["alive"]
    n_rows, n_columns, n_agents = actions.shape
    mask = real_steps(padded["filled"], padded["terminated"])  # (B, T)

    mac_out = unroll(cast(Actor, learner.online["actor"]), obs, actions)  # (B, T+1, N, A)
    chosen = torch.gather(mac_out[:, :-1], 3, actions[:, :-1, :, None]).squeeze(3)
    with torch.no_grad():
        target_out = unroll(cast(Actor, learner.target["actor"]), obs, actions)
        ranked = (mac_out if config.double_q else target_out).detach().clone()
        ranked[~avail] = -9999999
        best = ranked.max(dim=3, keepdim=True)[1]
        target_max = torch.gather(target_out, 3, best).squeeze(3)[:, 1:]

    reward = padded["reward"]  # (B, T+1, 1), or (B, T+1, N) one an agent
    terminated = padded["terminated"][:, :-1, 0].bool()
    if mixing == "iql":
        reward = reward[:, :-1].expand(-1, -1, n_agents)
        goes_on = ~terminated[..., None] & alive[:, 1:]
        counted = mask[..., None] & alive[:, :-1]
    else:
        if reward.shape[-1] > 1:  # one an agent: those that have left get nothing
            reward = torch.where(alive, reward, 0.0)
        reward = reward[:, :-1].sum(-1, keepdim=True)
        goes_on, counted = ~terminated[..., None], mask[..., None]
        # An agent that has left is worth nothing to the team.
        chosen = torch.where(alive[:, :-1], chosen, 0.0)
        target_max = torch.where(alive[:, 1:], target_max, 0.0)
        seen = obs.masked_fill(~alive.view(*alive.shape, *[1] * (obs.ndim - 3)), 0)
        state = padded.get("state", seen)
        state = state.reshape(n_rows, n_columns, -1)
        if mixing == "vdn":
            chosen = chosen.sum(dim=2, keepdim=True)
            target_max = target_max.sum(dim=2, keepdim=True)
        else:
            chosen = qmix(cast(QMIXMixer, learner.online["mixer"]), chosen, state[:, :-1])
            with torch.no_grad():
                target_max = qmix(cast(QMIXMixer, learner.target["mixer"]), target_max, state[:, 1:])

    moments = learner.reward_moments
    variance = moments.squares / moments.count.clamp(min=1)
    if config.normalise_reward == "standardise" and moments.count > 0:
        reward = ((reward - moments.mean) / variance.sqrt()).to(chosen.dtype)
    elif config.normalise_reward == "scale" and moments.count > 0:
        reward = (reward / (variance + moments.mean**2).sqrt()).to(chosen.dtype)
    targets = lambda_returns(reward, target_max, goes_on, mask, config.gamma, config.td_lambda)
    td_error = chosen - targets.detach()
    masked = torch.where(counted, td_error, torch.zeros_like(td_error))
    return (masked**2).sum() / counted.sum()


def mixing_of(learner: QLearner) -> Literal["iql", "vdn", "qmix"]:
    """Which of the three the learner is, by what it holds."""
    if "mixer" not in learner.online:
        return "iql"
    return "qmix" if isinstance(learner.online["mixer"], QMIXMixer) else "vdn"


def unroll(actor: Actor, obs: Tensor, actions: Tensor) -> Tensor:
    """Outputs (B, T+1, N, A): one frame after the other over all rows, padding included."""
    features = unroll_features(actor, obs, actions)
    if isinstance(actor.head, IndependentHeads):
        heads: Any = [actor.head.heads[i] for i in network_of(actor.head.groups)]
        return torch.stack([head.linear(features[:, :, n]) for n, head in enumerate(heads)], dim=2)
    head: Any = actor.head
    return cast(Tensor, head.linear(features))


def network_of(groups: Sequence[Sequence[int]]) -> list[int]:
    """Which network each agent has."""
    return [next(i for i, group in enumerate(groups) if n in group) for n in range(sum(map(len, groups)))]


def unroll_features(actor: Actor, obs: Tensor, actions: Tensor) -> Tensor:
    """What the heads read, (B, T+1, N, H)."""
    if isinstance(actor.agent, IndependentAgents):
        groups = actor.agent.groups
        own = [
            unroll_features(Actor(agent, nn.Identity()), obs[:, :, group], actions[:, :, group])
            for agent, group in zip(actor.agent.agents, map(list, groups), strict=True)
        ]
        places = [(i, groups[i].index(n)) for n, i in enumerate(network_of(groups))]
        return torch.stack([own[i][:, :, place] for i, place in places], dim=2)
    agent: Any = actor.agent
    n_rows, n_columns, n_agents = actions.shape[:3]
    inputs_of = agent.inputs
    if actions.is_floating_point():  # vectors, which join the inputs as they are
        onehot = actions.to(obs.dtype)
    else:
        onehot = functional.one_hot(actions, inputs_of.n_actions).to(obs.dtype)
    hidden = obs.new_zeros(n_rows * n_agents, agent.n_features)
    outputs, flats = [], []
    for t in range(n_columns):
        inputs = [obs[:, t].reshape(n_rows, n_agents, -1)]
        if inputs_of.last_action:
            inputs.append(torch.zeros_like(onehot[:, t]) if t == 0 else onehot[:, t - 1])
        if inputs_of.agent_id:
            inputs.append(torch.eye(n_agents, dtype=obs.dtype).unsqueeze(0).expand(n_rows, -1, -1))
        flat = torch.cat([i.reshape(n_rows * n_agents, -1) for i in inputs], dim=1)
        flats.append(flat)
        x = functional.relu(agent.encoder(flat))
        if isinstance(agent, AttentionAgent):
            continue
        if isinstance(agent, FeedForwardAgent):
            features = functional.relu(agent.hidden(x))
        else:
            features = hidden = agent.recurrence(x, hidden)
        outputs.append(features.view(n_rows, n_agents, -1))
    if isinstance(agent, AttentionAgent):
        outputs = [frame.view(n_rows, n_agents, -1) for frame in attention_naive(agent, flats)]
    return torch.stack(outputs, dim=1)


def qmix(mixer: QMIXMixer, agent_qs: Tensor, states: Tensor) -> Tensor:
    """Q_tot (B, T, 1) the way PyMARL mixes: everything flattened to (B*T, ...), then `bmm`."""
    n_rows, n_agents = agent_qs.size(0), agent_qs.size(2)
    states = states.reshape(-1, states.size(-1))
    agent_qs = agent_qs.reshape(-1, 1, n_agents)
    w1 = torch.abs(mixer.weight_1(states)).view(-1, n_agents, mixer.embed_size)
    b1 = mixer.bias_1(states).view(-1, 1, mixer.embed_size)
    hidden = functional.elu(torch.bmm(agent_qs, w1) + b1)
    w_final = torch.abs(mixer.weight_2(states)).view(-1, mixer.embed_size, 1)
    v = mixer.bias_2(states).view(-1, 1, 1)
    q_tot: Tensor = torch.bmm(hidden, w_final) + v
    return q_tot.view(n_rows, -1, 1)


def real_steps(filled: Tensor, terminated: Tensor) -> Tensor:
    """The exact mask (B, T), step by step as its definition reads."""
    n_rows, n_columns = filled.shape[:2]
    mask = torch.zeros(n_rows, n_columns - 1, dtype=torch.bool)
    for b in range(n_rows):
        for t in range(n_columns - 1):
            over = any(terminated[b, s, 0] for s in range(t))
            seen = all(filled[b, s, 0] for s in range(t + 1))
            mask[b, t] = bool(not over and seen and (filled[b, t + 1, 0] or terminated[b, t, 0]))
    return mask


def lambda_returns(
    reward: Tensor, next_value: Tensor, goes_on: Tensor, mask: Tensor, gamma: float, td_lambda: float
) -> Tensor:
    """Targets (B, T, M) by a loop from each row's last real step backwards; zeros elsewhere.

    goes_on: (B, T, M), False where the step ended the MDP or was that agent's last.
    """
    targets = torch.zeros_like(next_value)
    for b in range(len(mask)):
        length = int(mask[b].sum())
        for m in range(next_value.shape[2]):
            following: Tensor | None = None
            for t in reversed(range(length)):
                future = next_value[b, t, m]  # a truncated end bootstraps from its final frame alone
                if following is not None:
                    future = (1 - td_lambda) * future + td_lambda * following
                following = reward[b, t, m] + gamma * future if goes_on[b, t, m] else reward[b, t, m]
                targets[b, t, m] = following
    return targets


def perturb(networks: nn.Module, generator: torch.Generator) -> None:
    """Move every parameter, the target network's too, so that no two are alike and no bias is small."""
    parameters: list[nn.Parameter] = list(networks.parameters())
    with torch.no_grad():
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_((0.3 * noise).to(parameter.dtype))
