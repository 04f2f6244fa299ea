"""Critics: the value of each frame, from the observations so far or from the global state.

A critic gives [F, V]: V = N values, one an agent, or V = 1, one for the team. The counterfactual one gives
[F, N, A]: what each action of each agent is worth.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from endmark.episodes import NO_ACTION, EpisodeBatch, EpisodeSpec
from endmark.nets.actor import AGENTS, Actor
from endmark.nets.agents import AgentKind, Inputs
from endmark.nets.attention import AttentionOptions
from endmark.nets.images import AsVector, StateAsVector
from endmark.ops import linear


class OwnCritic(nn.Module):
    """The value of what each agent has observed so far: the actor's architecture with one output.

    The critic of independent learners, such as IPPO (de Witt et al. 2020, arXiv:2011.09533).
    """

    def __init__(self, actor: Actor) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, batch: EpisodeBatch) -> Float[Tensor, "F N"]:
        """One value an agent at every frame."""
        values: Tensor = self.actor(batch)
        return values[..., 0]


class CentralCritic(nn.Module):
    """The value of the global state, for centralised training (Yu et al. 2022, arXiv:2103.01955).

    One network reads the state. Its last layer has an output for each agent, or one for the team. Where the
    spec has no state, all agents' observations side by side stand for it.
    """

    def __init__(
        self,
        spec: EpisodeSpec,
        *,
        kind: AgentKind,
        hidden_size: int,
        n_values: int,
        attention: AttentionOptions = AttentionOptions(),
    ) -> None:
        super().__init__()
        self.state = StateAsVector(spec)
        inputs = Inputs((self.state.n_features,), 1, spec.n_actions, last_action=False, agent_id=False)
        self.trunk = AGENTS[kind](inputs, hidden_size, attention.within(spec.episode_limit))
        self.head = nn.Linear(hidden_size, n_values)

    def forward(self, batch: EpisodeBatch) -> Float[Tensor, "F V"]:
        """One value an agent, or one for the team, at every frame."""
        state = self.state(batch.state)[:, None]
        last_actions = torch.full((len(state), 1), NO_ACTION, device=state.device)
        return linear(self.head, self.trunk.unroll(state, last_actions, batch.time_major)[:, 0])


class CounterfactualCritic(nn.Module):
    """The team's value of each action of each agent, given what the others do (Foerster et al. 2018).

    Two hidden layers read the state, the agent's observation, the actions of the other agents and which agent
    it is; the last two are one-hot.
    """

    def __init__(self, spec: EpisodeSpec, *, hidden_size: int) -> None:
        super().__init__()
        self.n_agents, self.n_actions = spec.n_agents, spec.n_actions
        self.state, self.obs = StateAsVector(spec), AsVector(spec.fields["obs"].shape[1:])
        one_hot = spec.n_agents * spec.n_actions + spec.n_agents
        self.first = nn.Linear(self.state.n_features + self.obs.n_features + one_hot, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)
        self.head = nn.Linear(hidden_size, spec.n_actions)

    def forward(self, batch: EpisodeBatch, actions: Int[Tensor, "F N"]) -> Float[Tensor, "F N A"]:
        """actions: of all agents; `NO_ACTION` where one has none. An agent's own are not read."""
        n, device = self.n_agents, actions.device
        agents = torch.arange(n, device=device)
        columns = torch.where(actions < 0, NO_ACTION, actions + agents * self.n_actions)
        others = columns[:, None, :].expand(-1, n, -1).clone()
        others[:, agents, agents] = NO_ACTION
        which = (n * self.n_actions + agents).expand(len(actions), -1)
        state = self.state(batch.state)[:, None].expand(-1, n, -1)
        x = torch.cat([state, self.obs(batch.obs)], -1)
        x = linear(self.first, x, one_hot=torch.cat([others, which[..., None]], -1), relu=True)
        return linear(self.head, linear(self.second, x, relu=True))


class JointCritic(nn.Module):
    """The value, for each agent, of the state and of what all agents do there (Lowe et al. 2017).

    Two layers, for all agents, which see whose value is asked for. Without memory.

    action_size: numbers that stand for an agent's action.
    """

    def __init__(self, spec: EpisodeSpec, *, hidden_size: int, action_size: int) -> None:
        super().__init__()
        self.state = StateAsVector(spec)
        n = spec.n_agents
        self.first = nn.Linear(self.state.n_features + n * action_size + n, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, 1)

    def forward(
        self,
        state: Real[Tensor, "S ..."],
        actions: Float[Tensor, "S N B"],
        own: Float[Tensor, "S N B"] | None = None,
    ) -> Float[Tensor, "S N"]:
        """One value an agent.

        own: for each agent's value, what it does itself instead; None: the same.
        """
        n = actions.shape[1]
        joint = actions[:, None].expand(-1, n, -1, -1)  # [S, of whom, who, B]
        if own is not None:
            mine = torch.eye(n, dtype=torch.bool, device=actions.device)[..., None]
            joint = torch.where(mine, own[:, None], joint)
        seen = self.state(state)[:, None].expand(-1, n, -1)
        ids = torch.arange(n, device=actions.device).expand(len(actions), -1)[..., None]
        x = linear(self.first, torch.cat([seen, joint.flatten(2)], -1), one_hot=ids, relu=True)
        return linear(self.out, linear(self.second, x, relu=True))[..., 0]
