"""Means of a cross-play matrix, of its cells and of groups, with their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64

from endmark.rollout import Interval
from endmark.rollout.summary import bootstrapped, outcome_interval
from endmark.training.matrix import HELD_OUT, TRAINING, Matrix

SELF_PLAY = "self-play"
"""The group of the cells where learner and partner are the same."""
BEST_RESPONSE = "best-response"
"""Divide each return by the best one that any learner got with that partner."""
DRAWS = 2000

Means = Mapping[str, Interval | None]
"""A mean for each group of partners; None where no cell counts."""


@dataclass(frozen=True)
class Sheet:
    """One quantity of a matrix. None stands where it is undefined.

    name: `return`, `return / best`, `team return`, `length`, or an outcome's.
    cells: [L][P], means over episodes. A bootstrap resamples episodes; a share of successes, such as of wins,
        has Wilson's interval.
    rows: of each learner the mean over each group of partners. Partners and episodes are resampled.
    groups: of each group of learners the same. Learners (those of one algorithm: seeds), partners and
        episodes are resampled.

    Means over partners leave out self-play, which is a group of its own. Where there is one learner or one
    partner, it stays as it is, and the interval says nothing of others; that of a single cell is the cell's.
    """

    name: str
    cells: tuple[tuple[Interval | None, ...], ...]
    rows: tuple[Means, ...]
    groups: Mapping[str, Means]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: bounds that are not known are None."""
        return {
            "name": self.name,
            "cells": [[_json(cell) for cell in row] for row in self.cells],
            "rows": [_means_json(means) for means in self.rows],
            "groups": {group: _means_json(means) for group, means in self.groups.items()},
        }


def sheets(matrix: Matrix, *, normalise: bool = False) -> list[Sheet]:
    """A sheet for the return, the team's return where it is another, each outcome and the length.

    normalise: a sheet `return / best` first: each return divided by the best mean return that any learner of
        the matrix got with that partner. This divisor is taken as known, and not resampled. Where it is not
        positive the column is undefined, and left out of all means.
    """
    whole = np.ones(len(matrix.partners), dtype=np.bool_)
    made = [_sheet("return", matrix, matrix.returns, whole, bootstrapped)]
    if normalise:
        best = matrix.best_returns()
        divisor = np.where(best > 0, best, 1.0)
        shares = matrix.returns / divisor[:, None]
        made.insert(0, _sheet("return / best", matrix, shares, best > 0, bootstrapped))
    if matrix.team_returns is not None:
        made.append(_sheet("team return", matrix, matrix.team_returns, whole, bootstrapped))
    for name, values in matrix.outcomes.items():
        made.append(_sheet(name, matrix, values, whole, outcome_interval))
    return [*made, _sheet("length", matrix, matrix.lengths, whole, bootstrapped)]


def groups_of(matrix: Matrix) -> list[str]:
    """The groups of partners over which there are means."""
    there = {partner.group for partner in matrix.partners}
    groups = [group for group in (TRAINING, HELD_OUT) if group in there]
    return [*groups, SELF_PLAY] if matrix.self_play.any() else groups


def crossed(values: Float64[np.ndarray, "L P E"], counted: Bool[np.ndarray, "L P"]) -> Interval:
    """The mean of the counted cells, with a percentile bootstrap over learners, partners and episodes.

    The three are drawn with replacement independently of one another, each as often as there are: as all
    cells have the same episode seeds, a drawn episode is drawn in all of them. A draw of which no cell counts
    says nothing, and is left out. Where all values are alike the interval has no width.
    """
    rows, columns = counted.any(1), counted.any(0)
    values, counted = values[rows][:, columns], counted[rows][:, columns]
    n_learners, n_partners, n_episodes = values.shape
    mean = float(values[counted].mean())
    draw = np.random.default_rng(0)
    learners, partners, episodes = (
        draw.multinomial(n, np.full(n, 1 / n), DRAWS) for n in (n_learners, n_partners, n_episodes)
    )
    flat = values.reshape(-1, n_episodes).T / n_episodes
    means = (episodes @ flat).reshape(DRAWS, n_learners, n_partners)
    weights = learners[:, :, None] * partners[:, None, :] * counted
    total = weights.sum((1, 2))
    drawn = (means * weights).sum((1, 2))[total > 0] / total[total > 0]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(mean, float(low), float(high))


def _sheet(
    name: str,
    matrix: Matrix,
    values: Float64[np.ndarray, "L P E"],
    defined: Bool[np.ndarray, " P"],
    interval: Callable[[npt.NDArray[np.float64]], Interval],
) -> Sheet:
    cells = tuple(
        tuple(interval(cell) if fine else None for cell, fine in zip(row, defined, strict=True))
        for row in values
    )
    same, groups = matrix.self_play, groups_of(matrix)
    of_partner = np.array([partner.group for partner in matrix.partners])
    of_learner = np.array([learner.group for learner in matrix.learners])

    def mean(its: Float64[np.ndarray, "L P E"], counted: Bool[np.ndarray, "L P"]) -> Interval | None:
        cells = its[counted]
        if len(cells) < 2:
            return interval(cells[0]) if len(cells) else None
        return crossed(its, counted)

    def means(learners: npt.NDArray[np.int64]) -> dict[str, Interval | None]:
        its, own = values[learners], same[learners]
        found = {group: mean(its, (of_partner == group) & defined & ~own) for group in groups}
        if SELF_PLAY in groups:  # a learner and its partner are drawn as one
            diagonal = its[own & defined][:, None]
            found[SELF_PLAY] = mean(diagonal, np.ones(diagonal.shape[:2], dtype=np.bool_))
        return found

    each = tuple(means(np.array([row])) for row in range(len(values)))
    together = {
        group: means(np.flatnonzero(of_learner == group)) for group in dict.fromkeys(of_learner.tolist())
    }
    return Sheet(name, cells, each, together)


def _json(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in interval._asdict().items()}


def _means_json(means: Means) -> dict[str, Any]:
    return {group: _json(mean) for group, mean in means.items()}
