"""Random ragged batches of one learner beside partners, and settings of the models of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from endmark.algorithms import Learner, OMGConfig, OMGLearner, OMGPPOConfig, OMGPPOLearner
from endmark.algorithms.omg.prior import Prior, save_prior
from endmark.algorithms.omg.view import GoalOf, sizes
from endmark.episodes import NO_ACTION, EpisodeBatch, EpisodeSpec, Seats, Seen
from endmark.policies import with_seats
from support.helpers import garbage, make_spec, random_batch
from support.padded_oracle import perturb

BESIDE_PARTNERS = "omg", "omg-ppo"
"""Algorithms that learn beside partners alone."""
MODELS = ("none", "index", "actions", "naive", "liam", "supervised", "omg")


def seated_batch(
    seed: int, *, n_episodes: int = 6, n_members: int = 4, learners: int = 1, **options: Any
) -> EpisodeBatch:
    """Any agents may be the learner's; the others follow members. Garbage where seats are undefined."""
    batch = random_batch(seed, n_episodes=n_episodes, **options)
    draws = torch.Generator().manual_seed(seed)
    spec = batch.spec
    seat = torch.rand(batch.n_episodes, spec.n_agents, generator=draws).argsort(1)[:, :learners]
    partner = torch.randint(0, n_members, (batch.n_episodes, spec.n_agents), generator=draws)
    partner.scatter_(1, seat, -1)
    partner = partner.repeat_interleave(batch.lengths + 1, 0)
    learns = partner < 0
    partner[batch.final_frames] = garbage(partner[batch.final_frames], draws)
    learns[batch.final_frames] = garbage(learns[batch.final_frames], draws)
    fields = {**batch.fields, "learns": learns, "partner": partner}
    return replace(batch, spec=with_seats(spec), fields=fields, checked=True)


def write_prior(directory: Path, spec: EpisodeSpec, goal_of: GoalOf, code_size: int = 3) -> str:
    """A prior with random weights for this spec."""
    torch.manual_seed(5)
    prior = Prior(sizes(spec, goal_of)[1], code_size, 8, goal_of)
    perturb(prior, torch.Generator().manual_seed(6))
    prior.scale.fill_(1.5)
    save_prior(prior, directory)
    return str(directory)


def make_omg(directory: Path, spec: EpisodeSpec, *, seed: int = 0, **settings: Any) -> OMGLearner:
    """A small learner whose target network is not its online one."""
    config = OMGConfig(**_small(directory, spec, settings))
    torch.manual_seed(seed)
    return moved(OMGLearner(spec, config), seed + 1)


def make_omg_ppo(directory: Path, spec: EpisodeSpec, *, seed: int = 0, **settings: Any) -> OMGPPOLearner:
    """A small learner that has seen values before."""
    config = OMGPPOConfig(**_small(directory, spec, settings))
    torch.manual_seed(seed)
    learner = moved(OMGPPOLearner(spec, config), seed + 1)
    learner.networks.value_moments.add(1 + 3 * torch.randn(50, generator=torch.Generator().manual_seed(seed)))
    return learner


L = TypeVar("L", bound=Learner)


def moved(learner: L, seed: int) -> L:
    """The learner with other weights, those of the prior apart."""
    kept = {name: tensor.clone() for name, tensor in learner.networks.state_dict().items() if "prior" in name}
    perturb(learner.networks, torch.Generator().manual_seed(seed))
    learner.networks.load_state_dict({**learner.networks.state_dict(), **kept})
    return learner


def _small(directory: Path, spec: EpisodeSpec, settings: dict[str, Any]) -> dict[str, Any]:
    prior = write_prior(directory, spec, settings.get("goal_of", "obs"))
    return {"hidden_size": 8, "model_hidden_size": 6, "code_size": 3, "prior": prior} | settings


def seen_at(batch: EpisodeBatch, frames: torch.Tensor) -> Seen:
    """These frames, each a row, as a policy sees them in its seat."""
    first = batch.first_frames.repeat_interleave(batch.lengths + 1)[frames]
    learns, partner = batch["learns"][first], batch["partner"][first]
    now = torch.where(learns, NO_ACTION, batch.actions_taken[frames])
    state = batch["state"][frames] if "state" in batch.fields else None
    return Seen(
        batch.obs[frames],
        batch.avail_actions[frames],
        batch.alive[frames],
        state,
        frames == first,
        batch.last_actions[frames],
        torch.zeros(len(frames), dtype=torch.int64),
        Seats(learns, partner, now),
    )


def small_spec(**options: Any) -> EpisodeSpec:
    """The spec of `seated_batch` with the same options."""
    return with_seats(make_spec(**options))


def double(learner: OMGLearner) -> OMGLearner:
    learner.networks.double()
    return learner


def in_double(batch: EpisodeBatch) -> EpisodeBatch:
    fields = {n: t.double() if t.is_floating_point() else t for n, t in batch.fields.items()}
    return replace(batch, fields=fields, checked=True)
