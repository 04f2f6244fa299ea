"""Who acts for which agent: the learner, or partners from a pool of frozen policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Real
from torch import Tensor

from endmark.episodes import EpisodeSpec, Field, Seats, Seen, no_action
from endmark.policies.policy import Policy

LEARNER = -1
"""In the place of a pool's member: the learner sits there."""


class Member(NamedTuple):
    """A frozen policy of a pool. policy: makes one for so many environments and a generator."""

    name: str
    policy: Callable[[int, torch.Generator], Policy]


class Seating:
    """Who sits where in an episode, as a function of its seed.

    n_members: of the pool. learners: how many agents the learner acts for, at least one and not all.
    learner_agents: those that it may act for; None: any.
    together: how many of the others follow one member; each of the rest follows one of its own. None: all.

    Those that do not follow one member together follow others, all different, while the pool has so many.
    ValueError where these do not fit.
    """

    def __init__(
        self,
        n_agents: int,
        n_members: int,
        *,
        learners: int = 1,
        learner_agents: Sequence[int] | None = None,
        together: int | None = None,
    ) -> None:
        agents = range(n_agents) if learner_agents is None else sorted(set(learner_agents))
        for agent in agents:
            if not 0 <= agent < n_agents:
                raise ValueError(f"learner_agents: given {agent}, want 0 <= agent < {n_agents}")
        if not 1 <= learners < n_agents:
            raise ValueError(
                f"learners: given {learners}, want 1 <= learners < {n_agents}, the number of agents"
            )
        if learners > len(agents):
            raise ValueError(f"learners: given {learners}, want at most the {len(agents)} of learner_agents")
        n_partners = n_agents - learners
        if together is not None and not 1 <= together <= n_partners:
            raise ValueError(f"together: given {together}, want 1 <= together <= {n_partners}, the partners")
        self.n_agents, self.n_members, self.learners = n_agents, n_members, learners
        self._agents, self._together = np.array(agents), n_partners if together is None else together

    def __call__(self, seed: int) -> npt.NDArray[np.int64]:
        """[N]: the member that each agent follows, or `LEARNER`."""
        draw = np.random.default_rng([seed, 0x5EA7])  # another stream than those of environments
        seats = np.full(self.n_agents, LEARNER)
        learners = draw.permutation(self._agents)[: self.learners]
        partners = draw.permutation(np.setdiff1d(np.arange(self.n_agents), learners))
        members = draw.permutation(self.n_members)
        which = np.maximum(np.arange(len(partners)) - self._together + 1, 0)  # 0, 0, .., 1, 2, ..
        seats[partners] = members[which % self.n_members]
        return seats


class Partners(NamedTuple):
    """A pool, and who of it sits where."""

    members: Sequence[Member]
    seating: Seating

    def seat(self, learner: Policy, n_envs: int, generator: torch.Generator) -> Seated:
        """The learner and its partners as one policy. generator: for those partners that draw."""
        policies = [member.policy(n_envs, generator) for member in self.members]
        return Seated(learner, policies, self.seating, n_envs)


class Seated:
    """A learner's policy and frozen ones as one `Policy`: each acts for its agents.

    Besides what the learner gives, an episode stores `learns` [K, N], which agents are the learner's, and
    `partner` [K, N], the member that each agent follows.
    """

    def __init__(self, learner: Policy, members: Sequence[Policy], seating: Seating, n_envs: int) -> None:
        self.learner, self.members, self._seating = learner, members, seating
        self._partner = torch.full((n_envs, seating.n_agents), LEARNER)

    def act(self, seen: Seen) -> dict[str, Tensor]:
        """The joint action; partners act first, so that an oracle can be shown what they do."""
        for k in seen.first.nonzero()[:, 0].tolist():
            self._partner[k] = torch.from_numpy(self._seating(int(seen.seed[k])))
        partner = self._partner.to(seen.obs.device)
        nothing = torch.full_like(seen.last_actions, no_action(seen.last_actions))
        actions = nothing
        for m in sorted({*partner.flatten().tolist()} - {LEARNER}):
            mine = partner == m
            own = seen._replace(seats=Seats(mine, partner, nothing.clone()))
            actions = _chosen(mine, self.members[m].act(own)["actions"].to(actions.device), actions)
        learns = partner == LEARNER
        given = dict(self.learner.act(seen._replace(seats=Seats(learns, partner, actions))))
        given["actions"] = _chosen(learns, given["actions"].to(actions.device), actions)
        return given | {"learns": learns, "partner": partner}

    def schedule(self, env_steps: int) -> Mapping[str, float]:
        """That of the learner."""
        return self.learner.schedule(env_steps)

    def state_dict(self) -> dict[str, Any]:
        """Who sits where, and the memories of all."""
        members = [member.state_dict() for member in self.members]
        return {"partner": self._partner.clone(), "learner": self.learner.state_dict(), "members": members}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._partner.copy_(state["partner"])
        self.learner.load_state_dict(state["learner"])
        for member, its in zip(self.members, state["members"], strict=True):
            member.load_state_dict(its)


def _chosen(where: Bool[Tensor, "K N"], these: Tensor, others: Tensor) -> Real[Tensor, "K N *D"]:
    """These actions for some agents, numbers or vectors, and others for the rest."""
    return torch.where(where[..., None] if these.ndim == 3 else where, these, others)


def with_seats(spec: EpisodeSpec) -> EpisodeSpec:
    """The spec with the fields that say who acted for which agent."""
    agents = (spec.n_agents,)
    return spec.extend(
        learns=Field(agents, torch.bool, per="step"), partner=Field(agents, torch.int64, per="step")
    )
