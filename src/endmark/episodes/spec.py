"""`EpisodeSpec`: the name, shape and dtype of every field of an episode."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

Per = Literal["frame", "step", "end"]
STANDARD = ("obs", "avail_actions", "alive", "actions", "reward", "state")
FLAGS = ("filled", "terminated", "truncated")
DERIVED = ("mask", "actions_onehot")  # computed from other fields of the padded layout


@dataclass(frozen=True)
class Field:
    """One named tensor of an episode.

    shape: the shape at one frame; `(n_agents, 5)` for five numbers an agent.
    per: `"frame"` if it exists at every frame, `"step"` if it belongs to an action and is therefore
        undefined on an episode's final frame, `"end"` if it belongs to the episode's last step alone and is
        undefined at every other frame: an outcome, such as `win`.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    per: Per = "frame"


@dataclass(frozen=True)
class Bounds:
    """The range of each number of each agent's action, in the environment's units: N tuples of D numbers.

    Both ends are included, finite, and exact in float32. A number whose ends are the same is no choice: what
    stands there for an agent whose actions have fewer numbers than its team-mates'.
    """

    low: tuple[tuple[float, ...], ...]
    high: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        sizes = {len(row) for row in (*self.low, *self.high)}
        if len(self.low) != len(self.high) or len(sizes) != 1 or sizes == {0}:
            given = f"{[len(row) for row in self.low]} and {[len(row) for row in self.high]} numbers"
            raise ValueError(f"bounds: given {given}, want as many for each agent, low and high")
        for n, (lows, highs) in enumerate(zip(self.low, self.high, strict=True)):
            for d, (low, high) in enumerate(zip(lows, highs, strict=True)):
                if not (-_LARGEST <= low <= high <= _LARGEST):
                    want = "low <= high, both finite in float32"
                    raise ValueError(f"bounds: agent {n}, number {d}: given {low} to {high}, want {want}")
        for name in ("low", "high"):
            rows = torch.tensor(getattr(self, name), dtype=torch.float32).tolist()
            object.__setattr__(self, name, tuple(map(tuple, rows)))

    @staticmethod
    def of(low: Sequence[float], high: Sequence[float], n_agents: int) -> Bounds:
        """The same for each agent: [D] numbers."""
        return Bounds((tuple(low),) * n_agents, (tuple(high),) * n_agents)

    @property
    def size(self) -> int:
        """D, the numbers of an action."""
        return len(self.low[0])

    def tensors(
        self, device: torch.device | str = "cpu"
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]:
        """Low and high."""
        return torch.tensor(self.low, device=device), torch.tensor(self.high, device=device)


_LARGEST = torch.finfo(torch.float32).max
OUTCOME = Field((), torch.float32, per="end")
"""An outcome of an episode: one number, known at its last step."""
NO_OUTCOMES: Mapping[str, float] = MappingProxyType({})
"""Those of a step that ends no episode, and of environments that name none."""


