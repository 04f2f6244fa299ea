"""Conversion of endmark's learners and batches to the baseline's. Only this file knows both."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.baseline import BaselineConfig, BaselineLearner, PaddedBatch
from benchmarks.baseline_ppo import PPOBaselineConfig, PPOBaselineLearner
from benchmarks.baseline_replay import PaddedReplay
from endmark.algorithms import QLearner, QMIXConfig
from endmark.algorithms.ppo import PPOLearner
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets import FeedForwardAgent, IndependentAgents, QMIXMixer
from endmark.nets.images import StateAsVector


def baseline_of(learner: QLearner) -> BaselineLearner:
    """A baseline with the learner's weights, target networks and optimiser state, on the same device.

    ValueError if the baseline does not implement the learner's settings.
    """
    config, spec = learner.config, learner.spec
    if not isinstance(config, QMIXConfig) or not isinstance(learner.online["mixer"], QMIXMixer):
        raise ValueError("the baseline is QMIX: given a learner with another mixer")
    if config.target_update != "soft" or config.normalise_reward != "none":
        raise ValueError("the baseline has a soft target update and plain rewards")
    if isinstance(learner.actor.agent, FeedForwardAgent | IndependentAgents):
        raise ValueError("the baseline's agents share one recurrent network")
    if not config.last_action or not config.agent_id:
        raise ValueError("the baseline's agents see their last action and their number")
    baseline = BaselineLearner(
        BaselineConfig(
            n_agents=spec.n_agents,
            n_actions=spec.n_actions,
            obs_size=_obs_size(spec),
            state_size=StateAsVector(spec).n_features,
            gamma=config.gamma,
            td_lambda=config.td_lambda,
            lr=config.lr,
            double_q=config.double_q,
            target_tau=config.target_tau,
            max_grad_norm=config.max_grad_norm,
            hidden_size=config.hidden_size,
            embed_size=config.mixer_embed_size,
            hyper_size=config.mixer_hyper_size,
        )
    ).to(next(learner.networks.parameters()).device)
    with torch.no_grad():
        for name, parameter in named_parameters(learner):
            baseline.get_parameter(name).copy_(parameter)
    # The parameters come in the same order. Deep copy, since load_state_dict would share the moments.
    baseline.optimiser.load_state_dict(copy.deepcopy(learner.optimiser.state_dict()))
    return baseline


def named_parameters(learner: QLearner) -> Iterator[tuple[str, Tensor]]:
    """The learner's parameters by the names that the baseline has for them."""
    for name, parameter in learner.networks.named_parameters():
        name = re.sub(r"^(online|target)\.actor\.agent\.", r"\1.agent.", name)
        name = re.sub(r"^(online|target)\.actor\.head\.linear\.", r"\1.agent.head.", name)
        yield name.replace("online.", "").replace("target.", "target_"), parameter


def ppo_baseline_of(learner: PPOLearner) -> PPOBaselineLearner:
    """A baseline of MAPPO with the learner's weights, on the same device; neither has made an update.

    ValueError if the baseline does not implement the learner's settings.
    """
    config, spec = learner.config, learner.spec
    if config.critic != "team" or config.reward != "team" or config.value_clip is None:
        raise ValueError("the baseline is MAPPO with one clipped value for the team: given another critic")
    if not config.normalise_value or not config.normalise_advantage or config.target_kl is not None:
        raise ValueError("the baseline normalises values and advantages, and makes every epoch")
    if config.agent != "gru" or config.share != "all" or not config.last_action or not config.agent_id:
        raise ValueError("the baseline's agents share one recurrent network and see action and number")
    if learner.updates:
        raise ValueError("the baseline starts without moments: given a learner that has made updates")
    baseline = PPOBaselineLearner(
        PPOBaselineConfig(
            n_agents=spec.n_agents,
            n_actions=spec.n_actions,
            obs_size=_obs_size(spec),
            state_size=StateAsVector(spec).n_features,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            actor_lr=config.actor_lr,
            critic_lr=config.critic_lr,
            entropy_coef=config.entropy_coef,
            max_grad_norm=config.max_grad_norm,
            clip=config.clip,
            value_clip=config.value_clip,
            epochs=config.epochs,
            hidden_size=config.hidden_size,
        )
    ).to(next(learner.networks.parameters()).device)
    with torch.no_grad():
        for name, parameter in named_ppo_parameters(learner):
            baseline.get_parameter(name).copy_(parameter)
    return baseline


def named_ppo_parameters(learner: PPOLearner) -> Iterator[tuple[str, Tensor]]:
    """The learner's parameters by the names that the baseline of MAPPO has for them."""
    for name, parameter in learner.networks.named_parameters():
        name = name.replace("actor.agent.", "actor.").replace("actor.head.linear.", "actor.head.")
        yield name.replace("critic.trunk.", "critic."), parameter


def padded_batch(batch: EpisodeBatch) -> PaddedBatch:
    """The batch in the baseline's layout, padded to its longest episode."""
    padded = batch.to_padded()
    actions, alive, reward = padded["actions"][..., 0], padded["alive"], padded["reward"]
    if batch.spec.reward_per_agent:
        reward = torch.where(alive, reward, 0.0).sum(-1, keepdim=True)
    return PaddedBatch(
        obs=padded["obs"].flatten(3) if padded["obs"].ndim > 3 else padded["obs"][..., None],
        avail_actions=padded["avail_actions"],
        alive=alive,
        actions=actions,
        actions_onehot=functional.one_hot(actions, batch.spec.n_actions).float(),
        reward=reward[..., 0],
        mask=functional.pad(padded["mask"][..., 0], (0, 1)),
        terminated=padded["terminated"][..., 0].bool(),
        state=padded["state"].flatten(2) if "state" in padded else None,
    )


def padded_replay(spec: EpisodeSpec, capacity: int) -> PaddedReplay:
    """An empty `PaddedReplay` for `capacity` episodes of this spec."""
    state = StateAsVector(spec).n_features if "state" in spec.fields else None
    return PaddedReplay(capacity, spec.episode_limit, spec.n_agents, spec.n_actions, _obs_size(spec), state)


def padded_row(episode: EpisodeBatch) -> dict[str, Tensor]:
    """The fields (L+1, ...) of one episode, the argument of `PaddedReplay.add`."""
    padded = padded_batch(episode)
    names = ("obs", "avail_actions", "alive", "actions", "reward")
    fields = {name: getattr(padded, name)[0] for name in names}
    return fields if padded.state is None else fields | {"state": padded.state[0]}


def _obs_size(spec: EpisodeSpec) -> int:
    return torch.Size(spec.fields["obs"].shape[1:]).numel()
