"""A model of the partners, and what acts by it, from a learner's settings."""

from __future__ import annotations

from endmark.algorithms.omg.models import LIAM, Actions, Index, Model, Naive, Nothing
from endmark.algorithms.omg.network import ModellingActor
from endmark.algorithms.omg.prior import load_prior
from endmark.algorithms.omg.settings import ModelSettings
from endmark.algorithms.omg.subgoals import OMG, Supervised
from endmark.algorithms.omg.view import sizes
from endmark.episodes import EpisodeSpec
from endmark.nets import AgentKind, AttentionOptions


def make_model(spec: EpisodeSpec, settings: ModelSettings) -> Model:
    """The model, untrained. ValueError if the prior cannot be read or was fitted to something else."""
    kind, hidden_size = settings.model, settings.model_hidden_size
    n_agents, n_actions = spec.n_agents, spec.n_actions
    obs_size, goal_size = sizes(spec, settings.goal_of)
    if kind in ("omg", "supervised"):
        assert settings.prior is not None
        space = load_prior(settings.prior, goal_size, settings.goal_of)
        if kind == "supervised":
            return Supervised(space, n_agents, n_actions, hidden_size)
        return OMG(space, n_agents, n_actions, hidden_size, settings.kl_weight, settings.reconstruct)
    if kind == "index":
        return Index(settings.max_partners)
    if kind == "actions":
        return Actions(n_agents, n_actions)
    if kind == "naive":
        return Naive(obs_size, n_agents, n_actions, hidden_size)
    if kind == "liam":
        return LIAM(obs_size, obs_size - n_agents, n_agents, n_actions, hidden_size, settings.code_size)
    return Nothing()


def make_actor(
    spec: EpisodeSpec,
    settings: ModelSettings,
    *,
    kind: AgentKind,
    attention: AttentionOptions,
    hidden_size: int,
    last_action: bool,
    duelling: bool,
) -> ModellingActor:
    """The model and an agent whose head has an output for each action, untrained."""
    return ModellingActor(
        make_model(spec, settings),
        kind=kind,
        attention=attention.within(spec.episode_limit),
        obs_size=sizes(spec, settings.goal_of)[0],
        n_actions=spec.n_actions,
        n_outputs=spec.n_actions,
        hidden_size=hidden_size,
        last_action=last_action,
        duelling=duelling,
    )
