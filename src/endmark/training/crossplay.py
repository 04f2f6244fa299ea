"""Every learner with every partner: who they are, and the episodes that each pair plays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from endmark.algorithms import ALGORITHMS
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.policies import Member, Partners, Seating
from endmark.rollout import EpisodeSeeds, episode_returns
from endmark.run import RunError
from endmark.training.build import Envs, env_spec, make_envs
from endmark.training.config import TrainConfig
from endmark.training.evaluation import FINAL, played_with
from endmark.training.load import load_config
from endmark.training.matrix import HELD_OUT, TRAINING, Matrix, Player
from endmark.training.partners import Source, load_member, pin, sources
from endmark.training.player_names import algorithm_groups, short_names

Progress = Callable[[int, int], None]
"""Told how many cells are done, and of how many."""
OF_LEARNERS = 1
"""Seed of the generator of those learners that draw; their partners' is another."""


class CrossplaySettings(NamedTuple):
    """What is played, beside who plays it.

    seed: which episodes; those of `evaluate` with the same seed.
    env, env_arg: the environment; None: that of the learners' runs, or else of the first partner's.
    learner_seats, learner_agents: how many agents the learner acts for, and for which it may act; None: as it
        was trained with partners, and otherwise one agent, any.
    device: where the networks are.
    """

    episodes: int = 100
    seed: int = 0
    env: str | None = None
    env_arg: tuple[str, ...] | None = None
    learner_seats: int | None = None
    learner_agents: tuple[int, ...] | None = None
    device: str = "auto"


class Row(NamedTuple):
    """A learner, loaded: how it acts, who sits where, and how many environments are played side by side."""

    member: Member
    seating: Seating
    config: TrainConfig[Any]


