"""The simulation of docs/scale.md, where its result is known."""

from __future__ import annotations

import pytest
from benchmarks.scale import Costs, measure, simulate, table
from benchmarks.shapes import TINY

COSTS = Costs(update=0.1, take=0.001, put=0.0, episode_bytes=1000.0, weights_bytes=50, steps=10.0)


def test_one_actor_and_the_learner_take_turns() -> None:
    run = simulate(COSTS, 1, n_envs=2, step=0.01, episodes_per_update=2, every=1)
    turn = 10 * 2 * 0.01 + 2 * 0.001 + 0.1  # play, take, learn
    assert run.steps_a_second == pytest.approx(20 / turn, rel=0.05)
    assert run.updates_a_second == pytest.approx(1 / turn, rel=0.05)
    assert run.busy == pytest.approx(0.102 / turn, rel=0.05)
    assert (run.waits, run.staleness) == (0.0, 0.0)
    assert run.bytes_in == pytest.approx(2000 / turn, rel=0.05)
    assert run.bytes_out == pytest.approx(50 / turn, rel=0.05)


def test_many_actors_are_bound_by_the_learner() -> None:
    run = simulate(COSTS, 1000, n_envs=1, step=0.01, episodes_per_update=1, every=1)
    assert run.busy == pytest.approx(1.0)
    assert run.steps_a_second == pytest.approx(10 / 0.101, rel=0.01)
    assert run.staleness == pytest.approx(999.0)  # an update for each of the others
    assert run.waits > 0.98


def test_weights_that_go_out_less_often_cost_fewer_bytes() -> None:
    often, seldom = (
        simulate(COSTS, 10, n_envs=1, step=0.01, episodes_per_update=4, every=every) for every in (1, 10)
    )
    assert seldom.bytes_out < often.bytes_out / 2
    assert seldom.staleness > often.staleness


def test_costs_are_measured_and_a_table_has_a_row_for_each_count() -> None:
    costs = measure(TINY)
    assert costs.update > costs.take > 0
    assert costs.weights_bytes > 0
    assert len(table(costs, [1, 10], n_envs=1, step=0.001, episodes_per_update=1, every=1)) == 4
