"""`EpisodeBatch`: real frames end to end, no padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Real, Shaped
from torch import Tensor

from endmark.episodes import ragged
from endmark.episodes.padded import pad, unpad
from endmark.episodes.seen import columns, no_action
from endmark.episodes.spec import EpisodeSpec, Field


@dataclass(frozen=True, eq=False)
class EpisodeBatch:
    """E whole episodes end to end on one axis of frames, F = sum(lengths + 1).

    fields: a tensor for each field of the spec, [F, *field.shape]. Step fields (`actions`, `reward`) are
        undefined on final frames: read them through `steps(name)`. Outcomes are undefined on all frames but
        those of last steps: read them through `outcome(name)`.
    lengths: [E] int64 on the CPU, the steps of each episode, at least 1.
    terminated: [E] bool on the device of the fields: True if the MDP ended with the last step, False if
        the episode was cut off there.

    Arguments are validated here, once. A ValueError or TypeError names the field and the episode, the value
    given and the value wanted. `checked=True` skips validation, for data that was validated before.
    """

    spec: EpisodeSpec
    fields: Mapping[str, Tensor]
    lengths: Int[Tensor, " E"]
    terminated: Bool[Tensor, " E"]
    checked: InitVar[bool] = False

    def __post_init__(self, checked: bool) -> None:
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))
        if not checked:
            _validate(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy can be neither copied nor pickled.
        return EpisodeBatch, (self.spec, dict(self.fields), self.lengths, self.terminated, True)

    # Fields.

    def __getitem__(self, name: str) -> Shaped[Tensor, "F ..."]:
        """A field on all frames, [F, ...]."""
        try:
            return self.fields[name]
        except KeyError:
            raise KeyError(f"no field '{name}'; this batch has {', '.join(self.fields)}") from None

    def steps(self, name: str) -> Shaped[Tensor, "S ..."]:
        """A field on the frames that carry a step, [S, ...]."""
        return self[name][self.step_frames]

    def outcome(self, name: str) -> Float[Tensor, " E"]:
        """An outcome of each episode, such as `win`. KeyError for a field that is no outcome."""
        if name not in self.spec.outcomes:
            raise KeyError(f"no outcome '{name}'; this batch has {', '.join(self.spec.outcomes) or 'none'}")
        return self[name][self.final_frames - 1]

    @property
    def obs(self) -> Real[Tensor, "F N ..."]:
        """The observation of each agent at each frame."""
        return self["obs"]

    @property
    def avail_actions(self) -> Bool[Tensor, "F N A"]:
        """Each agent's legal actions at each frame. KeyError where actions are vectors: none is illegal."""
        return self["avail_actions"]

    @property
    def alive(self) -> Bool[Tensor, "F N"]:
        """Whether each agent still takes part at each frame."""
        return self["alive"]

    @cached_property
    def state(self) -> Real[Tensor, "F ..."]:
        """The global state at each frame. If none is stored, the concatenated observations of all agents.

        In the concatenation, agents that have left are zeros.
        """
        if "state" in self.fields:
            return self["state"]
        alive = self.alive.view(*self.alive.shape, *(1,) * (self.obs.ndim - 2))
        return torch.where(alive, self.obs, 0).flatten(1)  # 0.0 would make floats of uint8

    @property
    def truncated(self) -> Bool[Tensor, " E"]:
        """Whether each episode was cut off, so that its final frame's value counts."""
        return ~self.terminated

    @cached_property
    def learning(self) -> Bool[Tensor, "F N"]:
        """Whether each agent takes part at each frame and is the learner's: what a loss over agents counts.

        An agent is the learner's unless a partner acted for it (`learns`).
        """
        if "learns" not in self.fields:
            return self.alive
        learns = self["learns"].clone()
        learns[self.final_frames] = learns[self.final_frames - 1]  # seats last for an episode
        return self.alive & learns

    @property
    def device(self) -> torch.device:
        """The device of the fields."""
        return self.terminated.device

    # Counts and indices.

    @property
    def n_episodes(self) -> int:
        """E, the number of episodes."""
        return len(self.lengths)

    @cached_property
    def n_steps(self) -> int:
        """S, the number of steps of all episodes."""
        return int(self.lengths.sum())

    @property
    def n_frames(self) -> int:
        """F = S + E, the number of frames of all episodes."""
        return self.n_steps + self.n_episodes

    @cached_property
    def step_frames(self) -> Int[Tensor, " S"]:
        """The frames that carry a step; `step_frames + 1` are their successors."""
        return ragged.step_frames(self.lengths).to(self.device, non_blocking=True)

    @cached_property
    def first_frames(self) -> Int[Tensor, " E"]:
        """Each episode's first frame."""
        return ragged.frame_starts(self.lengths).to(self.device, non_blocking=True)

    @cached_property
    def final_frames(self) -> Int[Tensor, " E"]:
        """Each episode's final frame, at which nobody acts."""
        return ragged.final_frames(self.lengths).to(self.device, non_blocking=True)

    @cached_property
    def last_steps(self) -> Int[Tensor, " E"]:
        """Each episode's last step, as an index into the S steps."""
        return (self.lengths.cumsum(0) - 1).to(self.device, non_blocking=True)

    @cached_property
    def actions_taken(self) -> Real[Tensor, "F N *D"]:
        """The action of each agent at each frame; at an episode's final frame -1, or a vector of zeros."""
        taken = self["actions"].clone()
        taken[self.final_frames] = no_action(taken)
        return taken

    @cached_property
    def last_actions(self) -> Real[Tensor, "F N *D"]:
        """The previous action of each agent at each frame; at a first frame -1, or a vector of zeros."""
        last = self["actions"].roll(1, dims=0)
        last[self.first_frames] = no_action(last)
        return last

    @cached_property
    def time_major(self) -> ragged.TimeMajor:
        """The frames in the order in which a recurrence visits them."""
        return ragged.TimeMajor(self.lengths, self.device)

    def discount(self, gamma: float) -> Float[Tensor, " S"]:
        """`gamma` for each step, 0 where the step terminated the MDP."""
        discount = torch.full((self.n_steps,), gamma, dtype=torch.float32, device=self.device)
        discount[self.last_steps] = torch.where(self.terminated, 0.0, gamma)
        return discount

    def agent_discount(self, gamma: float) -> Float[Tensor, "S N"]:
        """`gamma` for each step and agent, 0 where the step was that agent's last.

        A step is an agent's last if it terminated the MDP, or if the agent left while others went on.
        """
        stays = self.alive[self.step_frames + 1]
        return torch.where(stays, self.discount(gamma)[:, None], 0.0)

    # Conversions.

    @staticmethod
    def cat(batches: Sequence[EpisodeBatch]) -> EpisodeBatch:
        """The episodes of several batches in one."""
        if not batches:
            raise ValueError("cat: given no batch, want at least one")
        first = batches[0]
        for i, batch in enumerate(batches):
            if batch.spec != first.spec:
                raise ValueError(f"cat: batch {i} has another spec than batch 0")
        return EpisodeBatch(
            first.spec,
            {name: torch.cat([batch[name] for batch in batches]) for name in first.fields},
            torch.cat([batch.lengths for batch in batches]),
            torch.cat([batch.terminated for batch in batches]),
            checked=True,
        )

    def split(self) -> list[EpisodeBatch]:
        """A list of batches of one episode each; their fields are views of this batch's."""
        frames = (self.lengths + 1).tolist()
        parts = {name: torch.split(tensor, frames) for name, tensor in self.fields.items()}
        return [
            EpisodeBatch(
                self.spec,
                {name: part[e] for name, part in parts.items()},
                self.lengths[e : e + 1],
                self.terminated[e : e + 1],
                checked=True,
            )
            for e in range(self.n_episodes)
        ]

    def select(self, episodes: Int[Tensor, " _"] | Sequence[int]) -> EpisodeBatch:
        """These episodes, in this order; their fields are copies. IndexError for one that there is not."""
        chosen = torch.as_tensor(episodes, dtype=torch.int64).cpu()
        if len(chosen) == 0:
            raise IndexError("select: given no episode, want at least one")
        if (wrong := (chosen < 0) | (chosen >= self.n_episodes)).any():
            given = int(chosen[wrong][0])
            raise IndexError(f"select: given episode {given}, want 0 <= episode < {self.n_episodes}")
        lengths = self.lengths[chosen]
        frames = ragged.frames_from(ragged.frame_starts(self.lengths)[chosen], lengths).to(self.device)
        fields = {name: tensor[frames] for name, tensor in self.fields.items()}
        terminated = self.terminated[chosen.to(self.device)]
        return EpisodeBatch(self.spec, fields, lengths, terminated, checked=True)

    def with_steps(self, **fields: Shaped[Tensor, "S ..."]) -> EpisodeBatch:
        """This batch and further step fields, each given on the steps alone, [S, ...].

        For what a learner works out once and needs on parts of the batch, such as advantages.
        """
        named = {
            name: Field(tuple(tensor.shape[1:]), tensor.dtype, per="step") for name, tensor in fields.items()
        }
        stored = dict(self.fields)
        for name, tensor in fields.items():
            if len(tensor) != self.n_steps:  # torch would spread a single one over all
                given = tuple(tensor.shape)
                raise ValueError(f"field '{name}': given shape {given}, want {self.n_steps} steps")
            stored[name] = tensor.new_zeros(self.n_frames, *tensor.shape[1:])
            stored[name][self.step_frames] = tensor
        return replace(self, spec=self.spec.extend(**named), fields=stored, checked=True)

    def agents(self, which: Sequence[int]) -> EpisodeBatch:
        """These agents alone: the standard fields of a batch of a smaller team.

        `state` stays the team's, and so does a shared reward. Further fields are left out. Fields are
        views of this batch's where the agents stand side by side.
        """
        if wrong := [n for n in which if not 0 <= n < self.spec.n_agents]:
            raise IndexError(f"agents: given {wrong[0]}, want 0 <= agent < {self.spec.n_agents}")
        spec, only = self.spec.agents(which), columns(which)
        fields = {
            name: self.fields[name] if name in spec.team_fields else self.fields[name][:, only]
            for name in spec.fields
        }
        batch = EpisodeBatch(spec, fields, self.lengths, self.terminated, checked=True)
        batch.__dict__["time_major"] = self.time_major  # the same for every agent
        return batch

    def agent(self, n: int) -> EpisodeBatch:
        """Agent n alone, as a batch of a team of one."""
        return self.agents((n,))

    def to(self, device: torch.device | str) -> EpisodeBatch:
        """The same episodes on another device; `lengths` stay on the CPU."""
        fields = {name: tensor.to(device, non_blocking=True) for name, tensor in self.fields.items()}
        return replace(self, fields=fields, terminated=self.terminated.to(device), checked=True)

    @staticmethod
    def from_padded(
        padded: Mapping[str, Any],
        spec: EpisodeSpec | None = None,
        *,
        on_error: Literal["raise", "repair"] = "raise",
        final_frame: bool = True,
    ) -> EpisodeBatch:
        """Episodes from the padded layout of PyMARL and its descendants.

        padded: tensors or arrays (B, T+1, ...) by name, column t holding frame t and step t. `filled`,
            `terminated` and, if it is stored, `truncated` (B, T+1, 1) 0/1 in any dtype. `actions`
            (B, T+1, N, 1) or (B, T+1, N), `reward` (B, T+1, 1), or (B, T+1, N) one an agent. `avail_actions`
            and `alive` are all ones where they are not stored. `actions_onehot` is derived and so left out.
            Where actions are vectors, `actions` are (B, T+1, N, D), and a spec has to say their bounds.
        spec: inferred from the shapes if None; names that are not standard fields then become frame fields.
        on_error: what to do with a row that holds anything but one episode. `"raise"`: a ValueError with the
            row, the time and the rule (`RULES`). `"repair"`: keep the real prefix of each row, drop rows
            without one, and list the cuts in a `RepairWarning`.
        final_frame: False if there is no column for the final frame, so T columns for T steps.

        The steps kept are those of `masks.step_mask`. The last step of an episode that was truncated
        counts only if the frame that follows it is stored, since its value is part of the target.

        `truncated` marks the step at which an episode was cut off. It makes no step real, and tells what the
        other flags cannot. Where a row goes on after the cut, the next frame may be the first one of another
        episode, so the cut step is not real. Where the frame after the cut is not filled, its step is not
        real either. Both are faults, and so is a step that terminated and was cut at once. Without
        `truncated`, an episode that does not terminate counts as cut off where its frames end, and two
        episodes in a row with a cut between them are read as one.
        """
        return EpisodeBatch(*unpad(padded, spec, on_error=on_error, final_frame=final_frame))

    def to_padded(self, limit: int | None = None) -> dict[str, Tensor]:
        """The padded layout: every field (E, limit + 1, ...), with zeros as padding.

        limit: in steps, at least the longest episode (the default).
        Adds `filled` int64, `terminated` and `truncated` uint8 (E, limit + 1, 1), and the exact `mask`
        (E, limit, 1) bool. Numbered `actions` and a shared `reward` have a last axis of one, as PyMARL has.
        `from_padded` gives the same episodes back.
        """
        return pad(self.spec, self.fields, self.lengths, self.terminated, limit)


