"""The scripted foragers: right moves on boards made by hand, and how they do on the real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from endmark.envs import make
from endmark.episodes import NO_ACTION, EpisodeBatch, Seen
from endmark.policies import Scripted
from endmark.policies.scripted import LOAD, farthest_food, nearest_food, random
from endmark.rollout import InProcess, episode_returns, play

pytest.importorskip("lbforaging")
STAY, NORTH, SOUTH, WEST, EAST = range(5)
SIDE = 6


def board(
    foods: list[tuple[int, int, int]], agents: list[tuple[int, int]], illegal: tuple[int, ...] = ()
) -> Seen:
    """What each of these agents sees of a board of 6 x 6 cells; foods of level 0 have been eaten."""
    rows = []
    for n, (row, column) in enumerate(agents):
        others = [agents[m] for m in range(len(agents)) if m != n]
        things = [food if food[2] else (-1, -1, 0) for food in foods]
        things += [(r, c, 1) for r, c in [(row, column), *others]]
        rows.append([float(number) for thing in things for number in thing])
    legal = torch.zeros(1, len(agents), 6, dtype=torch.bool)
    there = {(r, c) for r, c, level in foods if level}
    for n, (row, column) in enumerate(agents):
        cells = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        legal[0, n, STAY] = True
        for action, (r, c) in enumerate(cells, 1):
            legal[0, n, action] = 0 <= r < SIDE and 0 <= c < SIDE and (r, c) not in there
        legal[0, n, LOAD] = any(cell in there for cell in cells)
    for action in illegal:
        legal[0, :, action] = False
    alive = torch.ones(1, len(agents), dtype=torch.bool)
    last = torch.full((1, len(agents)), NO_ACTION)
    return Seen(torch.tensor([rows]), legal, alive, None, torch.ones(1).bool(), last, torch.zeros(1).long())


def moves(script: Any, seen: Seen, agent: int = 0) -> set[int]:
    """What it may do there: all that 60 draws show."""
    generator = torch.Generator().manual_seed(0)
    return {int(script(seen, generator)[0, agent]) for _ in range(60)}


@pytest.mark.parametrize(
    ("foods", "agent", "nearest", "farthest"),
    [
        ([(0, 3, 1)], (4, 3), {NORTH}, {NORTH}),
        ([(5, 3, 1)], (2, 3), {SOUTH}, {SOUTH}),
        ([(2, 0, 1)], (2, 3), {WEST}, {WEST}),
        ([(2, 5, 2)], (2, 3), {EAST}, {EAST}),
        ([(4, 5, 1)], (2, 3), {SOUTH, EAST}, {SOUTH, EAST}),
        ([(2, 4, 3)], (2, 3), {LOAD}, {LOAD}),
        ([(0, 3, 1), (5, 3, 1)], (2, 3), {NORTH}, {SOUTH}),  # two and three steps away
        ([(0, 3, 0), (5, 3, 1)], (2, 3), {SOUTH}, {SOUTH}),  # the nearest was eaten
        ([(5, 3, 1), (0, 3, 0)], (2, 3), {SOUTH}, {SOUTH}),
        ([(3, 3, 1), (2, 0, 1)], (2, 3), {LOAD}, {LOAD}),  # beside it, whatever it is looking for
        ([(3, 4, 1), (2, 0, 1)], (2, 3), {SOUTH, EAST}, {WEST}),
        ([(0, 0, 0), (5, 5, 0)], (2, 3), {STAY, NORTH, SOUTH, WEST, EAST}, {STAY, NORTH, SOUTH, WEST, EAST}),
    ],
)
def test_right_moves(
    foods: list[tuple[int, int, int]], agent: tuple[int, int], nearest: set[int], farthest: set[int]
) -> None:
    seen = board(foods, [agent, (5, 0)])
    assert moves(nearest_food, seen) == nearest
    assert moves(farthest_food, seen) == farthest


def test_each_agent_sees_itself() -> None:
    seen = board([(0, 3, 1), (4, 0, 1)], [(3, 3), (4, 4), (0, 0)])
    assert [moves(nearest_food, seen, n) for n in range(3)] == [{NORTH}, {WEST}, {EAST}]


def test_the_farthest_food_is_kept_to() -> None:
    """After a step towards a food it goes on, though another one is farther by now; not after other steps."""
    seen = board([(0, 3, 1), (5, 3, 1)], [(2, 3), (5, 0)])
    for last, want in [(NORTH, NORTH), (SOUTH, SOUTH), (EAST, SOUTH), (STAY, SOUTH), (LOAD, SOUTH)]:
        after = seen._replace(last_actions=torch.tensor([[last, WEST]]))
        assert moves(farthest_food, after) == {want}
        assert moves(nearest_food, after) == {NORTH}


def test_a_way_that_is_blocked_is_not_taken() -> None:
    seen = board([(0, 5, 1)], [(4, 3), (5, 0)], illegal=(NORTH,))
    assert moves(nearest_food, seen) == {EAST}
    seen = board([(0, 3, 1)], [(4, 3), (5, 0)], illegal=(NORTH,))
    assert moves(nearest_food, seen) == {STAY, SOUTH, WEST, EAST}
    assert NORTH not in moves(random, seen)


@pytest.mark.parametrize("shape", [(1, 2, 7), (1, 2, 3), (1, 2, 4, 8, 8)])
def test_another_environments_observations_are_refused(shape: tuple[int, ...]) -> None:
    seen = board([(0, 3, 1)], [(4, 3), (5, 0)])._replace(obs=torch.zeros(shape))
    with pytest.raises(ValueError, match="want those of Level-Based Foraging: threes of numbers, 6 actions"):
        nearest_food(seen, torch.Generator())


def played(script: Any, env: str, episodes: int, **options: Any) -> EpisodeBatch:
    """On eight boards side by side; `Scripted` refuses an action that is not legal."""
    envs = InProcess([make(env, **options) for _ in range(8)])
    return play(envs, Scripted(script, torch.Generator().manual_seed(0)), range(episodes))


@pytest.mark.parametrize("script", [nearest_food, farthest_food, random])
@pytest.mark.parametrize(
    "env", ["Foraging-8x8-2p-3f-v3", "Foraging-5x5-2p-1f-v3", "Foraging-2s-8x8-3p-3f-coop-v3"]
)
def test_every_action_is_legal_on_real_boards(script: Any, env: str) -> None:
    batch = played(script, f"lbforaging:{env}", 8)
    steps = batch.step_frames
    chosen = batch.avail_actions[steps].gather(2, batch.steps("actions")[..., None])
    assert chosen.all()
    assert batch.n_episodes == 8


LEVEL_ONE = {
    "min_player_level": 1,
    "max_player_level": 1,
    "min_food_level": 1,
    "max_food_level": 1,
}


@pytest.mark.parametrize("players", [1, 2])
def test_the_nearest_food_is_collected_nearly_always(players: int) -> None:
    """By one alone, and by two side by side: all food of level 1, long before the limit of 50."""
    batch = played(nearest_food, "lbforaging:Foraging-8x8-2p-3f-v3", 100, players=players, **LEVEL_ONE)
    assert batch.spec.n_agents == players
    returns = np.array(episode_returns(batch))
    assert (returns > 0.999).mean() >= 0.97, returns
    assert float(batch.terminated.float().mean()) >= 0.97
    assert float(batch.lengths.float().mean()) < 25
    lazier = played(random, "lbforaging:Foraging-8x8-2p-3f-v3", 40, players=players, **LEVEL_ONE)
    assert float(lazier.lengths.float().mean()) > 35


def test_the_farthest_food_is_collected_by_a_longer_way() -> None:
    far, near = (
        played(script, "lbforaging:Foraging-8x8-2p-3f-v3", 100, players=1, **LEVEL_ONE)
        for script in (farthest_food, nearest_food)
    )
    assert float(far.terminated.float().mean()) >= 0.97
    assert far.n_steps > 1.1 * near.n_steps
