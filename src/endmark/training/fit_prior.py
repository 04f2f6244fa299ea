"""Fitting a space of subgoals to what a learner will see beside its partners, before it learns."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from endmark.algorithms import IQLConfig
from endmark.algorithms.omg.prior import Prior, active_units, save_prior
from endmark.algorithms.omg.view import GoalOf, of_batch
from endmark.algorithms.omg.view import check_spec as check_view
from endmark.episodes import EpisodeBatch
from endmark.policies import Partners, Policy, RandomPolicy, with_seats
from endmark.rollout import EpisodeSeeds
from endmark.training.build import Envs, make_envs
from endmark.training.config import TrainConfig
from endmark.training.evaluation import played_with
from endmark.training.partners import load_partners, pinned

PRIOR = 3
"""What these episodes' seeds are drawn from: no training and no evaluation plays them."""


@dataclass(frozen=True)
class PriorConfig:
    """What a space of subgoals is fitted to, and how."""

    env: str
    """An id as `endmark envs` shows them."""
    partners: tuple[str, ...]
    """The learner's partners: run directories, folders of them, or module:function."""
    env_arg: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An argument of the environment's constructor, as key=value; the value is JSON, or else a string."""
    learner_agents: tuple[int, ...] | None = None
    """Agents that the learner may act for; None: any."""
    together: int | None = None
    """How many of the other agents follow one partner; None: all."""
    goal_of: GoalOf = "obs"
    """What a subgoal is a frame of: the learner's observation, or the state."""
    episodes: int = 1_000
    """Episodes to collect: in a quarter of them the learner's agent acts at random, else as partners do."""
    code_size: int = 16
    """Numbers in a code."""
    hidden_size: int = 64
    """Units of the layers."""
    kl_weight: float = 1e-3
    """Weight of the KL divergence beside a squared error that is a mean over features."""
    updates: int = 4_000
    """Optimiser steps."""
    batch_size: int = 256
    """Frames of such a step."""
    lr: float = 1e-3
    """Adam's learning rate."""
    n_envs: int = 8
    """Environments that are played side by side."""
    seed: int = 0
    """Seed of everything."""

    def __post_init__(self) -> None:
        for name in ("episodes", "code_size", "hidden_size", "updates", "batch_size", "n_envs"):
            if (given := getattr(self, name)) < 1:
                raise ValueError(f"{name}: given {given}, want at least 1")
        if self.episodes < 8:
            raise ValueError(f"episodes: given {self.episodes}, want at least 8: an eighth is held out")
        if not self.lr > 0:
            raise ValueError(f"lr: given {self.lr}, want more than 0")
        if not self.kl_weight >= 0:
            raise ValueError(f"kl_weight: given {self.kl_weight}, want at least 0")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: given {self.seed}, want 0 <= seed < 2**63")

    @property
    def run(self) -> TrainConfig[Any]:
        """The settings that a run has in common."""
        return TrainConfig(
            IQLConfig(),
            self.env,
            self.env_arg,
            partners=self.partners,
            learner_agents=self.learner_agents,
            together=self.together,
            n_envs=self.n_envs,
            seed=self.seed,
        )


class Fitted(NamedTuple):
    """A prior, and what is known of it from frames that it was not fitted to.

    error: mean squared error of what the mean code decodes to, in units of each feature's deviation; 1 if one
        knows nothing. active: numbers of the code that say anything. kl: of codes from N(0, 1), nats.
    feature_error: root mean square error of each feature, in its own units.
    """

    prior: Prior
    frames: int
    error: float
    kl: float
    active: int
    feature_error: Tensor
    held_out: Tensor