def _validate(batch: EpisodeBatch) -> None:
    spec, fields, lengths, terminated = batch.spec, batch.fields, batch.lengths, batch.terminated
    if not isinstance(lengths, Tensor) or lengths.dtype != torch.int64 or lengths.ndim != 1:
        raise TypeError(f"lengths: given {_describe(lengths)}, want int64 of shape (E,)")
    if lengths.device.type != "cpu":
        raise ValueError(f"lengths: given on {lengths.device}, want on cpu")
    if len(lengths) == 0:
        raise ValueError("lengths: given no episode, want at least one")
    limit = spec.episode_limit
    for wrong, want in [(lengths < 1, "at least 1"), (lengths > limit, f"at most {limit}")]:
        if wrong.any():
            e = int(wrong.nonzero()[0])
            raise ValueError(f"lengths: episode {e}: given {int(lengths[e])} steps, want {want}")
    is_bool = isinstance(terminated, Tensor) and terminated.dtype == torch.bool
    if not is_bool or terminated.shape != lengths.shape:
        raise TypeError(f"terminated: given {_describe(terminated)}, want bool of shape ({len(lengths)},)")
    if missing := spec.fields.keys() - fields.keys():
        raise ValueError(f"field '{min(missing)}': missing; given {', '.join(fields)}")
    if unknown := fields.keys() - spec.fields.keys():
        raise ValueError(f"field '{min(unknown)}': not in the spec, which has {', '.join(spec.fields)}")
    n_frames = sum(lengths.tolist()) + len(lengths)  # which cannot overflow, as n_frames of the batch could
    for name, field in spec.fields.items():
        tensor = fields[name]
        if not isinstance(tensor, Tensor) or tensor.dtype != field.dtype:
            raise TypeError(f"field '{name}': given {_describe(tensor)}, want {field.dtype}")
        if tensor.shape[1:] != field.shape or tensor.shape[:1] != (n_frames,):
            raise ValueError(
                f"field '{name}': given shape {tuple(tensor.shape)}, want {(n_frames, *field.shape)}: "
                f"sum(lengths + 1) = {n_frames} frames of {field.shape}"
            )
        if tensor.device != terminated.device:
            device = terminated.device
            raise ValueError(f"field '{name}': given on {tensor.device}, want on {device} like terminated")
    _validate_values(batch)


