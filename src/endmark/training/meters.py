"""Running means of metrics, and what is due when."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from endmark.episodes import EpisodeBatch
from endmark.rollout import episode_returns

METRICS: Mapping[str, str] = {
    "env_steps": "environment steps so far",
    "episodes": "episodes that have ended so far",
    "updates": "updates of the learner so far",
    "seconds": "since the start of the run, pauses between a stop and a resume left out",
    "episode_return": "mean return of the episodes that ended since the last such line",
    "episode_length": "mean steps of these episodes",
    "episode_win": "mean of their outcome `win`, where the environment names one; other outcomes likewise",
    "epsilon": "share of random actions, as the policy's schedule sets it",
    "noise": "deviation of the noise on vectors as actions, as the policy's schedule sets it",
    "staleness": "with Ray actors: updates that an episode's first weights were behind at its end",
    "greedy_return": "of an evaluation: mean return",
    "greedy_length": "of an evaluation: mean steps",
    "greedy_terminated": "of an evaluation: share of episodes that terminated rather than being cut off",
    "greedy_win": "of an evaluation: mean of the outcome `win`; other outcomes likewise",
}
"""What every run may log, by its key in `metrics.jsonl`. A config's `METRICS` has what its learner adds."""


class EverySeconds:
    """True whenever so many seconds have passed since it was last true."""

    def __init__(self, period: float) -> None:
        self.period, self._last = period, time.monotonic()

    def __call__(self) -> bool:
        """Whether it is due now."""
        now = time.monotonic()
        if now - self._last < self.period:
            return False
        self._last = now
        return True


class Every:
    """What is due whenever another `period` environment steps have passed, and once more at the end."""

    def __init__(self, period: int) -> None:
        self.period = self._next = period
        self._last = 0

    def due(self, steps: int, *, at_the_end: bool = False) -> bool:
        """Whether it is due at this many environment steps, and stays due until `done`."""
        return steps >= self._next or (at_the_end and steps > self._last)

    def done(self, steps: int) -> None:
        """It was done at this many environment steps."""
        self._last, self._next = steps, (steps // self.period + 1) * self.period

    def state_dict(self) -> dict[str, Any]:
        """When it was done last, and when it is due next."""
        return {"last": self._last, "next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._last, self._next = int(state["last"]), int(state["next"])


def episode_metrics(episodes: EpisodeBatch) -> list[dict[str, float]]:
    """Of each episode `episode_return`, `episode_length` and the outcomes, such as `episode_win`."""
    columns = {"return": episode_returns(episodes), "length": episodes.lengths.tolist()}
    columns |= {name: episodes.outcome(name).tolist() for name in episodes.spec.outcomes}
    names = [f"episode_{name}" for name in columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class Meters:
    """Means of what was added since the last `pop`. Tensors stay on their device until then."""

    def __init__(self) -> None:
        self._values: dict[str, list[float | Tensor]] = {}

    def add(self, *metrics: Mapping[str, float | Tensor]) -> None:
        """Add one value for each name."""
        for name, value in itertools.chain.from_iterable(each.items() for each in metrics):
            self._values.setdefault(name, []).append(value)

    def pop(self) -> dict[str, float]:
        """The mean of each name's values, which are forgotten."""
        means = {name: sum(map(float, values)) / len(values) for name, values in self._values.items()}
        self._values.clear()
        return means

    def state_dict(self) -> dict[str, Any]:
        """The values added since the last `pop`."""
        return {name: [float(value) for value in values] for name, values in self._values.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._values = {name: list(values) for name, values in state.items()}
