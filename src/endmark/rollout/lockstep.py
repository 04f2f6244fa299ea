"""From a policy and K environments to whole episodes: one batched forward pass a step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from endmark.envs import End, Frame, Step
from endmark.envs.protocol import frame_of
from endmark.episodes import EpisodeBatch, EpisodeSpec, Seen, no_action
from endmark.episodes.builders import EpisodeBuilders
from endmark.policies import Policy
from endmark.rollout.checked import SeenCheck, check_ended, ended_soundly
from endmark.rollout.rollout import Stopped, nothing_runs, outputs_of, warn_of_others
from endmark.rollout.seeds import EpisodeSeeds
from endmark.rollout.vector import VectorEnv


class Lockstep:
    """Plays K environments side by side, and hands over every episode whole when it has ended. A `Rollout`.

    seeds: each episode starts from the next of these, so that it can be played again by itself. When they are
        used up, environments fall idle as their episodes end.
    spec: what is stored. The fields that the environments do not give come from the policy; a policy that
        forgets one, or gives one that is not in the spec, is refused. By default what the environments give.
    retry: play a lost episode again from its seed, rather than drop it.
    stop: asked before every step; once it says True, `collect` raises `Stopped`. The rollout can go on from
        where it is, as can one that loads its `state_dict`.

    env_steps: all steps taken, also those of episodes that are still running or were lost.
    exact: False once a running episode could not be played again (`load_state_dict`).
    episodes: those handed over. ended_seeds: the seeds of those that the last `collect` handed over.
    """

    def __init__(
        self,
        envs: VectorEnv,
        seeds: Iterable[int],
        spec: EpisodeSpec | None = None,
        *,
        retry: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.metrics: Mapping[str, float] = {}
        self.env_steps = 0
        self.episodes = 0
        self.exact = True
        self.ended_seeds: list[int] = []
        self.spec = spec or envs.spec
        self._envs, self._seeds, self._retry, self._stop = envs, seeds, retry, stop
        self._next_seed = iter(seeds)
        from_policy = sorted(self.spec.fields.keys() - envs.spec.fields.keys() | {"actions"})
        self._from_policy = {name: self.spec.fields[name] for name in from_policy}
        n_envs = envs.n_envs
        self._builders = EpisodeBuilders(self.spec, n_envs, torch.device("cpu"))
        self._seed_of: list[int | None] = [None] * n_envs  # of the episode that is running there
        self._running = [False] * n_envs
        # What environments give, with a row for each, in the same memory at every step.
        self._frames = {name: self._zeros(name) for name in Frame._fields if name in envs.spec.fields}
        self._results = {name: self._zeros(name) for name in ("reward", *self.spec.outcomes)}
        self._frame_rows = {name: tensor.numpy() for name, tensor in self._frames.items()}
        self._result_rows = {name: tensor.numpy() for name, tensor in self._results.items()}
        # An environment's rows and their places in a `Frame`, looked up once: this is the innermost loop.
        places = [(rows, Frame._fields.index(name)) for name, rows in self._frame_rows.items()]
        self._rows_of = [[(rows[k], i) for rows, i in places] for k in range(n_envs)]
        self._seen_check = SeenCheck(envs.spec, self._frame_rows)
        self._last_actions = self._zeros("actions")
        self._no_action = no_action(self._last_actions)
        self._seen = Seen(
            self._frames["obs"],
            self._frames.get("avail_actions"),
            self._frames["alive"],
            self._frames.get("state"),
            torch.ones(n_envs, dtype=torch.bool),
            self._last_actions,
            torch.zeros(n_envs, dtype=torch.int64),
        )
        self._first, self._seeds_seen = self._seen.first.numpy(), self._seen.seed.numpy()
        self._begin(range(n_envs))

    @property
    def running(self) -> bool:
        """Whether any environment is in an episode."""
        return any(self._running)

    def collect(self, policy: Policy) -> EpisodeBatch:
        """Step the environments until an episode ends; the episodes that have, in one batch.

        ValueError if the policy's outputs are not those of the spec. EnvError if an environment fails or
        breaks its contract: what a policy sees, rewards and final frames hold no NaN or infinity, and an
        agent that is alive has a legal action, but at the final frame of a terminated episode. RuntimeError
        if nothing is running any more, as the seeds are used up. `Stopped` if the rollout is to stop.
        """
        self.ended_seeds = []
        while self.running:
            if self._stop():
                raise Stopped
            if (episodes := self._step(policy)) is not None:
                self.episodes += episodes.n_episodes
                return episodes
        raise nothing_runs()

    def state_dict(self) -> dict[str, Any]:
        """Counters, and each running episode as its seed and what the policy has done in it so far."""
        running: list[dict[str, Any]] = []
        for k, seed in enumerate(self._seed_of):
            if seed is not None:
                steps = self._builders.steps(k, self._from_policy)
                running.append({"env": k, "seed": seed, "steps": steps, "checksum": self._checksum(k)})
        seeds = self._seeds.state_dict() if isinstance(self._seeds, EpisodeSeeds) else {}
        return {
            "seeds": seeds,
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "exact": self.exact,
            "running": running,
            "first": self._first.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`: the running episodes are played again from their seeds.

        One that is lost on the way makes way for another, as always; with `retry` it begins anew. So does one
        that gives other frames or rewards than before, or ends early: it is no function of its seed and the
        actions. A `ReplayWarning` says so, and `exact` is False from then on.
        """
        n_envs = len(self._running)
        if len(state["first"]) != n_envs:
            raise ValueError(f"load_state_dict: given {len(state['first'])} environments, want {n_envs}")
        for _ in self._envs.first_frames(self._running):
            pass  # of the episodes that this rollout began with
        self.exact = bool(state["exact"])
        if isinstance(self._seeds, EpisodeSeeds):
            self._seeds.load_state_dict(state["seeds"])
        seeds = {int(episode["env"]): int(episode["seed"]) for episode in state["running"]}
        steps = {int(episode["env"]): episode["steps"] for episode in state["running"]}
        checksums = {int(episode["env"]): int(episode["checksum"]) for episode in state["running"]}
        self._start(seeds, range(n_envs))
        while True:
            self._see_first_frames()
            steps = {k: played for k, played in steps.items() if self._seed_of[k] == seeds[k]}
            lost = self._play_again(steps)
            if not lost:
                break
            # A worker that failed has also lost where it was in episodes that had been played again already.
            others = {k: seed for k, seed in enumerate(self._seed_of) if k not in lost and seed is not None}
            steps = {k: played for k, played in steps.items() if k not in lost}
            self._start(others | self._draw(lost), range(n_envs))
        self._first[:] = [first or k not in steps for k, first in enumerate(state["first"])]
        other = [k for k in steps if checksums[k] not in (0, self._checksum(k))]
        if other:
            self.exact = False
            warn_of_others(other)
            self._begin(other)
        self.env_steps, self.episodes = int(state["env_steps"]), int(state["episodes"])

    def _play_again(self, steps: Mapping[int, Mapping[str, Any]]) -> list[int]:
        """Do once more what the policy did in these environments; those where the episode was lost."""
        lost: list[int] = []
        over: list[int] = []  # also those that ended, which they did not before
        lengths = {k: len(played["actions"]) for k, played in steps.items()}
        for t in range(max(lengths.values(), default=0)):
            again = [t < lengths.get(k, 0) and k not in over for k in range(len(self._running))]
            outputs = {name: self._zeros(name) for name in self._from_policy}
            for k in np.flatnonzero(again).tolist():
                for name, rows in outputs.items():
                    rows[k] = torch.as_tensor(steps[k][name][t])
            ended, gone = self._act(outputs, again)
            self._builders.drop(ended)
            over += [*ended, *gone]
            lost += gone
        return lost

    def _zeros(self, name: str) -> Tensor:
        field = self.spec.fields[name]
        return torch.zeros((len(self._running), *field.shape), dtype=field.dtype)

    def _step(self, policy: Policy) -> EpisodeBatch | None:
        """The episodes that ended with this step; None for none."""
        self._see_first_frames()
        self._check_seen()
        outputs = outputs_of(policy, self._seen, self._from_policy, self._builders.device)
        ended, lost = self._act(outputs, self._running)
        if not ended and not lost:
            return None
        episodes = None
        if ended:
            self.ended_seeds = [seed for k in ended if (seed := self._seed_of[k]) is not None]
            terminated = [ended.get(k) == "terminated" for k in range(len(self._running))]
            episodes = self._builders.finish(torch.tensor(terminated), self._where(ended), checked=False)
            for k in ended:
                self._seed_of[k] = None
        self._begin(sorted([*ended, *lost]))
        return episodes

    def _act(
        self, outputs: Mapping[str, Tensor], running: Sequence[bool]
    ) -> tuple[dict[int, End], list[int]]:
        """Step where `running`, and keep what came of it. Where episodes ended, and where they were lost."""
        actions, last_actions = outputs["actions"].numpy(), self._last_actions.numpy()
        rewards = self._result_rows["reward"]
        ended: dict[int, End] = {}
        lost: list[int] = []
        for k, step in self._envs.step(actions, running):
            if step is None:
                lost.append(k)
                continue
            frame, rewards[k], end, outcomes = step
            for row, i in self._rows_of[k]:
                row[...] = frame[i]
            if end is not None:
                ended[k] = end
                for name, outcome in outcomes.items():
                    self._result_rows[name][k] = outcome
        stepped = [runs and k not in lost for k, runs in enumerate(running)] if lost else running
        self.env_steps += sum(stepped)
        self._first[:] = False
        where = np.array(stepped)
        last_actions[where] = actions[where]
        self._builders.add({**outputs, **self._results}, self._frames, torch.from_numpy(where))
        for k, end in ended.items():
            self._check_ended(k, end)
        return ended, lost

    def _begin(self, free: Iterable[int]) -> None:
        """Start an episode in each of these environments, as long as there are seeds."""
        self._start(self._draw(free), free)

    def _draw(self, free: Iterable[int]) -> dict[int, int]:
        """The next seed for each of these environments, as long as there are seeds."""
        seeds = {}
        for k in free:
            lost = self._seed_of[k]
            seed = lost if self._retry and lost is not None else next(self._next_seed, None)
            if seed is not None:
                seeds[k] = seed
        return seeds

    def _start(self, seeds: Mapping[int, int], free: Iterable[int]) -> None:
        for k in free:
            self._first[k] = True
            self._last_actions[k] = self._no_action
            self._seeds_seen[k] = seeds.get(k, 0)
            self._running[k] = k in seeds
            self._seed_of[k] = seeds.get(k)
        self._builders.drop(free)
        self._envs.reset(seeds)

    def _see_first_frames(self) -> None:
        """See the first frames of the episodes begun last; where one was lost, begin another."""
        begun, lost = [], []
        for k, frame in self._envs.first_frames(self._running):
            if frame is None:
                lost.append(k)
            else:
                begun.append(k)
                for row, i in self._rows_of[k]:
                    row[...] = frame[i]
        if begun:
            self._builders.begin(self._frames, self._where(begun))
        if lost:
            self._begin(lost)
            self._see_first_frames()

    def _where(self, chosen: Collection[int]) -> Tensor:
        """[K] bool: these environments."""
        return torch.tensor([k in chosen for k in range(len(self._running))])

    def _checksum(self, k: int) -> int:
        """A number that tells what was played here from something else; 0 before the first step."""
        return self._builders.checksum(k) if self._builders.lengths[k] else 0

    def _check_seen(self) -> None:
        if self._seen_check.passes():
            return
        for k, runs in enumerate(self._running):
            if runs:
                self._seen_check.check(k, f"{self._episode(k)}, frame {int(self._builders.lengths[k])}")

    def _check_ended(self, k: int, end: End) -> None:
        rewards = self._builders.steps(k, ["reward"])["reward"].numpy()
        frame = frame_of({name: rows[k] for name, rows in self._frame_rows.items()})
        last = Step(frame, rewards[-1], end)
        if not ended_soundly(rewards, last):
            check_ended(rewards, last, self._episode(k))

    def _episode(self, k: int) -> str:
        """The episode that is running there, as in the errors of the environment itself."""
        return f"environment {k}, seed {self._seed_of[k]}"
