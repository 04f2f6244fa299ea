"""The subgoals that a run's learner infers while it plays beside its partners."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from endmark.algorithms import Learner
from endmark.algorithms.omg.subgoals import History
from endmark.algorithms.omg.view import of_batch
from endmark.envs import Layout
from endmark.episodes import EpisodeSpec, ragged
from endmark.rollout import EpisodeSeeds, Interval
from endmark.run import WEIGHTS
from endmark.training import goal_measures
from endmark.training.build import make_envs
from endmark.training.config import TrainConfig
from endmark.training.evaluation import FINAL, played_with
from endmark.training.goal_measures import Compared, Hits, cells, windows_of
from endmark.training.load import load, load_config
from endmark.training.partners import load_partners, sources_of
from endmark.training.playing import drawn_env

MODELS = ("omg", "supervised")


@dataclass(frozen=True)
class Subgoals:
    """Episodes, and what the learner's inferred subgoal decodes to at each of their F frames.

    seen, decoded: in the environment's units. scale: the deviation of each feature where the prior was
        fitted. redecoded: what each frame's own code decodes to, so what the prior alone gets wrong.
    alive: whether the learner takes part. seat: [E] its agent. until_absent: whether a frame says something
        only while it does. horizon: H. beside: the partners of each episode, by name.
    """

    lengths: Int[Tensor, " E"]
    seen: Float[Tensor, "F S"]
    decoded: Float[Tensor, "F S"]
    redecoded: Float[Tensor, "F S"]
    scale: Float[Tensor, " S"]
    alive: Bool[Tensor, " F"]
    seat: Int[Tensor, " E"]
    until_absent: bool
    horizon: int
    beside: Sequence[Sequence[str]]

    def frames(self, episode: int) -> slice:
        """The frames of this episode."""
        start = int(ragged.frame_starts(self.lengths)[episode])
        return slice(start, start + int(self.lengths[episode]) + 1)


@dataclass(frozen=True)
class Places:
    """Which features are places of the others: [E, M, 2], for the M others of each episode.

    cell: the width of a cell. layout: of the grid, where it is known; `offset` [E] stands before the
    features that it names.
    """

    features: Int[Tensor, "E M 2"]
    cell: float = 1.0
    layout: Layout | None = None
    offset: Int[Tensor, " E"] | None = None


@dataclass(frozen=True)
class Measured:
    """How right subgoals are. Errors are squares, in units of each feature's deviation.

    steps: those at which the learner takes part. hits: see `goal_measures`.
    errors, distances: by k = 1, 2, ... steps ahead. own_error: of frames decoded from their own codes.
    distances, hits: None where no feature is known to be a place of the others; distances are in its units.
    """

    episodes: int
    steps: int
    horizon: int
    errors: Sequence[Compared]
    own_error: Interval
    distances: Sequence[Compared] | None
    hits: Hits | None


def load_inferring(directory: Path, checkpoint: str = WEIGHTS) -> tuple[TrainConfig[Any], Learner, History]:
    """The run, its learner, and the model by which that infers subgoals.

    ValueError if it infers none; RunError if it cannot be read.
    """
    config = load_config(directory)
    model = getattr(config.algorithm, "model", None)
    if model not in MODELS:
        given = config.name if model is None else f"model '{model}'"
        raise ValueError(f"{directory}: given a run of {given}, want one that infers subgoals: omg with "
                         f"model {' or '.join(map(repr, MODELS))}")  # fmt: skip
    config, learner = load(directory, checkpoint)
    inferring = getattr(learner.actor, "model", None)
    if not isinstance(inferring, History):
        raise ValueError(f"{directory}: given a run of {config.name}, whose actor infers no subgoals")
    return config, learner, inferring


def infer(
    config: TrainConfig[Any], learner: Learner, model: History, episodes: int, *, seed: int = 0
) -> Subgoals:
    """Play the episodes of `evaluate` with the same seed greedily, and infer a subgoal at each frame.

    The subgoal is the belief's mean, as the learner acts by.
    """
    with closing(make_envs(config, config.n_envs)) as envs:
        partners = load_partners(config, envs.spec)
        seeds = itertools.islice(EpisodeSeeds(FINAL, seed), episodes)
        batch = played_with(partners, learner.greedy_policy(envs.n_envs), envs, seeds)
    prior = model.prior
    on_device = batch.to(prior.mean.device)
    with torch.no_grad():
        view = of_batch(on_device, prior.goal_of)
        decoded = prior.decode(model(view, on_device.time_major).code)
        redecoded = prior.decode(prior.encode(view.goal_obs)[0])
    names, seated = sources_of(config.partners), batch["partner"][batch.first_frames]
    seat = batch["learns"][batch.first_frames].int().argmax(1)
    return Subgoals(
        batch.lengths,
        view.goal_obs.cpu(),
        decoded.cpu(),
        redecoded.cpu(),
        prior.scale.cpu(),
        view.alive.cpu(),
        seat,
        prior.goal_of == "obs",
        config.algorithm.horizon,
        [sorted({names[member] for member in row if member >= 0}) for row in seated.tolist()],
    )


def known_places(config: TrainConfig[Any], cell: float, subgoals: Subgoals) -> Places | None:
    """The others' places, where the environment's layout is known and frames are made of observations."""
    with drawn_env(config) as env:
        layout, spec = getattr(env, "layout", None), env.spec
    if not isinstance(layout, Layout) or "state" in spec.fields:
        return None
    return laid_out(layout, spec, cell, subgoals)


def laid_out(layout: Layout, spec: EpisodeSpec, cell: float, subgoals: Subgoals) -> Places:
    """The others' places by the learner's observation: alone, or in its place among all agents'."""
    size = spec.fields["obs"].shape[1]
    alone = subgoals.seen.shape[1] == size
    offset = torch.zeros_like(subgoals.seat) if alone else subgoals.seat * size
    features = torch.tensor(layout.others) + offset[:, None, None]
    return Places(features, cell, layout, offset)