def crossplay(
    learners: Iterable[str],
    partners: Iterable[str],
    held_out: Iterable[str] = (),
    settings: CrossplaySettings | None = None,
    *,
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> Matrix:
    """Play every learner with every partner, greedily, from the same episode seeds for each pair.

    learners, partners, held_out: run directories, folders of runs, checkpoints or `module:function`, as in
        `TrainConfig.partners`. All agents but the learner's follow the one partner. As many episodes are
        played side by side as the learner's run had environments.
    ValueError, such as RunError and EnvError, of one line for what cannot be played.
    """
    settings = settings or CrossplaySettings()
    if settings.episodes < 1:
        raise ValueError(f"episodes: given {settings.episodes}, want at least 1")
    if settings.seed < 0:
        raise ValueError(f"seed: given {settings.seed}, want at least 0")
    rows = _distinct(sources(learners, "learner"))
    seen, unseen = _distinct(sources(partners)), _distinct(sources(held_out))
    columns = seen | unseen
    if not rows or not columns:
        raise ValueError("crossplay: given nobody to play with, want at least one learner and one partner")
    for key in seen.keys() & unseen.keys():
        raise ValueError(f"partner {unseen[key].name}: given as seen in training and as held out, want one")
    game = _game([*rows.values()], [*columns.values()], settings)
    spec = env_spec(game)
    loaded = {key: load_member(source, game, spec) for key, source in (columns | rows).items()}
    names = short_names([*loaded])
    groups = algorithm_groups({key: loaded[key][1] for key in rows}, names)
    table, players = [], []
    for key in rows:
        member, config = loaded[key]
        n, agents = _seats(config, settings)
        table.append(Row(member, _seating(spec, n, agents, names[key]), config or game))
        players.append(Player(names[key], key, groups[key], n, agents))
    seeds = tuple(itertools.islice(EpisodeSeeds(FINAL, settings.seed), settings.episodes))
    batches = _played(table, [loaded[key][0] for key in columns], game, seeds, progress)
    shape = len(rows), len(columns), len(seeds)
    returns, lengths = np.empty(shape), np.empty(shape)
    team_returns = np.empty(shape) if spec.reward_per_agent else None
    outcomes = {name: np.empty(shape) for name in spec.outcomes}
    for where, batch in zip(np.ndindex(shape[:2]), batches, strict=True):
        returns[where] = episode_returns(batch)
        if team_returns is not None:
            team_returns[where] = episode_returns(batch, of_all=True)
        lengths[where] = batch.lengths.numpy()
        for name, values in outcomes.items():
            values[where] = batch.outcome(name).double().cpu().numpy()
    return Matrix(
        env=game.env,
        env_arg=game.env_arg,
        episode_limit=game.episode_limit,
        seeds=seeds,
        learners=tuple(players),
        partners=tuple(Player(names[key], key, TRAINING if key in seen else HELD_OUT) for key in columns),
        returns=returns,
        lengths=lengths,
        outcomes=outcomes,
        team_returns=team_returns,
        seen=tuple(
            (names[row], names[column])
            for row, column in itertools.product(rows, unseen)
            if _was_trained_with(loaded[row][1], column)
        ),
    )


def _played(
    rows: Sequence[Row],
    columns: Sequence[Member],
    game: TrainConfig[Any],
    seeds: Sequence[int],
    progress: Progress,
) -> Iterator[EpisodeBatch]:
    """The episodes of each cell, row by row. Environments are made once for each number side by side."""
    made: dict[tuple[int, int], Envs] = {}
    total = len(rows) * len(columns)
    with ExitStack() as stack:
        progress(0, total)
        for i, (row, partner) in enumerate(itertools.product(rows, columns)):
            n_envs, workers = row.config.n_envs, row.config.workers
            if (n_envs, workers) not in made:
                envs = make_envs(replace(game, n_envs=n_envs, workers=workers), n_envs)
                made[n_envs, workers] = stack.enter_context(closing(envs))
            policy = row.member.policy(n_envs, torch.Generator().manual_seed(OF_LEARNERS))
            yield played_with(Partners([partner], row.seating), policy, made[n_envs, workers], seeds)
            progress(i + 1, total)


def _distinct(given: Iterable[Source]) -> dict[str, Source]:
    """The sources by what they are, each once."""
    return {pin(source): source for source in given}


def _game(rows: Sequence[Source], columns: Sequence[Source], settings: CrossplaySettings) -> TrainConfig[Any]:
    """A configuration with the environment that is played: that of the runs, unless the settings say it."""
    learners = [(source, load_config(source.directory)) for source in rows if source.directory is not None]
    partners = (load_config(source.directory) for source in columns if source.directory is not None)
    game = learners[0][1] if learners else next(partners, None)
    if game is None:
        if settings.env is None:
            raise ValueError("env: given no run, which would say it, want an environment's id")
        game = TrainConfig(algorithm=ALGORITHMS["iql"](), env=settings.env)
    if settings.env_arg is None:
        for source, config in learners:
            if config.env == game.env and _variant(config) != _variant(game):
                raise RunError(
                    f"learner {source.name}: trained with {_variant(config)}, and {learners[0][0].name} with "
                    f"{_variant(game)}; want env_arg, which says what to play"
                )
    if settings.env not in (None, game.env):
        game = replace(game, env=settings.env, env_arg=())
    env_arg = game.env_arg if settings.env_arg is None else settings.env_arg
    return replace(game, env_arg=env_arg, device=settings.device)


def _variant(config: TrainConfig[Any]) -> str:
    """Which of the environment's variants a run had, in words."""
    words = [
        *sorted(config.env_arg),
        *([f"episode_limit={config.episode_limit}"] if config.episode_limit else []),
    ]
    return f"'{' '.join(words)}'"


def _seats(
    config: TrainConfig[Any] | None, settings: CrossplaySettings
) -> tuple[int, tuple[int, ...] | None]:
    """How many agents a learner acts for, and for which it may."""
    trained = config if config is not None and config.partners else None
    n = trained.learners if trained else 1
    agents = trained.learner_agents if trained else None
    given_n, given_agents = settings.learner_seats, settings.learner_agents
    return n if given_n is None else given_n, agents if given_agents is None else given_agents


def _seating(spec: EpisodeSpec, n: int, agents: tuple[int, ...] | None, name: str) -> Seating:
    try:
        return Seating(spec.n_agents, 1, learners=n, learner_agents=agents)
    except ValueError as error:
        raise ValueError(f"learner {name}: {error}") from None


def _was_trained_with(config: TrainConfig[Any] | None, partner: str) -> bool:
    """Whether a run's partners, which are pinned, have the same weights or are the same function."""
    return config is not None and any(_identity(given) == _identity(partner) for given in config.partners)


def _identity(pinned: str) -> str:
    return pinned.rpartition("@")[2]
