"""A game for four whose every frame depends on all that was done before; `support.tables:Tables`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from endmark.envs import End, Frame, Step
from endmark.episodes import EpisodeSpec, Seen

LIMIT = 9


def length_of(seed: int) -> int:
    """The steps of the episode with this seed, 1 to LIMIT."""
    return 1 + (seed * 5) % LIMIT


class Tables:
    """A function of the seed and the actions. The last agent leaves after its fourth step.

    Observations, legal actions and rewards are drawn from the seed and all actions so far, so one action that
    is another one shows in everything that follows. A seed that is a multiple of 3 is cut off.
    """

    def __init__(
        self, n_agents: int = 4, obs_size: int = 6, n_actions: int = 5, reward_per_agent: bool = True
    ) -> None:
        self.spec = EpisodeSpec.of(
            n_agents=n_agents,
            n_actions=n_actions,
            episode_limit=LIMIT,
            obs_shape=(obs_size,),
            reward_per_agent=reward_per_agent,
            outcomes=("win",),
        )
        self._shape = n_agents, obs_size, n_actions

    def reset(self, seed: int | None = None) -> Frame:
        assert seed is not None, "rollouts give a seed"
        self._seed = seed % 1009
        self._done: list[int] = []
        self._t = 0
        return self._frame()

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        n_agents = self._shape[0]
        assert all(self._legal[n, actions[n]] for n in range(n_agents) if self._alive[n]), "illegal"
        self._done += np.where(self._alive, actions + 1, 0).tolist()
        self._t += 1
        frame, reward = self._frame(), self._draws().normal(size=n_agents).astype(np.float32)
        end: End | None = None
        if self._t == length_of(self._seed):
            end = "terminated" if self._seed % 3 else "truncated"
        paid = reward if self.spec.reward_per_agent else np.float32(reward.sum())
        return Step(frame, paid, end, {} if end is None else {"win": float(self._seed % 2)})

    def close(self) -> None:
        pass

    def _draws(self) -> np.random.Generator:
        return np.random.default_rng([self._seed, *self._done])

    def _frame(self) -> Frame:
        n_agents, obs_size, n_actions = self._shape
        draws = self._draws()
        self._alive = np.ones(n_agents, np.bool_)
        self._alive[-1] = self._t < 4
        self._legal = draws.random((n_agents, n_actions)) < 0.6
        self._legal[np.arange(n_agents), draws.integers(n_actions, size=n_agents)] = True
        self._legal &= self._alive[:, None]
        return Frame(
            draws.normal(size=(n_agents, obs_size)).astype(np.float32), self._legal, self._alive.copy()
        )


def wishes(seen: Seen, generator: torch.Generator) -> Tensor:
    """A script that draws nothing: the legal action that the observation points to most."""
    n_actions = seen.legal.shape[2]
    wish = seen.obs[..., :1] * torch.arange(1, n_actions + 1)
    return torch.where(seen.legal, wish.sin(), -2.0).argmax(-1)


# Scripts with faults.


def raises(seen: Seen, generator: torch.Generator) -> Tensor:
    raise KeyError("no such plan")


def leaves(seen: Seen, generator: torch.Generator) -> Tensor:
    raise SystemExit(0)


def flat(seen: Seen, generator: torch.Generator) -> Tensor:
    return wishes(seen, generator)[:, 0]


def floats(seen: Seen, generator: torch.Generator) -> Tensor:
    return wishes(seen, generator).float()


def nothing(seen: Seen, generator: torch.Generator) -> None:
    return None


def too_high(seen: Seen, generator: torch.Generator) -> Tensor:
    return torch.full_like(seen.alive, 7, dtype=torch.int64)


def negative(seen: Seen, generator: torch.Generator) -> Tensor:
    return torch.full_like(seen.alive, -1, dtype=torch.int64)


def illegal(seen: Seen, generator: torch.Generator) -> Tensor:
    return seen.legal.int().argmin(-1)


not_a_function = 3
