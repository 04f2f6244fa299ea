"""From a policy and K environments that are one program to whole episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from endmark.envs import BatchedEnvironment, BatchedStep
from endmark.envs.batched import Frames
from endmark.envs.contract import fault, goes_on_too_long
from endmark.episodes import EpisodeBatch, EpisodeSpec, Seen, no_action
from endmark.episodes.builders import EpisodeBuilders
from endmark.policies import Policy
from endmark.rollout.checked import SeenCheck
from endmark.rollout.rollout import Stopped, nothing_runs, outputs_of, warn_of_others
from endmark.rollout.seeds import EpisodeSeeds


class Batched:
    """Plays K environments as tensors, and cuts out every episode that has ended by index. A `Rollout`.

    The arguments are those of `Lockstep`. No episode is ever lost, so there is no `retry`.
    """

    def __init__(
        self,
        envs: BatchedEnvironment,
        seeds: Iterable[int],
        spec: EpisodeSpec | None = None,
        *,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.metrics: Mapping[str, float] = {}
        self.env_steps = 0
        self.episodes = 0
        self.exact = True
        self.ended_seeds: list[int] = []
        self.spec = spec or envs.spec
        self._envs, self._seeds, self._stop = envs, seeds, stop
        self._next_seed = iter(seeds)
        from_policy = sorted(self.spec.fields.keys() - envs.spec.fields.keys() | {"actions"})
        self._from_policy = {name: self.spec.fields[name] for name in from_policy}
        self._builders = EpisodeBuilders(self.spec, envs.n_envs, envs.device)
        self._seed_of = torch.zeros(envs.n_envs, dtype=torch.int64)  # of the episode that is running there
        self._running = torch.zeros(envs.n_envs, dtype=torch.bool)
        self._all = torch.ones_like(self._running)
        actions = envs.spec.fields["actions"]
        shape = envs.n_envs, *actions.shape
        self._last_actions = torch.zeros(shape, dtype=actions.dtype, device=envs.device)
        self._no_action = no_action(self._last_actions)
        self._frames = self._envs.reset(self._seed_of, self._all)  # even where no episode will run
        self._begin(self._all)

    @property
    def running(self) -> bool:
        """Whether any environment is in an episode."""
        return bool(self._running.any())

    def collect(self, policy: Policy) -> EpisodeBatch:
        """Step the environments until an episode ends; the episodes that have, in one batch."""
        self.ended_seeds = []
        while self.running:
            if self._stop():
                raise Stopped
            first = (self._builders.lengths == 0).to(self._envs.device)
            frames = self._frames
            seen = Seen(
                frames["obs"],
                frames.get("avail_actions"),
                frames["alive"],
                frames.get("state"),
                first,
                self._last_actions,
                self._seed_of,
            )
            step, ended = self._act(outputs_of(policy, seen, self._from_policy, self._envs.device))
            if ended.any():
                self.ended_seeds = self._seed_of[ended].tolist()
                episodes = self._builders.finish(step.terminated, ended)
                self.episodes += episodes.n_episodes
                self._begin(ended)
                return episodes
        raise nothing_runs()

    def state_dict(self) -> dict[str, Any]:
        """Counters, and each running episode as its seed and what the policy has done in it so far."""
        running = [
            {
                "env": k,
                "seed": int(self._seed_of[k]),
                "steps": self._builders.steps(k, self._from_policy),
                "checksum": self._builders.checksum(k),
            }
            for k in self._running.nonzero()[:, 0].tolist()
        ]
        return {
            "seeds": self._seeds.state_dict() if isinstance(self._seeds, EpisodeSeeds) else {},
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "exact": self.exact,
            "n_envs": self._envs.n_envs,
            "running": running,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`: the running episodes are played again, so that all are done at once.

        One that gives other frames or rewards than before, or ends early, is no function of its seed and the
        actions. A `ReplayWarning` says so, another begins in its place, and `exact` is False from then on.
        """
        if (given := state["n_envs"]) != self._envs.n_envs:
            raise ValueError(f"load_state_dict: given {given} environments, want {self._envs.n_envs}")
        if isinstance(self._seeds, EpisodeSeeds):
            self._seeds.load_state_dict(state["seeds"])
        self.exact = bool(state["exact"])
        played = {int(episode["env"]): episode for episode in state["running"]}
        self._running[:] = torch.tensor([k in played for k in range(self._envs.n_envs)])
        lengths = torch.zeros_like(self._seed_of)
        for k, episode in played.items():
            self._seed_of[k], lengths[k] = int(episode["seed"]), len(episode["steps"]["actions"])
        other = self._play_again(played, lengths)
        other |= {k for k, was in played.items() if was["checksum"] != self._builders.checksum(k)}
        if other:
            self.exact = False
            warn_of_others(sorted(other))
            self._begin(torch.tensor([k in other for k in range(self._envs.n_envs)]))
        self.env_steps, self.episodes = int(state["env_steps"]), int(state["episodes"])

    def _play_again(self, played: Mapping[int, Mapping[str, Any]], lengths: Tensor) -> set[int]:
        """Do once more what the policy did, the longest episode first; those that end, as they did not."""
        early: set[int] = set()
        longest = int(lengths.max()) if played else 0
        outputs = {
            name: torch.zeros((len(lengths), *field.shape), dtype=field.dtype)
            for name, field in self.spec.fields.items()
            if name in self._from_policy
        }
        for t in range(longest + 1):
            since = t - (longest - lengths)  # steps that each has made
            if (starts := self._running & (since == 0)).any():
                self._start(starts)
            if t == longest:
                break
            # Where no episode runs yet, any legal action.
            outputs["actions"][:] = self._any_actions()
            for k, episode in played.items():
                if since[k] >= 0:
                    for name, rows in outputs.items():
                        rows[k] = torch.as_tensor(episode["steps"][name][int(since[k])])
            _, ended = self._act(outputs, self._running & (since >= 0))
            early |= set(ended.nonzero()[:, 0].tolist())
        return early

    def _any_actions(self) -> Tensor:
        if self._envs.spec.bounds is not None:
            return self._envs.spec.bounds.tensors()[0]
        return self._frames["avail_actions"].cpu().int().argmax(-1)

    def _act(
        self, outputs: Mapping[str, Tensor], running: Bool[Tensor, " K"] | None = None
    ) -> tuple[BatchedStep, Bool[Tensor, " K"]]:
        """Step all environments and keep what came of it; where an episode ended, on the CPU."""
        running = self._running if running is None else running
        on_device = {name: tensor.to(self._envs.device) for name, tensor in outputs.items()}
        step = self._envs.step(on_device["actions"])
        self._builders.add({**on_device, "reward": step.reward, **step.outcomes}, step.frames, running)
        self._frames = step.frames
        self._last_actions.copy_(on_device["actions"])
        self.env_steps += int(running.sum())
        ended = (step.terminated | step.truncated).cpu() & running
        self._check(step, ended, running)
        return step, ended

    def _begin(self, free: Bool[Tensor, " K"]) -> None:
        """Start an episode in each of these environments, as long as there are seeds."""
        for k in free.nonzero()[:, 0].tolist():
            seed = next(self._next_seed, None)
            self._running[k] = seed is not None
            self._seed_of[k] = seed or 0
        self._start(free & self._running)

    def _start(self, where: Bool[Tensor, " K"]) -> None:
        """Start the episodes of `_seed_of`."""
        if where.any():
            self._frames = self._envs.reset(self._seed_of, where)
            self._last_actions[where.to(self._envs.device)] = self._no_action
            self._builders.begin(self._frames, where)
            if not _sound(self._frames, self._all.to(self._envs.device)):
                self._find_fault(self._frames, where)

    def _check(self, step: BatchedStep, ended: Bool[Tensor, " K"], running: Bool[Tensor, " K"]) -> None:
        """Raise the `ContractError` of the first environment that has a fault. Most steps have none."""
        frames, on_device = step.frames, running.to(self._envs.device)
        is_finite = torch.isfinite(step.reward).view(len(running), -1).all(-1)
        wrong = ~is_finite | (step.terminated & step.truncated)
        needs_actions = on_device & ~step.terminated
        too_long = running & ~ended & (self._builders.lengths >= self.spec.episode_limit)
        if _sound(frames, needs_actions) and not (wrong & on_device).any() and not too_long.any():
            return
        for k in running.nonzero()[:, 0].tolist():
            where = f"{self._episode(k)}, step {int(self._builders.lengths[k]) - 1}"
            if step.terminated[k] and step.truncated[k]:
                raise fault(f"{where}, end", "both terminated and truncated", "one of them, or neither")
            if not torch.isfinite(step.reward[k]).all():
                raise fault(f"{where}, reward", step.reward[k].tolist(), "finite numbers")
            if too_long[k]:
                raise goes_on_too_long(self.spec, where)
        self._find_fault(frames, running & ~step.terminated.cpu())
        self._find_fault(frames, running, legal=False)

    def _find_fault(self, frames: Frames, where: Bool[Tensor, " K"], *, legal: bool = True) -> None:
        arrays = {name: tensor.cpu().numpy() for name, tensor in frames.items()}
        check = SeenCheck(self._envs.spec, arrays)
        for k in where.nonzero()[:, 0].tolist():
            check.check(k, f"{self._episode(k)}, frame {int(self._builders.lengths[k])}", legal=legal)

    def _episode(self, k: int) -> str:
        return f"environment {k}, seed {int(self._seed_of[k])}"


def _sound(frames: Frames, needs_actions: Bool[Tensor, " K"]) -> bool:
    """Whether all numbers are finite and, in these environments, each agent that is alive can act."""
    if "avail_actions" in frames:
        stuck = (frames["alive"] & ~frames["avail_actions"].any(-1)).any(-1) & needs_actions
        if stuck.any():
            return False
    numbers = (tensor for tensor in frames.values() if tensor.is_floating_point())
    # One pass: a sum is finite only if all its terms are. One that overflows is looked at more closely.
    return all(bool(torch.isfinite(tensor.sum())) for tensor in numbers)
