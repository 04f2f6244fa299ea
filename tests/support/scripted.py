"""An environment whose episodes are known beforehand, and that keeps a log of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from endmark.envs import End, Frame, Step
from endmark.episodes import EpisodeSpec, Seen

LIMIT = 9


@dataclass
class Log:
    """One episode as the environment saw it."""

    seed: int
    frames: list[dict[str, npt.NDArray[Any]]] = field(default_factory=list)
    actions: list[npt.NDArray[np.int64]] = field(default_factory=list)
    reward: list[npt.NDArray[np.float32]] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False


def length_of(seed: int) -> int:
    """The steps of the episode with this seed, 1 to LIMIT."""
    return 1 + (seed * 5) % LIMIT


def terminates(seed: int) -> bool:
    """Whether that episode terminates rather than being cut off."""
    return seed % 3 != 0


def outcomes_of(seed: int) -> dict[str, float]:
    """The outcomes of the episode with this seed, where they are asked for."""
    return {"win": float(seed % 4 == 0), "score": seed / 8}


class Scripted:
    """Two agents; the seed alone decides what is seen and when it ends, also early by a truncation.

    outcomes: whether it names outcomes, `win` and `score`.

    Every frame is written into the same arrays, as an environment may.
    """

    def __init__(self, *, reward_per_agent: bool = False, outcomes: bool = False) -> None:
        self.spec = EpisodeSpec.of(
            n_agents=2,
            n_actions=4,
            episode_limit=LIMIT,
            obs_shape=(3,),
            state_shape=(2,),
            reward_per_agent=reward_per_agent,
            outcomes=("win", "score") if outcomes else (),
        )
        self.logs: list[Log] = []
        self._reward = np.zeros(2 if reward_per_agent else (), dtype=np.float32)
        self._frame = Frame(
            obs=np.zeros((2, 3), dtype=np.float32),
            avail_actions=np.zeros((2, 4), dtype=np.bool_),
            alive=np.zeros(2, dtype=np.bool_),
            state=np.zeros(2, dtype=np.float32),
        )

    def reset(self, seed: int | None = None) -> Frame:
        assert seed is not None, "rollouts give a seed"
        self.logs.append(Log(seed))
        self._t = 0
        return self._see()

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        log, legal = self.logs[-1], self._frame.legal
        assert not log.terminated, "stepped after the end"
        assert not log.truncated, "stepped after the end"
        assert actions.shape == (2,)
        assert actions.dtype == np.int64
        assert all(legal[n, actions[n]] for n in range(2) if self._frame.alive[n]), "an illegal action"
        self._t += 1
        self._reward[...] = np.float32(log.seed + self._t / 16) + (np.arange(2) if self._reward.ndim else 0)
        log.actions.append(actions.copy())
        log.reward.append(self._reward.copy())
        if self._t == length_of(log.seed):
            log.terminated, log.truncated = terminates(log.seed), not terminates(log.seed)
        end: End | None = "terminated" if log.terminated else "truncated" if log.truncated else None
        if end is None or not self.spec.outcomes:
            return Step(self._see(), self._reward, end)
        return Step(self._see(), self._reward, end, outcomes_of(log.seed))

    def close(self) -> None:
        pass

    def _see(self) -> Frame:
        log, t = self.logs[-1], self._t
        self._frame.obs[:] = np.arange(6).reshape(2, 3) / 8 + log.seed + 100 * t
        self._frame.alive[:] = [True, t < 4]
        self._frame.legal[:] = (np.arange(8).reshape(2, 4) + log.seed + t) % 3 > 0
        self._frame.legal[1] &= self._frame.alive[1]
        assert self._frame.state is not None
        self._frame.state[:] = [log.seed, t]
        log.frames.append({name: array.copy() for name, array in self._frame._asdict().items()})
        return self._frame


class ByObservation:
    """Acts by the observation alone; writes down what it was given. A `Policy`."""

    def __init__(self) -> None:
        self.first: list[Tensor] = []
        self.obs: list[Tensor] = []

    def act(self, seen: Seen) -> dict[str, Tensor]:
        self.first.append(seen.first.clone())
        self.obs.append(seen.obs.clone())
        wish = (seen.obs.sum(-1).long()[..., None] + torch.arange(4)) % 5
        return {"actions": torch.where(seen.legal, wish, -1).argmax(-1)}

    def schedule(self, env_steps: int) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def logs_by_seed(envs: Sequence[Scripted]) -> dict[int, Log]:
    """The logs of all episodes that ended."""
    return {log.seed: log for env in envs for log in env.logs if log.terminated or log.truncated}


class Winnable(Scripted):
    """Names outcomes, and can be made and trained on by its id: its episodes are those of seeds below 40."""

    def __init__(self) -> None:
        super().__init__(outcomes=True)

    def reset(self, seed: int | None = None) -> Frame:
        return super().reset(None if seed is None else seed % 40)
