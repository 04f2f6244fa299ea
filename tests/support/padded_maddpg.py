"""The padded loss of MADDPG: a loop over rows, time and agents, an exact mask, selection.

Of the learner it shares the parameters and the table of noise, and no other code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from endmark.algorithms import MADDPGLearner
from endmark.nets import Actor
from support.padded_oracle import lambda_returns, real_steps, unroll


def padded_maddpg_loss(learner: MADDPGLearner, padded: Mapping[str, Tensor], learns: Tensor) -> Tensor:
    """The loss on the layout of `EpisodeBatch.to_padded`. learns: [B, N], whose seats are the learner's."""
    config, spec = learner.config, learner.spec
    vectors = spec.bounds is not None
    obs, alive = padded["obs"], padded["alive"]
    actions = padded["actions"] if vectors else padded["actions"][..., 0]
    n_rows, n_columns, n = actions.shape[:3]
    mask = real_steps(padded["filled"], padded["terminated"])
    lengths = mask.sum(1).tolist()
    terminated = padded["terminated"][:, :-1, 0].bool()
    state = padded.get("state", torch.where(alive[..., None], obs, 0.0).flatten(2))
    outputs = unroll(cast(Actor, learner.online["actor"]), obs, actions)
    with torch.no_grad():
        target_outputs = unroll(cast(Actor, learner.target["actor"]), obs, actions)

    done = torch.zeros(n_rows, n_columns, n, learner.kind.size, dtype=obs.dtype)
    for b in range(n_rows):
        for t in range(lengths[b]):
            for i in range(n):
                if alive[b, t, i]:
                    done[b, t, i] = coded(learner, actions[b, t, i], i)
    noise = table(learner).to(obs.dtype)

    def act(which: Tensor, b: int, t: int, i: int, *, drawn: bool) -> Tensor:
        """What the actor of these outputs does."""
        out = which[b, t, i]
        if vectors:
            assert spec.bounds is not None
            fixed = torch.tensor(spec.bounds.low[i]) == torch.tensor(spec.bounds.high[i])
            return torch.where(fixed, 0.0, torch.tanh(out))
        legal = padded["avail_actions"][b, t, i]
        legal = legal if legal.any() else torch.ones_like(legal)
        logits = out.masked_fill(~legal, -float("inf"))
        if not drawn:
            return functional.one_hot(logits.argmax(), len(out)).to(out.dtype)
        gumbel = -torch.log(-torch.log(noise[t, i].float().clamp(1e-20, 1 - 1e-7))).to(out.dtype)
        soft = torch.softmax((logits + gumbel) / config.temperature, 0)
        hard = functional.one_hot(soft.argmax(), len(out)).to(out.dtype)
        return hard + soft - soft.detach()

    pairs = [
        (b, t, i)
        for b in range(n_rows)
        for t in range(lengths[b])
        for i in range(n)
        if alive[b, t, i] and learns[b, i]
    ]
    next_q = torch.zeros(n_rows, n_columns - 1, n, dtype=obs.dtype)
    reward, goes_on = torch.zeros_like(next_q), torch.zeros_like(next_q, dtype=torch.bool)
    with torch.no_grad():
        for b, t, i in pairs:
            joint = []
            for j in range(n):
                here = alive[b, t + 1, j]
                mine = here and learns[b, j]
                joint.append(act(target_outputs, b, t + 1, j, drawn=False) if mine else done[b, t + 1, j])
            next_q[b, t, i] = value(learner.target["critic"], state[b, t + 1], torch.stack(joint), i)
            goes_on[b, t, i] = not terminated[b, t] and alive[b, t + 1, i]
            given = padded["reward"][b, t]
            if config.reward == "team" and len(given) > 1:
                reward[b, t, i] = sum(given[j] for j in range(n) if alive[b, t, j] and learns[b, j])
            else:
                reward[b, t, i] = given[i if len(given) > 1 else 0]
    targets = lambda_returns(reward, next_q, goes_on, mask, config.gamma, config.td_lambda)

    frozen = {name: parameter.detach() for name, parameter in learner.online["critic"].named_parameters()}
    total = obs.new_zeros(())
    for b, t, i in pairs:
        q = value(learner.online["critic"], state[b, t], done[b, t], i)
        would = done[b, t].clone()
        would[i] = act(outputs, b, t, i, drawn=True)
        improved = value(frozen, state[b, t], would, i)
        penalty = config.output_penalty * outputs[b, t, i].square().mean()
        total = total + (targets[b, t, i] - q) ** 2 - improved + penalty
    return total / len(pairs)


def coded(learner: MADDPGLearner, action: Tensor, agent: int) -> Tensor:
    """One-hot, or in units of the bounds."""
    bounds = learner.spec.bounds
    if bounds is None:
        return functional.one_hot(action, learner.kind.size).double()
    units = []
    for x, low, high in zip(action.tolist(), bounds.low[agent], bounds.high[agent], strict=True):
        units.append(0.0 if low == high else (2 * x - high - low) / (high - low))
    return torch.tensor(units, dtype=torch.float64)


def value(critic: Any, state: Tensor, actions: Tensor, agent: int) -> Tensor:
    """Q of one agent, from a critic or from its parameters."""
    named = dict(critic.named_parameters()) if isinstance(critic, nn.Module) else critic
    who = functional.one_hot(torch.tensor(agent), len(actions)).to(state.dtype)
    x = torch.cat([state, actions.flatten(), who])
    for layer in ("first", "second"):
        x = functional.relu(named[f"{layer}.weight"] @ x + named[f"{layer}.bias"])
    return (named["out.weight"] @ x + named["out.bias"])[0]


def table(learner: MADDPGLearner) -> Tensor:
    """The uniform noise of this update, [limit, N, B]."""
    generator = torch.Generator().manual_seed((learner._seed + learner.updates) % 2**63)
    spec = learner.spec
    return torch.rand((spec.episode_limit, spec.n_agents, learner.kind.size), generator=generator)
