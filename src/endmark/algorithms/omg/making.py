"""A model of the partners from a learner's settings."""

from __future__ import annotations

from typing import Literal, Protocol

from endmark.algorithms.omg.models import LIAM, Actions, Index, Model, ModelKind, Naive, Nothing
from endmark.algorithms.omg.prior import load_prior
from endmark.algorithms.omg.subgoals import OMG, Supervised
from endmark.algorithms.omg.view import GoalOf, sizes
from endmark.episodes import EpisodeSpec


class Settings(Protocol):
    """What a model needs of a learner's config."""

    @property
    def model(self) -> ModelKind:
        """Its kind."""
        ...

    @property
    def prior(self) -> str | None:
        """The directory of the space of subgoals."""
        ...

    @property
    def goal_of(self) -> GoalOf:
        """What a subgoal is a frame of."""
        ...

    @property
    def kl_weight(self) -> float:
        """Weight of the KL divergence."""
        ...

    @property
    def reconstruct(self) -> Literal["state", "subgoal"]:
        """What is decoded."""
        ...

    @property
    def code_size(self) -> int:
        """Of LIAM's embedding."""
        ...

    @property
    def model_hidden_size(self) -> int:
        """Units of its layers."""
        ...

    @property
    def max_partners(self) -> int:
        """Members of the largest pool."""
        ...


def make_model(config: Settings, spec: EpisodeSpec) -> Model:
    """The model, untrained; ValueError if its prior cannot be read or was fitted to something else."""
    n_agents, n_actions, hidden = spec.n_agents, spec.n_actions, config.model_hidden_size
    obs_size, goal_size = sizes(spec, config.goal_of)
    if config.model in ("omg", "supervised"):
        assert config.prior is not None
        prior = load_prior(config.prior, goal_size, config.goal_of)
        if config.model == "supervised":
            return Supervised(prior, n_agents, n_actions, hidden)
        return OMG(prior, n_agents, n_actions, hidden, config.kl_weight, config.reconstruct)
    if config.model == "index":
        return Index(config.max_partners)
    if config.model == "actions":
        return Actions(n_agents, n_actions)
    if config.model == "naive":
        return Naive(obs_size, n_agents, n_actions, hidden)
    if config.model == "liam":
        return LIAM(obs_size, obs_size - n_agents, n_agents, n_actions, hidden, config.code_size)
    return Nothing()
