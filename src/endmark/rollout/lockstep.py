"""K environments in lockstep, wherever they are: one batched forward pass a step, whole episodes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from endmark.envs import Frame, Step
from endmark.episodes import EpisodeBatch, EpisodeBuilder, EpisodeSpec
from endmark.policies.policy import Policy


@runtime_checkable
class Stage(Protocol):
    """Where K environments are played: here, or in worker processes.

    None in the place of a frame or a step says that the episode is lost; another can begin there.
    """

    def reset(self, seeds: Mapping[int, int]) -> None:
        """Begin an episode from its seed in each of these environments; `frames` gives the first frames."""
        ...

    def frames(self, running: Sequence[bool]) -> Iterable[tuple[int, Frame | None]]:
        """The first frame of each episode begun since the last call; None for a running one that is lost."""
        ...

    def step(
        self, actions: npt.NDArray[np.int64], running: Sequence[bool]
    ) -> Iterable[tuple[int, Step | None]]:
        """Act, [K, N], where an episode is running; what came of it, in the order of the environments.

        What is given is read before the next is asked for.
        """
        ...

    def close(self) -> None:
        """Close the environments."""
        ...


class Lockstep:
    """Plays in K environments and hands over every episode whole, when it has ended.

    seeds: each episode starts from the next of these, so it can be played again by itself; when they are
    used up, environments fall idle as their episodes end. All further randomness is the policy's.
    env_steps: all steps taken, also those of episodes that are still running or were lost.
    episodes: those handed over.
    """

    def __init__(self, stage: Stage, n_envs: int, spec: EpisodeSpec, seeds: Iterable[int]) -> None:
        self.env_steps = 0
        self.episodes = 0
        self._stage = stage
        self._seeds = iter(seeds)
        self._builders = [EpisodeBuilder(spec) for _ in range(n_envs)]
        # What the policy sees: one row an environment, the same memory at every step.
        self._obs = np.zeros((n_envs, *spec.fields["obs"].shape), dtype=np.float32)
        self._avail_actions = np.zeros((n_envs, *spec.fields["avail_actions"].shape), dtype=np.bool_)
        self._first = np.ones(n_envs, dtype=np.bool_)
        self._inputs = [torch.from_numpy(a) for a in (self._obs, self._avail_actions, self._first)]
        self._running = [False] * n_envs
        self._begin(range(n_envs))

    @property
    def running(self) -> bool:
        """Whether any environment is in an episode."""
        return any(self._running)

    def collect(self, policy: Policy) -> list[EpisodeBatch]:
        """Step the environments until an episode ends; the episodes that have, one batch each.

        Empty when nothing is running any more.
        """
        finished: list[EpisodeBatch] = []
        while self.running and not finished:
            finished = self._step(policy)
        self.episodes += len(finished)
        return finished

    def close(self) -> None:
        """Close the environments."""
        self._stage.close()

    def __enter__(self) -> Lockstep:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _step(self, policy: Policy) -> list[EpisodeBatch]:
        self._see_first_frames()
        actions = policy.act(*self._inputs).cpu().numpy()
        self._first[:] = False
        finished, over = [], []
        for k, step in self._stage.step(actions, self._running):
            if step is None:
                over.append(k)
                continue
            self.env_steps += 1
            builder = self._builders[k]
            builder.add({"actions": actions[k], "reward": step.reward}, **step.frame._asdict())
            if step.terminated or step.truncated:
                finished.append(builder.finish(terminated=step.terminated))
                over.append(k)
            else:
                self._see(k, step.frame)
        self._begin(over)
        return finished

    def _begin(self, over: Iterable[int]) -> None:
        """Start an episode in each of these environments, as long as there are seeds."""
        seeds = {k: seed for k in over if (seed := next(self._seeds, None)) is not None}
        for k in over:
            self._first[k] = True
            self._running[k] = k in seeds
        self._stage.reset(seeds)

    def _see_first_frames(self) -> None:
        """See how the episodes start that were begun last; where one was lost, begin another."""
        lost = []
        for k, frame in self._stage.frames(self._running):
            if frame is None:
                lost.append(k)
            else:
                self._builders[k].begin(**frame._asdict())
                self._see(k, frame)
        if lost:
            self._begin(lost)
            self._see_first_frames()

    def _see(self, k: int, frame: Frame) -> None:
        self._obs[k] = frame.obs
        self._avail_actions[k] = frame.avail_actions
