"""The episodes that a run directory holds, also that of a run which was killed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from endmark.episodes import EpisodeBatch
from endmark.episodes.files import FileError, load_episodes
from endmark.run import REPLAY
from endmark.training import load_config
from endmark.training.build import env_spec, make_learner
from endmark.training.state_file import STATE, load_state
from endmark.wording import joined


class NoEpisodesError(FileError):
    """A run that has not stored an episode yet."""


def run_episodes(directory: Path) -> EpisodeBatch:
    """The newest episodes: those stored at a run's end, or else those of the state that it saved last.

    For the state's, the run's environment and learner are made: their spec says what the fields are.
    NoEpisodesError if there are no episodes; FileError or RunError, one line, for a file that is damaged.
    """
    replay, saved = directory / REPLAY, directory / STATE
    if replay.exists() and not (saved.exists() and saved.stat().st_mtime_ns > replay.stat().st_mtime_ns):
        return load_episodes(replay)
    if not saved.exists():
        raise NoEpisodesError(
            f"{directory}: no episodes are stored yet: a run stores them in {STATE} every --save-every "
            f"seconds and at its end, and then in {REPLAY}, too"
        )
    state = load_state(directory)
    config = dataclasses.replace(load_config(directory), device="cpu")
    spec = make_learner(config, env_spec(config)).spec
    store = config.algorithm.store(spec, torch.Generator(), None)
    try:
        store.load_state_dict(state["store"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FileError(f"{saved} does not fit the run's config: {joined(error)}") from None
    held: EpisodeBatch | None = store.episodes()
    if held is None:
        raise NoEpisodesError(f"{directory}: no episodes are stored: none waited at the last save")
    return held
