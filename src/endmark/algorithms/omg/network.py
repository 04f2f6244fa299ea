"""The networks of a learner that models its partners: what acts, a critic, and heads that read a code."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from endmark.algorithms.omg.models import Belief, Model
from endmark.algorithms.omg.view import View
from endmark.episodes.ragged import TimeMajor
from endmark.nets import AGENTS, AgentKind, AttentionOptions, Inputs, Memory


class GoalHead(nn.Module):
    """A value for each action from features and a code. Duelling (Wang et al. 2016, arXiv:1511.06581).

    The code enters here, after the recurrence: so one unroll serves every candidate. It is projected to as
    many numbers as there are features, since a few would drown beside them.
    """

    def __init__(self, n_features: int, code_size: int, n_outputs: int, *, duelling: bool) -> None:
        super().__init__()
        self.code = nn.Linear(code_size, n_features)
        self.hidden = nn.Linear(2 * n_features, n_features)
        self.out = nn.Linear(n_features, n_outputs)
        self.value = nn.Linear(n_features, 1) if duelling else None

    def forward(self, features: Float[Tensor, "*R H"], code: Float[Tensor, "*R D"]) -> Float[Tensor, "*R A"]:
        """Every output."""
        x = self.hidden(torch.cat([features, self.code(code)], -1)).relu()
        out: Tensor = self.out(x)
        if self.value is None:
            return out
        value: Tensor = self.value(x)
        return value + out - out.mean(-1, keepdim=True)


class ModellingActor(nn.Module):
    """What acts: an agent over the learner's own history, a model of the partners, a head that reads both."""

    def __init__(
        self,
        model: Model,
        *,
        kind: AgentKind,
        attention: AttentionOptions,
        obs_size: int,
        n_actions: int,
        n_outputs: int,
        hidden_size: int,
        last_action: bool,
        duelling: bool,
    ) -> None:
        inputs = Inputs((obs_size,), 1, n_actions, last_action=last_action, agent_id=False)
        super().__init__()
        self.agent = AGENTS[kind](inputs, hidden_size, attention)
        self.head = GoalHead(self.agent.n_features, model.code_size, n_outputs, duelling=duelling)
        self.model = model

    def unroll(self, view: View, packing: TimeMajor) -> Float[Tensor, "F H"]:
        """The agent's features at all frames of whole episodes; the model's beliefs are apart."""
        return self.agent.unroll(view.obs[:, None], view.own_last[:, None], packing)[:, 0]

    def start(self, n_rows: int) -> Memory:
        """The memories of agent and model."""
        return _joined(self.agent.start(n_rows), self.model.start(n_rows))

    def advance(self, view: View, memory: Memory) -> tuple[Float[Tensor, "K H"], Belief, Memory]:
        """Features and belief at one frame of K episodes, and the memory for the next."""
        own = {name: memory[f"agent.{name}"] for name in self.agent.start(0)}
        models = {name: memory[f"model.{name}"] for name in self.model.start(0)}
        features, own_after = self.agent.advance(view.obs[:, None], view.own_last[:, None], own)
        belief, models_after = self.model.step(view, models)
        return features[:, 0], belief, _joined(own_after, models_after)


def _joined(agent: Memory, model: Memory) -> dict[str, Tensor]:
    own = {f"agent.{name}": tensor for name, tensor in agent.items()}
    return own | {f"model.{name}": tensor for name, tensor in model.items()}


class ModellingCritic(nn.Module):
    """The value of what has been seen so far, under a code of the partners: V(s, g)."""

    def __init__(
        self,
        code_size: int,
        *,
        kind: AgentKind,
        attention: AttentionOptions,
        n_inputs: int,
        n_actions: int,
        hidden_size: int,
        last_action: bool,
    ) -> None:
        inputs = Inputs((n_inputs,), 1, n_actions, last_action=last_action, agent_id=False)
        super().__init__()
        self.trunk = AGENTS[kind](inputs, hidden_size, attention)
        self.head = GoalHead(self.trunk.n_features, code_size, 1, duelling=False)

    def unroll(
        self, seen: Float[Tensor, "F I"], own_last: Int[Tensor, " F"], packing: TimeMajor
    ) -> Float[Tensor, "F H"]:
        """The features at all frames of whole episodes."""
        return self.trunk.unroll(seen[:, None], own_last[:, None], packing)[:, 0]

    def value(self, features: Float[Tensor, "*R H"], code: Float[Tensor, "*R D"]) -> Float[Tensor, "*R"]:
        """The values of frames under these codes."""
        out: Tensor = self.head(features, code)
        return out[..., 0]
