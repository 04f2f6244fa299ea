"""Parts that the mutants share: the type `Mutant`, small batches, small networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from endmark.audit import Case, hard_batch
from endmark.episodes import EpisodeSpec, Field, step_mask

Batch = Mapping[str, Tensor]
Module = TypeVar("Module", bound=nn.Module)

GAMMA = 0.9
HIDDEN = 8
N_ACTIONS = 3
N_OBS = 4
LIMIT = 7


@dataclass(frozen=True)
class Mutant:
    """One bug of the field and its right twin.

    bug: a sentence. probes: the probes that may flag it, and first the one that was made for it.
    make: `make(True, seed)` is the right twin, `make(False, seed)` the mutant, on the same batch and weights.
    """

    name: str
    bug: str
    probes: tuple[str, ...]
    make: Callable[[bool, int], Case]


def mutant(bug: str, probes: tuple[str, ...]) -> Callable[[Callable[[bool, int], Case]], Mutant]:
    """A decorator: makes a `Mutant` of a function `make(right, seed)`, with the function's name."""
    return lambda make: Mutant(make.__name__, bug, probes, make)


def float64(case: Case) -> Case:
    """The same in double precision, for losses whose terms cancel out to nearly nothing."""
    modules = [case.modules] if isinstance(case.modules, nn.Module) else case.modules
    for module in modules:
        module.double()
    assert isinstance(case.batch, Mapping)
    batch = {name: x.double() if x.is_floating_point() else x for name, x in case.batch.items()}
    return replace(case, batch=batch)


# Batches.

SOLO = EpisodeSpec.of(n_agents=1, n_actions=N_ACTIONS, episode_limit=LIMIT, obs_shape=(N_OBS,))
STORED = EpisodeSpec.of(
    n_agents=1,
    n_actions=N_ACTIONS,
    episode_limit=LIMIT,
    obs_shape=(N_OBS,),
    extra={"hidden": Field((HIDDEN,), torch.float32)},
)
TEAM = EpisodeSpec.of(n_agents=2, n_actions=N_ACTIONS, episode_limit=LIMIT, obs_shape=(N_OBS,))


def solo(seed: int, *names: str, spec: EpisodeSpec = SOLO) -> dict[str, Tensor]:
    """One agent, without an axis for it: `obs` (B, T+1, 4), `actions` and `reward` (B, T+1).

    Only the named fields, and the flags `filled` and `terminated`, which are (B, T+1, 1) everywhere.
    """
    padded = hard_batch(spec, seed)
    squeezed = {
        "obs": padded["obs"].squeeze(2),
        "avail_actions": padded["avail_actions"].squeeze(2),
        "actions": padded["actions"][..., 0, 0],
        "reward": padded["reward"].squeeze(2),
    }
    return flags(padded) | {name: squeezed.get(name, padded[name]) for name in names}


def team(seed: int, *names: str) -> dict[str, Tensor]:
    """Two agents, as PyMARL stores them: `obs` (B, T+1, N, 4), `actions` (B, T+1, N, 1)."""
    padded = hard_batch(TEAM, seed)
    return flags(padded) | {name: padded[name] for name in names}


def flags(padded: Batch) -> dict[str, Tensor]:
    return {name: padded[name] for name in ("filled", "terminated")}


def real(batch: Batch) -> Tensor:
    """The real steps, (B, T) bool."""
    return step_mask(batch["filled"], batch["terminated"]).squeeze(2)


def ended(batch: Batch) -> Tensor:
    """The steps that terminated, (B, T) bool."""
    return batch["terminated"][:, :-1, 0] != 0


def refuse_empty(mask: Tensor) -> None:
    if not mask.any():
        raise ValueError("the batch holds no real step")


def mean_over(mask: Tensor, x: Tensor) -> Tensor:
    """The mean of x where the mask is set; 0 if it is set nowhere."""
    return x[mask].sum() / mask.sum().clamp(min=1)


# Networks.


def seeded(seed: int, make: Callable[[], Module]) -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def mlp(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, n_out))


class Recurrent(nn.Module):
    """A GRU over (B, T, n_in) and a linear layer on top: (B, T, n_out)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.gru = nn.GRU(n_in, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, n_out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.gru(x)[0])
        return y


class ActorCritic(nn.Module):
    """Logits and a value of each observation."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = mlp(N_OBS, N_ACTIONS)
        self.critic = mlp(N_OBS, 1)

    def log_probs(self, obs: Tensor) -> Tensor:
        log_probs: Tensor = self.actor(obs).log_softmax(-1)
        return log_probs

    def value(self, obs: Tensor) -> Tensor:
        value: Tensor = self.critic(obs).squeeze(-1)
        return value


def pick(x: Tensor, index: Tensor) -> Tensor:
    """x[..., index]: the entry of the last axis that was chosen."""
    return x.gather(-1, index[..., None]).squeeze(-1)
