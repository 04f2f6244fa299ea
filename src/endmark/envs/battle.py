"""A picture of a battle in SMAX, by Pillow, which takes milliseconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from endmark.envs.boards import FINER, GROUND, INK, LINES, PAPER, font
from endmark.envs.protocol import Picture

ALLIES, ENEMIES, FALLEN, TRACK = "#2a6f97", "#b8433c", "#c9c3b4", "#ddd7c8"
PIXELS = 480
LARGER = 1.6
"""Units are drawn this much larger than they are, so that there is room for a letter."""
MOVES = ("north", "east", "south", "west", "stop")


def action_names(env: Any) -> tuple[str, ...]:
    """A word for each action of an ally: the moves, and an attack on each enemy."""
    return (*MOVES, *(f"attack {k}" for k in range(env.num_enemies)))


def picture(env: Any, state: Any) -> Picture:
    """Allies in blue, enemies in red, numbered as in the actions; health above each, and who attacks whom.

    env: JaxMARL's SMAX. state: its inner state, of one battle, with arrays of JAX or numpy.
    """
    from PIL import Image, ImageDraw

    scale = FINER * PIXELS / env.map_width
    image = Image.new("RGB", (FINER * PIXELS, round(env.map_height * scale)), GROUND)
    draw = ImageDraw.Draw(image)
    for k in range(0, int(max(env.map_width, env.map_height)) + 1, 4):
        draw.line([(k * scale, 0), (k * scale, image.height)], LINES, FINER)
        draw.line([(0, image.height - k * scale), (image.width, image.height - k * scale)], LINES, FINER)
    kinds, alive = np.asarray(state.unit_types), np.asarray(state.unit_alive)
    places = (np.asarray(state.unit_positions) * [scale, -scale] + [0, image.height]).tolist()
    radii = (np.asarray(env.unit_type_radiuses)[kinds] * scale * LARGER).tolist()
    health = (np.asarray(state.unit_health) / np.asarray(env.unit_type_health)[kinds]).clip(0, 1).tolist()
    colours = [ALLIES] * env.num_allies + [ENEMIES] * env.num_enemies
    for unit, at in enumerate(_attacked(env, state)):
        if at is not None and alive[unit] and alive[at]:
            draw.line([tuple(places[unit]), tuple(places[at])], colours[unit], 2 * FINER)
    for unit in np.argsort(alive, kind="stable").tolist():  # the fallen lie below
        (x, y), r, number = places[unit], radii[unit], unit - env.num_allies * (unit >= env.num_allies)
        if not alive[unit]:
            for side in (-r, r):
                draw.line([(x - r / 2, y - side / 2), (x + r / 2, y + side / 2)], FALLEN, 2 * FINER)
            continue
        draw.ellipse((x - r, y - r, x + r, y + r), colours[unit])
        draw.text((x, y), str(number), PAPER, font(1.3 * r), anchor="mm")
        top, long = y - r - 5 * FINER, 2 * r * health[unit]
        draw.rectangle((x - r, top, x + r, top + 3 * FINER), TRACK)
        draw.rectangle((x - r, top, x - r + long, top + 3 * FINER), INK)
    return np.asarray(image.reduce(FINER))


def _attacked(env: Any, state: Any) -> list[int | None]:
    """Whom each unit attacked last; None if nobody. Enemies count their targets from the last ally."""
    found: list[int | None] = []
    for unit, action in enumerate(np.asarray(state.prev_attack_actions).tolist()):
        target = action - env.num_movement_actions
        ours = unit < env.num_allies
        found.append(None if target < 0 else env.num_allies + target if ours else env.num_allies - 1 - target)
    return found
