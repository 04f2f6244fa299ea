"""A model of the partners from a learner's settings."""

from __future__ import annotations

from endmark.algorithms.omg.models import LIAM, Actions, Index, Model, ModelKind, Naive, Nothing
from endmark.algorithms.omg.prior import load_prior
from endmark.algorithms.omg.subgoals import OMG, Reconstruct, Supervised
from endmark.algorithms.omg.view import GoalOf, sizes
from endmark.episodes import EpisodeSpec


def make_model(
    kind: ModelKind,
    spec: EpisodeSpec,
    *,
    prior: str | None,
    goal_of: GoalOf,
    hidden_size: int,
    code_size: int,
    max_partners: int,
    kl_weight: float,
    reconstruct: Reconstruct,
) -> Model:
    """The model, untrained. The arguments are settings of `OMGConfig`.

    ValueError if the prior cannot be read or was fitted to something else.
    """
    n_agents, n_actions = spec.n_agents, spec.n_actions
    obs_size, goal_size = sizes(spec, goal_of)
    if kind in ("omg", "supervised"):
        assert prior is not None
        space = load_prior(prior, goal_size, goal_of)
        if kind == "supervised":
            return Supervised(space, n_agents, n_actions, hidden_size)
        return OMG(space, n_agents, n_actions, hidden_size, kl_weight, reconstruct)
    if kind == "index":
        return Index(max_partners)
    if kind == "actions":
        return Actions(n_agents, n_actions)
    if kind == "naive":
        return Naive(obs_size, n_agents, n_actions, hidden_size)
    if kind == "liam":
        return LIAM(obs_size, obs_size - n_agents, n_agents, n_actions, hidden_size, code_size)
    return Nothing()