@dataclass(frozen=True)
class EpisodeSpec:
    """Shapes and dtypes of all fields, the number of agents and actions, and the longest episode.

    A learner is built from a spec alone, without an environment. `EpisodeSpec.of` fills in the standard
    fields:

    | field | shape of a frame | dtype | per |
    |---|---|---|---|
    | `obs` | (N, *obs_shape) | obs_dtype: float32, or uint8 for images | frame |
    | `avail_actions` (numbered actions) | (N, A) | bool | frame |
    | `alive` | (N,) | bool | frame |
    | `state` (optional) | state_shape | state_dtype, as of `obs` | frame |
    | `actions`: numbered, or vectors | (N,) or (N, D) | int64 or float32 | step |
    | `reward` | () shared, or (N,) for each agent | float32 | step |
    | each outcome, such as `win` | () | float32 | end |

    n_actions: A, where an agent chooses one of A numbered actions; 0 where an action is a vector.
    episode_limit: the most steps an episode can have.
    bounds: where an action is a vector of D numbers: their ranges. No vector is illegal, so there is no
        `avail_actions`.
    kinds: the kind of each agent, such as a stalker or a zealot: N numbers. They are kept as 0, 1, .. in the
        order in which they first stand there. Not given: all agents are of one kind.
    """

    n_agents: int
    n_actions: int
    episode_limit: int
    fields: Mapping[str, Field]
    bounds: Bounds | None = None
    kinds: tuple[int, ...] = ()

    @staticmethod
    def of(
        *,
        n_agents: int,
        n_actions: int = 0,
        bounds: Bounds | None = None,
        episode_limit: int,
        obs_shape: tuple[int, ...],
        obs_dtype: torch.dtype = torch.float32,
        state_shape: tuple[int, ...] | None = None,
        state_dtype: torch.dtype = torch.float32,
        reward_per_agent: bool = False,
        outcomes: Iterable[str] = (),
        kinds: Sequence[Hashable] = (),
        extra: Mapping[str, Field] | None = None,
    ) -> EpisodeSpec:
        """A spec of the standard fields, of outcomes and of `extra` fields.

        n_actions or bounds: numbered actions, or vectors. ValueError for a name that is taken.
        """
        agents = (n_agents,)
        fields = {
            "obs": Field((*agents, *obs_shape), obs_dtype),
            "avail_actions": Field((n_agents, n_actions), torch.bool),
            "alive": Field(agents, torch.bool),
            "actions": _actions(n_agents, bounds),
            "reward": Field(agents if reward_per_agent else (), torch.float32, per="step"),
        }
        if bounds is not None:
            del fields["avail_actions"]
        if state_shape is not None:
            fields["state"] = Field(tuple(state_shape), state_dtype)
        of_the_end = [("outcome", name, OUTCOME) for name in outcomes]
        for what, name, field in [*of_the_end, *(("extra field", *item) for item in (extra or {}).items())]:
            if name in fields:
                by = "a standard field" if name in STANDARD else "an outcome"
                raise ValueError(f"{what} '{name}': this name is taken by {by}")
            fields[name] = field
        return EpisodeSpec(n_agents, n_actions, episode_limit, fields, bounds, numbered(kinds))

    def __post_init__(self) -> None:
        for name in ("n_agents", "n_actions", "episode_limit"):
            if name == "n_actions" and self.bounds is not None:
                continue
            if (given := getattr(self, name)) < 1:
                raise ValueError(f"{name}: given {given}, want at least 1")
        if self.bounds is not None and self.n_actions != 0:
            raise ValueError(f"n_actions: given {self.n_actions}, want 0: with bounds, actions are vectors")
        object.__setattr__(self, "kinds", numbered(self.kinds) or (0,) * self.n_agents)
        if len(self.kinds) != self.n_agents:
            raise ValueError(f"kinds: given {len(self.kinds)} agents, want {self.n_agents}")
        if self.bounds is not None and len(self.bounds.low) != self.n_agents:
            raise ValueError(f"bounds: given {len(self.bounds.low)} agents, want {self.n_agents}")
        if taken := self.fields.keys() & {*FLAGS, *DERIVED}:
            raise ValueError(f"field '{min(taken)}': this name has a meaning of its own in the padded layout")
        n, a = self.n_agents, self.n_actions
        standard = {
            "avail_actions": Field((n, a), torch.bool) if self.bounds is None else None,
            "alive": Field((n,), torch.bool),
            "actions": _actions(n, self.bounds),
        }
        for name, want in standard.items():
            if self.fields.get(name) != want:
                raise ValueError(f"field '{name}': given {self.fields.get(name)}, want {want}")
        if "obs" not in self.fields or self.fields["obs"].shape[:1] != (n,):
            raise ValueError(f"field 'obs': given {self.fields.get('obs')}, want shape ({n}, ...)")
        if "reward" not in self.fields or self.fields["reward"].shape not in [(), (n,)]:
            raise ValueError(f"field 'reward': given {self.fields.get('reward')}, want shape () or ({n},)")
        for name, field in self.fields.items():
            if field.per == "end" and field != OUTCOME:
                raise ValueError(f"field '{name}': given {field}, want {OUTCOME}: one number an episode")
            if field.per == "end" and name in ("return", "length"):
                raise ValueError(f"outcome '{name}': every episode has one of this name, want another")
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))

    def extend(self, **fields: Field) -> EpisodeSpec:
        """This spec and further fields, such as `log_prob`; ValueError for a name that is taken."""
        for name in fields:
            if name in self.fields:
                raise ValueError(f"field '{name}': the spec has a field of this name already")
        return replace(self, fields={**self.fields, **fields})

    def agents(self, which: Sequence[int]) -> EpisodeSpec:
        """The standard fields of these agents alone: `state` and a shared reward stay the team's."""
        fields = {
            name: field if name in self.team_fields else replace(field, shape=(len(which), *field.shape[1:]))
            for name, field in self.fields.items()
            if name in STANDARD
        }
        low_and_high = (self.bounds.low, self.bounds.high) if self.bounds else ()
        rows = [tuple(ends[n] for n in which) for ends in low_and_high]
        kinds = tuple(self.kinds[n] for n in which)
        bounds = Bounds(*rows) if rows else None
        return EpisodeSpec(len(which), self.n_actions, self.episode_limit, fields, bounds, kinds)

    def agent(self, n: int = 0) -> EpisodeSpec:
        """`agents` for agent n. It matters which where actions are vectors, whose bounds may differ."""
        return self.agents((n,))

    @property
    def team_fields(self) -> set[str]:
        """The standard fields that have no axis of agents."""
        return {"state"} if self.reward_per_agent else {"state", "reward"}

    @property
    def action_size(self) -> int:
        """D, the numbers of an action that is a vector; 0 where actions are numbered."""
        return 0 if self.bounds is None else self.bounds.size

    @property
    def reward_per_agent(self) -> bool:
        """Whether each agent has a reward of its own, rather than one for the team."""
        return self.fields["reward"].shape != ()

    @property
    def frame_fields(self) -> dict[str, Field]:
        """The fields that exist at every frame, the final one included."""
        return {name: field for name, field in self.fields.items() if field.per == "frame"}

    @property
    def step_fields(self) -> dict[str, Field]:
        """The fields that belong to an action, undefined on an episode's final frame.

        The outcomes are not among them: they are undefined on most other frames, too.
        """
        return {name: field for name, field in self.fields.items() if field.per == "step"}

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The names of what is known of an episode at its end, such as `win`."""
        return tuple(name for name, field in self.fields.items() if field.per == "end")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EpisodeSpec):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy can be neither copied nor pickled, but learners and workers copy and pickle specs.
        return EpisodeSpec, (
            self.n_agents,
            self.n_actions,
            self.episode_limit,
            dict(self.fields),
            self.bounds,
            self.kinds,
        )

    def _key(self) -> tuple[Any, ...]:
        fields = tuple((name, self.fields[name]) for name in sorted(self.fields))
        return self.n_agents, self.n_actions, self.episode_limit, fields, self.bounds, self.kinds


def numbered(kinds: Sequence[Hashable]) -> tuple[int, ...]:
    """Kinds as 0, 1, .. in the order in which they first stand there."""
    order = list(dict.fromkeys(kinds))
    return tuple(order.index(kind) for kind in kinds)


def _actions(n_agents: int, bounds: Bounds | None) -> Field:
    """The field of numbered actions, or of vectors."""
    if bounds is None:
        return Field((n_agents,), torch.int64, per="step")
    return Field((n_agents, bounds.size), torch.float32, per="step")
