"""Means of a matrix and their intervals, against loops over what was drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from endmark.rollout import Interval
from endmark.rollout.summary import bootstrapped, share
from endmark.training import Matrix, Sheet, sheets
from endmark.training.matrix import HELD_OUT, TRAINING
from endmark.training.sheets import DRAWS, SELF_PLAY, crossed, groups_of
from support.matrices import make_matrix


def sheet_of(matrix: Matrix, name: str, *, normalise: bool = False) -> Sheet:
    (found,) = [sheet for sheet in sheets(matrix, normalise=normalise) if sheet.name == name]
    return found


def naive(values: npt.NDArray[np.float64], counted: npt.NDArray[np.bool_]) -> Interval:
    """The same draws, spelt out: who was drawn how often, and a loop over all of them."""
    rows = [row for row in range(len(values)) if any(counted[row])]
    columns = [column for column in range(values.shape[1]) if any(counted[:, column])]
    seeds = range(values.shape[2])
    counting = [(row, column) for row in rows for column in columns if counted[row, column]]
    everything = [values[row, column, seed] for row, column in counting for seed in seeds]
    draw = np.random.default_rng(0)
    kinds: list[Sequence[int]] = [rows, columns, seeds]
    drawn = [draw.multinomial(len(kind), [1 / len(kind)] * len(kind), DRAWS) for kind in kinds]
    means = []
    for i in range(DRAWS):
        total, times = 0.0, 0
        for row, of_row in zip(rows, drawn[0][i], strict=True):
            for column, of_column in zip(columns, drawn[1][i], strict=True):
                if not counted[row, column]:
                    continue
                for seed, of_seed in zip(seeds, drawn[2][i], strict=True):
                    total += int(of_row * of_column * of_seed) * values[row, column, seed]
                    times += int(of_row * of_column * of_seed)
        if times:
            means.append(total / times)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(sum(everything) / len(everything), float(low), float(high))


@pytest.mark.parametrize("seed", range(3))
def test_crossed_bootstrap_against_loops(seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(3, 4, 5))
    counted = draw.random((3, 4)) < 0.6
    counted[:, 1] = False
    values[~counted] = np.nan  # what does not count is not read
    values = np.where(counted[:, :, None], values, 1e300)
    np.testing.assert_allclose(crossed(values, counted), naive(values, counted), rtol=1e-9)


def test_draws_of_which_nothing_counts_are_left_out() -> None:
    """Two learners that are each other's only partner: half of the draws are of self-play."""
    values = np.random.default_rng(0).normal(size=(2, 2, 3))
    counted = ~np.eye(2, dtype=np.bool_)
    found = crossed(values, counted)
    np.testing.assert_allclose(found, naive(values, counted), rtol=1e-9)
    assert math.isfinite(found.low)


def test_it_knows_that_seeds_and_partners_differ() -> None:
    """Learners a unit apart: an interval over episodes alone would have almost no width."""
    values = np.repeat(np.array([0.0, 1.0, 2.0, 3.0])[:, None, None], 50, axis=2) + np.zeros((4, 1, 50))
    over_learners = crossed(values, np.ones((4, 1), dtype=np.bool_))
    assert over_learners.mean == 1.5
    assert over_learners.high - over_learners.low > 1.5
    one = crossed(values[:1], np.ones((1, 1), dtype=np.bool_))
    assert one == (0.0, 0.0, 0.0)


def test_cells() -> None:
    matrix = make_matrix(episodes=9)
    for name, values in [
        ("return", matrix.returns),
        ("length", matrix.lengths),
        ("score", matrix.outcomes["score"]),
        ("team return", matrix.team_returns),
    ]:
        assert values is not None
        cells = sheet_of(matrix, name).cells
        for row in range(4):
            for column in range(5):
                draw = np.random.default_rng(0)
                resampled = [draw.choice(values[row, column], 9).mean() for _ in range(2000)]
                low, high = np.quantile(resampled, [0.025, 0.975])
                wanted = values[row, column].mean(), low, high
                assert cells[row][column] == pytest.approx(wanted, rel=1e-12)
    wins = matrix.outcomes["win"]
    assert sheet_of(matrix, "win").cells[2][1] == share(int(wins[2, 1].sum()), 9)