def given_places(positions: Sequence[int], cell: float, subgoals: Subgoals) -> Places:
    """Pairs of features, the same in every episode. ValueError for a feature that there is not."""
    n_features = subgoals.seen.shape[1]
    if wrong := [feature for feature in positions if not 0 <= feature < n_features]:
        raise ValueError(f"positions: given {wrong[0]}, want 0 <= feature < {n_features}")
    pairs = torch.tensor(positions).view(1, -1, 2)
    return Places(pairs.expand(len(subgoals.lengths), -1, -1), cell)


def places_at(features: Float[Tensor, "F S"], places: Places, subgoals: Subgoals) -> Float[Tensor, "F M 2"]:
    """The others' places at each frame, of what is seen or decoded there."""
    which = places.features.repeat_interleave(subgoals.lengths + 1, 0)  # [F, M, 2]
    return features.gather(1, which.flatten(1)).view(which.shape)


def measure(subgoals: Subgoals, places: Places | None) -> Measured:
    """Decoded subgoals against the frames that came. See `goal_measures`."""
    windows = windows_of(subgoals.lengths, subgoals.alive, until_absent=subgoals.until_absent)
    seen, decoded = subgoals.seen / subgoals.scale, subgoals.decoded / subgoals.scale
    horizon = subgoals.horizon
    distances, hits = None, None
    if places is not None:
        there, thought = (places_at(f, places, subgoals) for f in (subgoals.seen, subgoals.decoded))
        thought = thought[windows.steps]
        distances = goal_measures.distance_by_horizon(thought, there, windows, horizon)
        size = places.cell
        hits = goal_measures.hits(cells(thought, size), cells(there, size), windows, horizon)
    return Measured(
        len(subgoals.lengths),
        int(windows.counts.sum()),
        horizon,
        goal_measures.by_horizon(decoded, seen, windows, horizon),
        goal_measures.own_error(subgoals.redecoded / subgoals.scale, seen, windows),
        distances,
        hits,
    )
