"""What cross-play gives: return, length and outcomes of every episode of every pair, and who they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

TRAINING, HELD_OUT = "training", "held out"
"""The groups of partners."""


@dataclass(frozen=True)
class Player:
    """Who plays: a row or a column of a matrix.

    name: short, and no other player's. source: the run's path and the hash of its weights, or
    `module:function`. group: of a learner its algorithm; of a partner `TRAINING` or `HELD_OUT`.
    seats, agents: of a learner, for how many agents it acts, and for which it may (None: any).
    """

    name: str
    source: str
    group: str
    seats: int | None = None
    agents: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Matrix:
    """L learners (rows), P partners (columns), and E episodes of each pair, from the same seeds for all.

    returns: undiscounted, of the learner's agents; of the team where the environment has one reward for it.
    team_returns: of all agents; None where the environment has one reward for the team.
    lengths: in steps. outcomes: what the environment names, such as `win`.
    seen: pairs of a learner and a partner held out, by name, where the learner was trained with that partner.
    """

    env: str
    env_arg: tuple[str, ...]
    episode_limit: int | None
    seeds: tuple[int, ...]
    learners: tuple[Player, ...]
    partners: tuple[Player, ...]
    returns: Float64[np.ndarray, "L P E"]
    lengths: Float64[np.ndarray, "L P E"]
    outcomes: Mapping[str, Float64[np.ndarray, "L P E"]] = field(default_factory=dict)
    team_returns: Float64[np.ndarray, "L P E"] | None = None
    seen: tuple[tuple[str, str], ...] = ()

    @property
    def self_play(self) -> Bool[np.ndarray, "L P"]:
        """Where learner and partner are the same run or the same function."""
        rows = [[learner.source == partner.source for partner in self.partners] for learner in self.learners]
        return np.array(rows)

    def best_returns(self) -> Float64[np.ndarray, " P"]:
        """The best mean return that any of these learners got with each partner, also in self-play."""
        return np.asarray(self.returns.mean(-1).max(0))

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return {
            "env": self.env,
            "env_arg": list(self.env_arg),
            "episode_limit": self.episode_limit,
            "seeds": list(self.seeds),
            "learners": [_player(learner) for learner in self.learners],
            "partners": [_player(partner) for partner in self.partners],
            "seen": [list(pair) for pair in self.seen],
            "episodes": {
                "return": self.returns.tolist(),
                "team return": None if self.team_returns is None else self.team_returns.tolist(),
                "length": self.lengths.tolist(),
                "outcomes": {name: values.tolist() for name, values in self.outcomes.items()},
            },
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Matrix:
        """The matrix that `to_json` wrote. Further keys are left alone."""
        episodes, team = raw["episodes"], raw["episodes"]["team return"]
        return cls(
            env=raw["env"],
            env_arg=tuple(raw["env_arg"]),
            episode_limit=raw["episode_limit"],
            seeds=tuple(raw["seeds"]),
            learners=_players(raw["learners"]),
            partners=_players(raw["partners"]),
            returns=np.array(episodes["return"], dtype=np.float64),
            lengths=np.array(episodes["length"], dtype=np.float64),
            outcomes={name: np.array(its, dtype=np.float64) for name, its in episodes["outcomes"].items()},
            team_returns=None if team is None else np.array(team, dtype=np.float64),
            seen=tuple((learner, partner) for learner, partner in raw["seen"]),
        )


def _player(player: Player) -> dict[str, Any]:
    return asdict(player) | {"agents": None if player.agents is None else list(player.agents)}


def _players(raw: Sequence[Mapping[str, Any]]) -> tuple[Player, ...]:
    agents = [None if one["agents"] is None else tuple(one["agents"]) for one in raw]
    return tuple(Player(**{**one, "agents": its}) for one, its in zip(raw, agents, strict=True))
