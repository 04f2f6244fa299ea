"""A run taken up again for evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from endmark.algorithms import Learner
from endmark.run import CONFIG, WEIGHTS, RunError, read_checkpoint, read_config
from endmark.training.build import env_spec, make_learner
from endmark.training.config import TrainConfig, from_json
from endmark.wording import joined, quoted


def load_config(directory: Path) -> TrainConfig[Any]:
    """A run's configuration; RunError if it cannot be read."""
    raw = read_config(directory)
    try:
        return from_json(raw)
    except (TypeError, ValueError, OverflowError) as error:
        raise RunError(
            f"{directory / CONFIG} does not fit this version of endmark: {joined(error)}"
        ) from None


def load(
    directory: Path, checkpoint: str = WEIGHTS, *, device: str | None = None
) -> tuple[TrainConfig[Any], Learner]:
    """A run's configuration and its learner as of a checkpoint, `WEIGHTS` or `BEST` of `endmark.run`.

    device: where the networks are; None: where the run had them.
    RunError if they cannot be read, or if a weight is not finite: such a network only seems to act.
    """
    config = load_config(directory)
    config = config if device is None else replace(config, device=device)
    counters, tensors = read_checkpoint(directory, checkpoint)
    path = directory / checkpoint
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not (finite := tensor.isfinite()).all():
            first = finite.logical_not().nonzero()[0].tolist()
            given = tensor[tuple(first)].item()
            raise RunError(f"{path}: {quoted(name)} at {first}: given {given}, want finite numbers")
    learner = make_learner(config, env_spec(config))
    wants = learner.networks.state_dict()
    for name in sorted(wants.keys() | tensors.keys()):
        stored, fits = _describe(tensors.get(name)), _describe(wants.get(name))
        if stored != fits:
            raise RunError(
                f"{path} does not fit the run's config: {quoted(name)}: given {stored}, want {fits}"
            )
    learner.networks.load_state_dict(tensors)
    learner.updates = counters.updates
    return config, learner


def _describe(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"
