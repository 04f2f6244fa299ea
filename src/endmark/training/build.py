"""A run's parts, made from its configuration."""

from __future__ import annotations

import re
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch

from endmark.algorithms import Learner
from endmark.envs import BatchedEnvironment, Environment, close_all, make, make_batched
from endmark.episodes import EpisodeSpec
from endmark.episodes.memory import GIB
from endmark.policies import with_seats
from endmark.rollout import InProcess, VectorEnv, Workers
from endmark.training.config import TrainConfig

Envs = VectorEnv | BatchedEnvironment


def make_envs(config: TrainConfig[Any], n_envs: int) -> Envs:
    """So many of the run's environments: one program, in this process, or in its workers.

    To be closed by the caller.
    """
    batched = make_batched(config.env, n_envs, episode_limit=config.episode_limit, **config.env_args)
    if batched is not None:
        if config.workers > 0:
            raise ValueError(
                f"workers: given {config.workers}, want 0: '{config.env}' is one program for all"
            )
        return batched
    make_env = partial(make, config.env, episode_limit=config.episode_limit, **config.env_args)
    if config.workers == 0:
        envs: list[Environment] = []
        with ExitStack() as stack:  # which closes those that were made, if one cannot be
            stack.callback(close_all, envs)
            for _ in range(n_envs):
                envs.append(make_env())  # noqa: PERF401 - a list made at once would not be there to be closed
            stack.pop_all()
        return InProcess(envs)
    return Workers(
        make_env,
        env_spec(config),
        workers=config.workers,
        envs_per_worker=n_envs // config.workers,
        timeout=config.worker_timeout,
    )


def env_spec(config: TrainConfig[Any]) -> EpisodeSpec:
    """The spec of the run's environments, for which one is made and closed."""
    env = make(config.env, episode_limit=config.episode_limit, **config.env_args)
    try:
        return env.spec
    finally:
        close_all([env])


def make_learner(config: TrainConfig[Any], spec: EpisodeSpec) -> Learner:
    """The run's learner for environments of this spec, untrained, on its device."""
    spec = with_seats(spec) if config.partners else spec
    torch.set_num_threads(config.threads)
    device = _device(config.device)
    torch.manual_seed(config.seed)
    try:
        learner: Learner = config.algorithm.learner(spec, device)
    except (RuntimeError, MemoryError) as error:
        if (size := _refused_size(error)) is None:
            raise
        settings = vars(config.algorithm).items()
        sizes = ", ".join(f"{name} {value}" for name, value in settings if name.endswith("_size"))
        raise ValueError(
            f"the networks do not fit into the memory of {device}{size}; given {sizes}"
        ) from error
    return learner


def _refused_size(error: Exception) -> str | None:
    """The size that torch could not allocate, read from its message; None if the error is another one."""
    words = r"allocate (?:more than )?(\d+) ?(B|bytes|MiB|GiB|TiB)|out of memory|overflow"
    found = re.search(words, str(error))
    if found is None:
        return None
    if found[1] is None:
        return ""
    power = {"MiB": 2, "GiB": 3, "TiB": 4}.get(found[2], 0)
    return f": one tensor of {int(found[1]) * 1024**power / GIB:.1f} GiB"


def generator(config: TrainConfig[Any], *use: int) -> torch.Generator:
    """A generator of random numbers for this run and this use, independent of those for other uses."""
    state = np.random.SeedSequence([config.seed, *use]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))


def _device(wanted: str) -> torch.device:
    name = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # some devices hold no numbers, such as meta
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: given '{name}': {str(error).splitlines()[0]}") from None
    return device
