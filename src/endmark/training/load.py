"""A run taken up again for evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from endmark.algorithms import Learner
from endmark.run import WEIGHTS, RunError, read_checkpoint, read_config
from endmark.training.build import env_spec, make_learner
from endmark.training.config import TrainConfig, from_json


def load_config(directory: Path) -> TrainConfig[Any]:
    """A run's configuration; RunError if it cannot be read."""
    raw = read_config(directory)
    try:
        return from_json(raw)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{directory / 'config.json'} does not fit this version of endmark: {error}") from None


def load(directory: Path, checkpoint: str = WEIGHTS) -> tuple[TrainConfig[Any], Learner]:
    """A run's configuration and its learner as of a checkpoint, `WEIGHTS` or `BEST` of `endmark.run`.

    RunError if they cannot be read, or if a weight is not finite: such a network only seems to act.
    """
    config = load_config(directory)
    counters, tensors = read_checkpoint(directory, checkpoint)
    path = directory / checkpoint
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not (finite := tensor.isfinite()).all():
            first = finite.logical_not().nonzero()[0].tolist()
            given = tensor[tuple(first)].item()
            raise RunError(f"{path}: '{name}' at {first}: given {given}, want finite numbers")
    learner = make_learner(config, env_spec(config))
    try:
        learner.networks.load_state_dict(tensors)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise RunError(f"{path} does not fit the run's config: {problem}") from None
    learner.updates = counters.updates
    return config, learner