def _validate_values(batch: EpisodeBatch) -> None:
    actions, reward = batch.steps("actions"), batch.steps("reward")
    bounds, n_actions = batch.spec.bounds, batch.spec.n_actions
    if bounds is None:
        outside, want_action = (actions < 0) | (actions >= n_actions), f"0 <= action < {n_actions}"
    else:
        low, high = bounds.tensors(actions.device)
        outside, want_action = ~((low <= actions) & (actions <= high)), "a number within its bounds"
    for name, value, wrong, want in [
        ("reward", reward, ~reward.isfinite(), "a finite number"),
        ("actions", actions, outside, want_action),
    ]:
        if wrong.any():
            index = tuple(wrong.nonzero()[0].tolist())
            episode = int(torch.searchsorted(batch.lengths.cumsum(0), index[0], right=True))
            t = index[0] - int(batch.lengths[:episode].sum())
            agent = f", agent {index[1]}" if len(index) > 1 else ""
            if len(index) > 2:
                assert bounds is not None
                n, d = index[1:]
                agent, want = f"{agent}, number {d}", f"{bounds.low[n][d]:g} to {bounds.high[n][d]:g}"
            given = value[index].item()
            raise ValueError(
                f"field '{name}': episode {episode}, step {t}{agent}: given {given}, want {want}"
            )
    for name in batch.spec.outcomes:
        outcome = batch.outcome(name)
        if (wrong := ~outcome.isfinite()).any():
            episode = int(wrong.nonzero()[0])
            raise ValueError(
                f"field '{name}': episode {episode}: given {outcome[episode].item()}, want a finite number"
            )


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__