OnFit = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and how much there is."""


def collect(config: PriorConfig, on_progress: OnFit) -> list[Float[Tensor, "_ S"]]:
    """What the learner sees in each episode while it takes part. RunError for a partner that is none."""
    run = pinned(config.run)
    with closing(make_envs(run, config.n_envs)) as envs:
        check_view(with_seats(envs.spec), config.goal_of)
        partners = load_partners(run, envs.spec)
        if partners is None:
            raise ValueError("partners: given none, want those that a learner will play with")
        seeds = iter(EpisodeSeeds(PRIOR, config.seed))
        seen: list[Tensor] = []
        for policy, episodes in _shares(partners, config):
            batch = _play(partners, policy, envs, list(itertools.islice(seeds, episodes)))
            view = of_batch(batch, config.goal_of)
            frames = (batch.lengths + 1).tolist()
            pairs = zip(torch.split(view.goal_obs, frames), torch.split(view.alive, frames), strict=True)
            seen += [features[alive].cpu() for features, alive in pairs]
            on_progress("episodes collected", len(seen), config.episodes)
        return seen


def _shares(partners: Partners, config: PriorConfig) -> list[tuple[Policy, int]]:
    """Who acts in the learner's place, in how many episodes: at random in a quarter, else as each member."""
    generator = torch.Generator().manual_seed(config.seed)
    random = config.episodes // 4
    each, more = divmod(config.episodes - random, len(partners.members))
    members = [
        (member.policy(config.n_envs, generator), each + (i < more))
        for i, member in enumerate(partners.members)
    ]
    return [pair for pair in [(RandomPolicy(generator), random), *members] if pair[1] > 0]


def _play(partners: Partners, policy: Policy, envs: Envs, seeds: list[int]) -> EpisodeBatch:
    return played_with(partners, policy, envs, seeds)


def fit(config: PriorConfig, episodes: list[Float[Tensor, "_ S"]], on_progress: OnFit) -> Fitted:
    """The prior, fitted to seven eighths of the episodes and tested on the rest.

    ValueError if the code has collapsed: no number of it says anything, and a subgoal would be noise.
    """
    torch.manual_seed(config.seed)
    draws = torch.Generator().manual_seed(config.seed)
    train = torch.cat([seen for i, seen in enumerate(episodes) if i % 8])
    held_out = torch.cat(episodes[::8])
    prior = Prior(train.shape[1], config.code_size, config.hidden_size, config.goal_of)
    prior.mean.copy_(train.mean(0))
    deviation = train.std(0, correction=0)
    prior.scale.copy_(torch.where(deviation > 1e-6, deviation, 1.0))  # a constant stays one
    optimiser = torch.optim.Adam(prior.parameters(), lr=config.lr)
    for update in range(config.updates):
        rows = torch.randint(len(train), (config.batch_size,), generator=draws)
        loss = prior.loss(train[rows], config.kl_weight, draws)["loss"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if update % 100 == 99:
            on_progress("updates of the prior", update + 1, config.updates)
    prior.requires_grad_(False)
    decoded = prior.decode(prior.encode(held_out)[0])
    error = (prior.standardised(decoded) - prior.standardised(held_out)).square().mean()
    numbers = prior.loss(held_out, config.kl_weight, draws)
    active = active_units(prior, held_out)
    if active == 0:
        raise ValueError(
            f"the code has collapsed: none of its {config.code_size} numbers says anything; "
            f"want a smaller kl_weight than {config.kl_weight:g}"
        )
    feature_error = (decoded - held_out).square().mean(0).sqrt()
    return Fitted(prior, len(train), float(error), float(numbers["kl"]), active, feature_error, held_out)


def save(config: PriorConfig, fitted: Fitted, directory: Path) -> dict[str, Any]:
    """Write the weights; the report as JSON has it."""
    config = replace(config, partners=pinned(config.run).partners)
    report = {
        "env": config.env,
        "env_arg": list(config.env_arg),
        "partners": list(config.partners),
        "goal_of": config.goal_of,
        "frames": fitted.frames,
        "code_size": config.code_size,
        "active": fitted.active,
        "kl": fitted.kl,
        "kl_weight": config.kl_weight,
        "error": fitted.error,
        "feature_error": fitted.feature_error.tolist(),
        "seed": config.seed,
    }
    directory.mkdir(parents=True, exist_ok=True)
    save_prior(fitted.prior, directory)
    return report
