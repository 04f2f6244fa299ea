"""Padded losses of QPLEX, weighted QMIX, QTRAN and QATTEN, with loops over rows, columns and agents.

Each follows its paper's equations from one frame to the next. They share no code with the learners but the
parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from endmark.algorithms import (
    OWQMIXConfig,
    QattenLearner,
    QPLEXLearner,
    QTRANLearner,
    ValueLearner,
    WQMIXLearner,
)
from support.padded_oracle import lambda_returns, qmix, real_steps, unroll, unroll_features


class Padded:
    """The padded layout, frame by frame."""

    def __init__(self, learner: ValueLearner, padded: Mapping[str, Tensor]) -> None:
        self.obs, self.avail, self.actions = padded["obs"], padded["avail_actions"], padded["actions"][..., 0]
        self.n_rows, self.n_columns, self.n_agents = self.actions.shape
        self.n_actions = learner.spec.n_actions
        self.here = padded["alive"].clone()
        if "learns" in padded:
            self.here &= padded["learns"][:, :1]
        alive = padded["alive"].view(*self.here.shape, *[1] * (self.obs.ndim - 3))
        seen = self.obs.masked_fill(~alive, 0)
        self.state = padded.get("state", seen).reshape(self.n_rows, self.n_columns, -1)
        self.mask = real_steps(padded["filled"], padded["terminated"])
        self.goes_on = ~padded["terminated"][:, :-1, 0].bool()[..., None]
        reward = padded["reward"]
        if reward.shape[-1] > 1:
            reward = torch.where(self.here, reward, 0.0)
        self.reward = reward[:, :-1].sum(-1, keepdim=True)
        self.online: Any = learner.online
        self.target: Any = learner.target
        self.config: Any = learner.config  # type: ignore[attr-defined]
        self.q = unroll(learner.actor, self.obs, self.actions)
        self.target_q = unroll(learner.target_actor, self.obs, self.actions).detach()

    def agents(self, b: int, t: int) -> list[int]:
        """Those that count at a frame."""
        return [n for n in range(self.n_agents) if self.here[b, t, n]]

    def greedy(self, q: Tensor, b: int, t: int) -> list[int]:
        """Each agent's best legal action by these values (B, T+1, N, A)."""
        actions = []
        for n in range(self.n_agents):
            legal = [a for a in range(self.n_actions) if self.avail[b, t, n, a]]
            values = q[b, t, n].detach().tolist()
            actions.append(max(legal, key=values.__getitem__) if legal else 0)
        return actions

    def best(self, b: int, t: int) -> list[int]:
        """By the network that chooses the target's actions."""
        return self.greedy(self.q if self.config.double_q else self.target_q, b, t)

    def targets(self, value_at: Callable[[int, int], Tensor]) -> Tensor:
        """(B, T), from the target's value of each frame."""
        next_value = torch.zeros_like(self.reward)
        with torch.no_grad():
            for b, t in self.steps():
                next_value[b, t] = value_at(b, t + 1)
        config = self.config
        if config.td_n is None:
            args = self.reward, next_value, self.goes_on, self.mask, config.gamma, config.td_lambda
            return lambda_returns(*args)[..., 0]
        targets = torch.zeros_like(next_value)
        for b, t in self.steps():
            end = min(t + config.td_n, int(self.mask[b].sum()))
            for k in range(t, end):
                targets[b, t] += config.gamma ** (k - t) * self.reward[b, k]
            if self.goes_on[b, end - 1]:
                targets[b, t] += config.gamma ** (end - t) * next_value[b, end - 1]
        return targets[..., 0]

    def steps(self) -> Sequence[tuple[int, int]]:
        return [(b, t) for b in range(self.n_rows) for t in range(self.n_columns - 1) if self.mask[b, t]]

    def mean(self, terms: list[Tensor]) -> Tensor:
        return torch.stack(terms).sum() / len(self.steps())


def padded_value_loss(learner: ValueLearner, padded: Mapping[str, Tensor]) -> Tensor:
    """The loss of one of these learners on the padded layout of `EpisodeBatch.to_padded`."""
    layout = Padded(learner, padded)
    if isinstance(learner, QPLEXLearner):
        return _qplex(layout)
    if isinstance(learner, WQMIXLearner):
        return _wqmix(layout)
    if isinstance(learner, QTRANLearner):
        return _qtran(layout)
    assert isinstance(learner, QattenLearner)
    return _qatten(layout)


def _qplex(p: Padded) -> Tensor:
    def total(mixer: Any, q: Tensor, actions: Sequence[int], b: int, t: int) -> Tensor:
        state = p.state[b, t]
        one_hot = torch.zeros(p.n_agents, p.n_actions, dtype=state.dtype)
        for n in p.agents(b, t):
            one_hot[n, actions[n]] = 1
        scale, shift = mixer.scale(state).abs() + 1e-10, mixer.shift(state)
        heads = mixer.head(state).abs() + 1e-10
        by_state = torch.sigmoid(mixer.agent(state)).view(mixer.heads, p.n_agents)
        by_both = torch.sigmoid(mixer.joint(torch.cat([state, one_hot.flatten()]))).view(by_state.shape)
        value = state.new_zeros(())
        largest = p.greedy(q, b, t)
        for n in p.agents(b, t):
            importance = sum(heads[k] * by_state[k, n] * by_both[k, n] for k in range(mixer.heads))
            q_n, v_n = q[b, t, n, actions[n]], q[b, t, n, largest[n]]
            advantage = (scale[n] * (q_n - v_n)).detach()
            value = value + scale[n] * q_n + shift[n] + (importance - 1) * advantage
        return value

    target = p.targets(lambda b, t: total(p.target["mixer"], p.target_q, p.best(b, t), b, t))
    errors = [
        target[b, t] - total(p.online["mixer"], p.q, p.actions[b, t].tolist(), b, t) for b, t in p.steps()
    ]
    return p.mean([error**2 for error in errors])


