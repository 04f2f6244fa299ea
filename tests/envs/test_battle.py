"""The picture of a battle, on a double of JaxMARL's SMAX."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import ImageColor

from endmark.envs import Picture
from endmark.envs.battle import ALLIES, ENEMIES, FALLEN, PIXELS, action_names, picture
from endmark.envs.boards import INK

ENV = SimpleNamespace(
    map_width=32,
    map_height=32,
    num_allies=2,
    num_enemies=3,
    num_movement_actions=5,
    unit_type_radiuses=np.array([0.375, 0.625]),
    unit_type_health=np.array([45.0, 160.0]),
)
PLACES = [[4.0, 28.0], [4.0, 4.0], [28.0, 28.0], [28.0, 16.0], [28.0, 4.0]]


def state(**changes: Any) -> SimpleNamespace:
    plain: dict[str, Any] = {
        "unit_positions": np.array(PLACES),
        "unit_alive": np.ones(5, np.bool_),
        "unit_types": np.array([0, 1, 0, 0, 1]),
        "unit_health": np.array([45.0, 80.0, 45.0, 45.0, 160.0]),
        "prev_attack_actions": np.zeros(5, np.int64),
    }
    return SimpleNamespace(**plain | changes)


def pixels(seen: Picture, colour: str, x: float, y: float, around: int = 30) -> int:
    """Pixels of this colour around a place of the map."""
    scale = PIXELS / 32
    row, col = round(PIXELS - y * scale), round(x * scale)
    part = seen[max(0, row - around) : row + around, max(0, col - around) : col + around]
    return int((part == ImageColor.getrgb(colour)).all(-1).sum())


def test_every_unit_is_where_it_is_in_its_colour_with_its_health() -> None:
    seen = picture(ENV, state())
    assert seen.shape == (PIXELS, PIXELS, 3)
    for unit, (x, y) in enumerate(PLACES):
        ours, others = (ALLIES, ENEMIES) if unit < 2 else (ENEMIES, ALLIES)
        assert pixels(seen, ours, x, y) > 100
        assert pixels(seen, others, x, y) == 0
    half, whole = (pixels(seen, INK, x, y) for x, y in (PLACES[1], PLACES[4]))
    assert abs(2 * half - whole) <= 0.15 * whole


def test_the_fallen_are_marked() -> None:
    seen = picture(ENV, state(unit_alive=np.array([True, False, True, True, False])))
    for unit, (x, y) in enumerate(PLACES):
        fallen = unit in (1, 4)
        assert (pixels(seen, FALLEN, x, y) > 10) is fallen
        assert (pixels(seen, ALLIES, x, y) + pixels(seen, ENEMIES, x, y) == 0) is fallen


def test_attacks_are_lines_between_those_who_live() -> None:
    """Ally 0 attacks enemy 1, enemy 0 ally 0, which it counts as its second target; a move is no attack."""
    acts = {"prev_attack_actions": np.array([6, 3, 6, 0, 0])}
    seen, still = picture(ENV, state(**acts)), picture(ENV, state())
    for colour, x, y in ((ALLIES, 16, 22), (ENEMIES, 16, 28)):
        assert pixels(seen, colour, x, y, around=6) > 5
        assert pixels(still, colour, x, y, around=6) == 0
    killed = picture(ENV, state(**acts, unit_alive=np.array([True, True, True, False, True])))
    assert pixels(killed, ALLIES, 16, 22, around=6) == 0
    assert pixels(killed, ENEMIES, 16, 28, around=6) > 5


def test_actions_have_names() -> None:
    assert action_names(ENV) == ("north", "east", "south", "west", "stop", "attack 0", "attack 1", "attack 2")