def test_means_are_over_a_group_without_self_play() -> None:
    matrix = make_matrix()
    sheet, values = sheet_of(matrix, "return"), matrix.returns
    assert groups_of(matrix) == [TRAINING, HELD_OUT, SELF_PLAY]
    counted = np.zeros((4, 5), dtype=np.bool_)
    counted[0, [1, 2]] = True
    assert sheet.rows[0][TRAINING] == pytest.approx(naive(values, counted), rel=1e-9)
    counted[1, [0, 2]] = True
    assert sheet.groups["iql"][TRAINING] == pytest.approx(naive(values, counted), rel=1e-9)
    assert sheet.rows[2][HELD_OUT] == bootstrapped(values[2, 4])  # one cell, and so that cell's
    assert sheet.rows[1][SELF_PLAY] == bootstrapped(values[1, 1])
    diagonal = values[[0, 1], [0, 1]][:, None]
    both = np.ones((2, 1), dtype=np.bool_)
    assert sheet.groups["iql"][SELF_PLAY] == pytest.approx(naive(diagonal, both), rel=1e-9)
    assert sheet.rows[3][SELF_PLAY] is None
    assert list(sheet.groups) == ["iql", "vdn", "walk (script)"]
    alone = make_matrix([("a", "iql")], [("a", TRAINING)])
    assert sheet_of(alone, "return").rows[0][TRAINING] is None


def test_wins_of_one_cell_have_wilsons_interval_in_means_too() -> None:
    matrix = make_matrix([("a", "iql")], [("b", TRAINING)])
    wins = share(int(matrix.outcomes["win"].sum()), 6)
    assert sheet_of(matrix, "win").rows[0][TRAINING] == wins
    assert sheet_of(matrix, "win").groups["iql"][TRAINING] == wins


def test_normalised_by_the_best_response() -> None:
    matrix = make_matrix()
    best = [max(float(matrix.returns[row, column].mean()) for row in range(4)) for column in range(5)]
    assert min(best) > 0
    plain, sheet = sheet_of(matrix, "return"), sheet_of(matrix, "return / best", normalise=True)
    for row in range(4):
        for column in range(5):
            cell, wanted = sheet.cells[row][column], plain.cells[row][column]
            assert cell is not None
            assert wanted is not None
            assert cell == pytest.approx([value / best[column] for value in wanted], rel=1e-12)
    means = np.array([[cell.mean for cell in row if cell] for row in sheet.cells])
    assert means.max(0) == pytest.approx(np.ones(5), rel=1e-12)
    shares = matrix.returns / np.array(best)[:, None]
    counted = np.zeros((4, 5), dtype=np.bool_)
    counted[2, :3] = True
    assert sheet.rows[2][TRAINING] == pytest.approx(naive(shares, counted), rel=1e-9)
    assert [s.name for s in sheets(matrix)] == ["return", "team return", "win", "score", "length"]
    assert next(s.name for s in sheets(matrix, normalise=True)) == "return / best"


def test_where_the_best_is_not_positive_nothing_is_normalised() -> None:
    matrix = make_matrix()
    returns = matrix.returns.copy()
    returns[:, 1] = 0.0
    returns[:, 4] -= 1 + returns[:, 4].max()
    matrix = replace(matrix, returns=returns)
    sheet = sheet_of(matrix, "return / best", normalise=True)
    assert [[cell is None for cell in row] for row in sheet.cells] == [[False, True, False, False, True]] * 4
    assert sheet.rows[2][HELD_OUT] is None  # its own self is left out, and the other one is undefined
    assert sheet.rows[1][SELF_PLAY] is None
    best = returns.mean(-1).max(0)
    counted = np.zeros((4, 5), dtype=np.bool_)
    counted[3, [0, 2]] = True
    shares = returns / np.where(best > 0, best, 1.0)[:, None]
    assert sheet.rows[3][TRAINING] == pytest.approx(naive(shares, counted), rel=1e-9)
    assert all(cell is not None for row in sheet_of(matrix, "return").cells for cell in row)
    every = replace(matrix, returns=-np.ones_like(returns))
    found = sheet_of(every, "return / best", normalise=True)
    assert all(cell is None for row in found.cells for cell in row)
    assert all(mean is None for means in found.groups.values() for mean in means.values())


def test_one_episode_has_no_interval_and_json_no_infinity() -> None:
    sheet = sheet_of(make_matrix(episodes=1), "return")
    cell = sheet.cells[0][0]
    assert cell is not None
    assert (cell.low, cell.high) == (-math.inf, math.inf)
    raw = json.loads(json.dumps(sheet.to_json(), allow_nan=False))
    assert raw["cells"][0][0] == {"mean": cell.mean, "low": None, "high": None}
    assert raw["rows"][3][SELF_PLAY] is None
    assert raw["groups"].keys() == {"iql", "vdn", "walk (script)"}
