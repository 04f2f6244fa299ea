"""The contract of a rollout: from a policy and environments to whole episodes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol, runtime_checkable

import torch
from torch import Tensor

from endmark.episodes import EpisodeBatch, EpisodeSpec, Field, Seen
from endmark.policies import Policy


class Stopped(Exception):
    """The rollout was asked to stop before an episode ended."""


class ReplayWarning(UserWarning):
    """A running episode could not be played again as it was."""


@runtime_checkable
class Rollout(Protocol):
    """Plays environments, and hands over every episode whole when it has ended.

    spec: what is stored.
    env_steps: all steps taken, also those of episodes that are still running or were lost.
    episodes: those handed over. ended_seeds: the seeds of those that the last `collect` handed over.
    exact: False once a running episode could not be played again (`load_state_dict`).
    metrics: what there is to log of the last `collect`, beside its episodes.
    """

    spec: EpisodeSpec
    env_steps: int
    episodes: int
    ended_seeds: list[int]
    exact: bool

    @property
    def metrics(self) -> Mapping[str, float]:
        """What there is to log of the last `collect`."""
        ...

    @property
    def running(self) -> bool:
        """Whether any environment is in an episode."""
        ...

    def collect(self, policy: Policy) -> EpisodeBatch:
        """Step the environments until an episode ends; the episodes that have, in one batch.

        ValueError if the policy's outputs are not those of the spec. EnvError if an environment fails or
        breaks its contract. RuntimeError if nothing is running any more. `Stopped` if the rollout is to stop.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Counters, and each running episode as its seed and what the policy has done in it so far."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`: the running episodes are played again from their seeds."""
        ...


def warn_of_others(numbers: Sequence[int], whose: str = "environments") -> None:
    """Warn that the running episodes of these environments were not the same when played again."""
    warnings.warn(
        f"{whose} {list(numbers)}: their running episodes were not the same when played again, and are "
        f"dropped: the run goes on, but not exactly as it would have",
        ReplayWarning,
        stacklevel=3,
    )


def nothing_runs() -> RuntimeError:
    """The error for a rollout that has neither an episode nor a seed to begin one from."""
    return RuntimeError("collect: no episode is running, and there is no seed to begin one from")


def outputs_of(
    policy: Policy, seen: Seen, want: Mapping[str, Field], device: torch.device
) -> dict[str, Tensor]:
    """What a policy gives at a frame of K environments, on this device and in the dtypes of these fields.

    ValueError for other fields, and for one of another shape than [K, *field.shape].
    """
    given = policy.act(seen)
    if given.keys() != want.keys():
        _refuse(policy, given, want)
    n_envs, outputs = len(seen.first), {}
    for name, tensor in given.items():
        shape = (n_envs, *want[name].shape)
        if tensor.shape != shape:
            who = f"{type(policy).__name__}.act: '{name}'"
            raise ValueError(f"{who}: given shape {tuple(tensor.shape)}, want {shape}")
        outputs[name] = tensor.to(device, want[name].dtype)
    return outputs


def _refuse(policy: Policy, given: Mapping[str, Any], want: Mapping[str, Field]) -> NoReturn:
    who, wants = type(policy).__name__, ", ".join(sorted(want))
    if missing := want.keys() - given.keys():
        raise ValueError(f"{who}.act: gave no '{min(missing)}', want {wants}")
    unknown = min(given.keys() - want.keys())
    raise ValueError(f"{who}.act: gave '{unknown}', which is not in the learner's spec, want {wants}")
