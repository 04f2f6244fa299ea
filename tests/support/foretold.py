"""Episodes with inferred subgoals, made of numbers and not played."""

from __future__ import annotations

from typing import Any

import torch

from endmark.envs import Layout
from endmark.training.goals import Subgoals

LAYOUT = Layout(rows=4, cols=5, own=(3, 4), others=((6, 7), (9, 10)), foods=((0, 1, 2),))
N_FEATURES = 12


def foretold(seed: int, lengths: list[int], **changes: Any) -> Subgoals:
    """Places on a grid of 3 by 3, so that they often come true; the learner may leave early."""
    draws = torch.Generator().manual_seed(seed)
    n_frames = sum(lengths) + len(lengths)
    seen = torch.randint(0, 3, (n_frames, N_FEATURES), generator=draws).float()
    decoded = seen + torch.randn(n_frames, N_FEATURES, generator=draws)
    alive = torch.rand(n_frames, generator=draws) < 0.85
    start = 0
    for length in lengths:
        alive[start] = True
        alive[start : start + length + 1] = alive[start : start + length + 1].cummin(0).values
        start += length + 1
    given: dict[str, Any] = {
        "lengths": torch.tensor(lengths),
        "seen": seen,
        "decoded": decoded,
        "redecoded": seen + 0.5,
        "scale": torch.rand(N_FEATURES, generator=draws) + 0.5,
        "alive": alive,
        "seat": torch.randint(0, 3, (len(lengths),), generator=draws),
        "until_absent": True,
        "horizon": 3,
        "beside": [["a", "b"] for _ in lengths],
    }
    return Subgoals(**(given | changes))
