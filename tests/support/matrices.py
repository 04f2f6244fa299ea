"""Cross-play matrices that nobody played."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from endmark.training import Matrix
from endmark.training.matrix import HELD_OUT, TRAINING, Player

LEARNERS = [("a", "iql"), ("b", "iql"), ("c", "vdn"), ("walk", "walk (script)")]
PARTNERS = [("a", TRAINING), ("b", TRAINING), ("x/y", TRAINING), ("c", HELD_OUT), ("z", HELD_OUT)]


def make_matrix(
    learners: Sequence[tuple[str, str]] = LEARNERS,
    partners: Sequence[tuple[str, str]] = PARTNERS,
    *,
    episodes: int = 6,
    seed: int = 0,
    outcomes: bool = True,
    team: bool = True,
) -> Matrix:
    """Learners (name, algorithm) and partners (name, group); of one name they are the same run."""
    draw = np.random.default_rng(seed)
    shape = len(learners), len(partners), episodes
    level = draw.normal(size=(len(learners), 1, 1)) + draw.normal(size=(1, len(partners), 1))
    wins = (draw.random(shape) < 0.6).astype(np.float64)
    return Matrix(
        env="some:Env-v1",
        env_arg=("size=5",),
        episode_limit=None,
        seeds=tuple(draw.integers(2**31, size=episodes).tolist()),
        learners=tuple(Player(name, f"/runs/{name}@sha256:00", group, 1) for name, group in learners),
        partners=tuple(Player(name, f"/runs/{name}@sha256:00", group) for name, group in partners),
        returns=2 + level + draw.normal(size=shape),
        lengths=draw.integers(1, 50, shape).astype(np.float64),
        outcomes={"win": wins, "score": draw.random(shape)} if outcomes else {},
        team_returns=draw.random(shape) if team else None,
    )