def _qatten(p: Padded) -> Tensor:
    def total(mixer: Any, q: Tensor, actions: Sequence[int], b: int, t: int) -> Tensor:
        state, numbers = p.state[b, t], torch.eye(p.n_agents, dtype=p.obs.dtype)
        query = mixer.query(state).view(mixer.heads, -1)
        weight, value = mixer.weight(state).abs(), mixer.bias(state)[0]
        if not p.agents(b, t):
            return torch.as_tensor(value)
        for k in range(mixer.heads):
            scores = []
            for n in p.agents(b, t):
                key = mixer.key.weight @ torch.cat([p.obs[b, t, n].flatten(), numbers[n]])
                scores.append(query[k] @ key.view(mixer.heads, -1)[k] / math.sqrt(query.shape[1]))
            attention = torch.softmax(torch.stack(scores), 0)
            for i, n in enumerate(p.agents(b, t)):
                value = value + weight[k] * attention[i] * q[b, t, n, actions[n]]
        return torch.as_tensor(value)

    target = p.targets(lambda b, t: total(p.target["mixer"], p.target_q, p.best(b, t), b, t))
    errors = [
        target[b, t] - total(p.online["mixer"], p.q, p.actions[b, t].tolist(), b, t) for b, t in p.steps()
    ]
    return p.mean([error**2 for error in errors])


def _wqmix(p: Padded) -> Tensor:
    star_q = unroll(p.online["central_actor"], p.obs, p.actions)
    slow_q = unroll(p.target["central_actor"], p.obs, p.actions).detach()

    def own(q: Tensor, actions: Sequence[int], b: int, t: int) -> Tensor:
        here = p.agents(b, t)
        nothing = q.new_zeros(())
        return torch.stack([q[b, t, n, actions[n]] if n in here else nothing for n in range(p.n_agents)])

    def star(mixer: Any, q: Tensor, actions: Sequence[int], b: int, t: int) -> Tensor:
        state = p.state[b, t]
        inputs = torch.cat([state, own(q, actions, b, t)])
        return torch.as_tensor((mixer.mix(inputs) + mixer.value(state))[0])

    def slow_star(b: int, t: int) -> Tensor:
        return star(p.target["central_mixer"], slow_q, p.best(b, t), b, t)

    target = p.targets(slow_star)
    terms = []
    for b, t in p.steps():
        actions, y = p.actions[b, t].tolist(), target[b, t]
        values = own(p.q, actions, b, t).view(1, 1, -1)
        taken = qmix(p.online["mixer"], values, p.state[b, t].view(1, 1, -1))[0, 0, 0]
        if isinstance(p.config, OWQMIXConfig):
            favoured = bool(y > taken)
        else:
            greedy = all(actions[n] == p.best(b, t)[n] for n in p.agents(b, t))
            favoured = greedy or bool(y > slow_star(b, t).detach())
        weight = 1.0 if favoured else p.config.alpha
        central_error = y - star(p.online["central_mixer"], star_q, actions, b, t)
        terms.append(weight * (y - taken) ** 2 + central_error**2)
    return p.mean(terms)


def _qtran(p: Padded) -> Tensor:
    features = unroll_features(p.online["actor"], p.obs, p.actions)
    slow = unroll_features(p.target["actor"], p.obs, p.actions).detach()

    def joint(networks: Any, of: Tensor, actions: Sequence[int], b: int, t: int) -> Tensor:
        summed = of.new_zeros(networks.second.out_features)
        for n in p.agents(b, t):
            one_hot = functional.one_hot(torch.tensor(actions[n]), p.n_actions).to(of.dtype)
            hidden = torch.relu(networks.first(torch.cat([of[b, t, n], one_hot])))
            summed = summed + networks.second(hidden)
        return torch.as_tensor(networks.joint(torch.cat([p.state[b, t], summed]))[0])

    def agents_sum(actions: Sequence[int], b: int, t: int) -> Tensor:
        return sum((p.q[b, t, n, actions[n]] for n in p.agents(b, t)), p.q.new_zeros(()))

    target = p.targets(lambda b, t: joint(p.target["joint"], slow, p.best(b, t), b, t))
    terms = []
    for b, t in p.steps():
        actions, greedy = p.actions[b, t].tolist(), p.greedy(p.q, b, t)
        taken = joint(p.online["joint"], features, actions, b, t)
        best = joint(p.online["joint"], features, greedy, b, t).detach()
        baseline = p.online["joint"].value(p.state[b, t])[0]
        at_best = agents_sum(greedy, b, t) - best + baseline
        at_taken = agents_sum(actions, b, t) - taken.detach() + baseline
        short = torch.minimum(at_taken, at_taken.new_zeros(()))
        td_error = target[b, t] - taken
        terms.append(td_error**2 + p.config.opt_coef * at_best**2 + p.config.nopt_coef * short**2)
    return p.mean(terms)
