"""What each agent's network makes of each action, beside the picture of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from endmark.envs import Picture
from endmark.envs.boards import font
from endmark.report.film import require_pillow
from endmark.rollout import Scene

GROUND, INK, FADED, FAINT, TRACK = "#ffffff", "#33312c", "#7d796f", "#b5b1a8", "#efece4"
TAKEN, OTHER = "#c2571a", "#a9c4d6"
HEADER, NAME, ROW, GAP, MARGIN = 52, 20, 16, 12, 14  # heights, but for the margin, which is all around
LABEL, BAR, NUMBER = 66, 110, 48  # widths of what is in a row
WIDTH = LABEL + BAR + NUMBER
COLUMN = 6
"""Agents one below the other, though the picture is less high."""
Numbers = npt.NDArray[np.float64]


class Bars(NamedTuple):
    """The bars: numbers beside them [N, A], where they begin [N] and end [N, A], from 0 left to 1 right."""

    numbers: Numbers
    begin: Numbers
    end: Numbers


class ValuesBeside:
    """Draws a scene's picture, and beside it a bar for each agent's legal actions; the one taken stands out.

    An agent that has left is grey. A probability's bar is as long as it is high. A value's bar begins at the
    mean of the agent's legal actions, for it is the differences that decide; all agents have one scale, which
    grows as values come.

    probabilities: whether the outputs are logits, to be shown as probabilities. action_names: a word for each
    action; numbers where they are not as many as the actions. Needs Pillow; ValueError without.
    """

    def __init__(self, *, probabilities: bool, action_names: Sequence[str] = ()) -> None:
        require_pillow()
        self._probabilities, self._names = probabilities, action_names
        self._widest = 1e-9

    def __call__(self, scene: Scene) -> Picture:
        """The scene as one picture. All scenes of an environment give the same size."""
        from PIL import Image, ImageDraw

        assert scene.avail_actions is not None, "actions are vectors, want numbered ones"
        n_agents, n_actions = scene.avail_actions.shape
        height, width = scene.picture.shape[:2]
        block = NAME + ROW * n_actions + GAP
        in_column = min(n_agents, max((height - HEADER) // block, COLUMN if n_actions <= COLUMN else 2))
        columns = -(-n_agents // in_column)
        whole = max(height, HEADER + in_column * block)
        image = Image.new("RGB", (width + MARGIN + columns * (WIDTH + MARGIN), whole), GROUND)
        image.paste(Image.fromarray(scene.picture), (0, (whole - height) // 2))
        draw, left = ImageDraw.Draw(image), width + MARGIN
        end = f", {scene.end}" if scene.end else ""
        what = "probability of each action" if self._probabilities else "value; bar: above or below the mean"
        _write(draw, left, 14, f"step {scene.t}, return {scene.total:.2f}{end}", INK, 13.0)
        _write(draw, left, 33, what, FADED)
        bars = self._bars(scene)
        for n in range(n_agents):
            x = left + n // in_column * (WIDTH + MARGIN)
            self._agent(draw, x, HEADER + n % in_column * block, n, scene, bars)
        return np.asarray(image)

    def _agent(self, draw: Any, x: int, y: int, n: int, scene: Scene, bars: Bars | None) -> None:
        """Agent n's name, and a row for each of its actions."""
        assert scene.avail_actions is not None
        alive, legal = bool(scene.alive[n]), scene.avail_actions[n]
        _write(
            draw, x, y + 9, f"agent {n}" if alive else f"agent {n} has left", INK if alive else FAINT, 13.0
        )
        names = self._names if len(self._names) == len(legal) else [str(a) for a in range(len(legal))]
        for a, name in enumerate(names):
            top, bottom = y + NAME + a * ROW, y + NAME + (a + 1) * ROW
            draw.rectangle((x + LABEL, top + 3, x + LABEL + BAR, bottom - 3), TRACK)
            if bars is None or not alive or not legal[a]:
                _write(draw, x, top + ROW // 2, name[:10], FAINT)
                continue
            taken = scene.actions is not None and scene.actions[n] == a
            begin, end = (x + LABEL + BAR * at for at in sorted((bars.begin[n], bars.end[n, a])))
            draw.rectangle((begin, top + 3, end, bottom - 3), TAKEN if taken else OTHER)
            if bars.begin[n] > 0:
                middle = x + LABEL + BAR * bars.begin[n]
                draw.line([(middle, top + 1), (middle, bottom - 1)], FADED)
            _write(draw, x, top + ROW // 2, name[:10], TAKEN if taken else INK)
            number = f"{bars.numbers[n, a]:.2f}"
            _write(draw, x + WIDTH, top + ROW // 2, number, TAKEN if taken else INK, anchor="rm")

    def _bars(self, scene: Scene) -> Bars | None:
        """The bars of legal actions; None at the end. What is illegal has numbers that mean nothing."""
        if scene.outputs is None or scene.avail_actions is None:
            return None
        outputs = scene.outputs.astype(np.float64)
        legal = scene.avail_actions & scene.alive[:, None]
        if self._probabilities:
            highest = outputs.max(-1, keepdims=True, initial=-np.inf, where=legal)
            odds = np.exp(outputs - highest, out=np.zeros_like(outputs), where=legal)
            shares = odds / np.maximum(odds.sum(-1, keepdims=True), 1.0)
            return Bars(shares, np.zeros(len(shares)), shares)
        mean = np.where(legal, outputs, 0.0).sum(-1) / np.maximum(legal.sum(-1), 1)
        above = np.where(legal, outputs - mean[:, None], 0.0)
        self._widest = max(self._widest, float(np.abs(above).max()))
        return Bars(outputs, np.full(len(outputs), 0.5), 0.5 + 0.5 * above / self._widest)


def _write(draw: Any, x: int, y: int, text: str, colour: str, size: float = 11.0, anchor: str = "lm") -> None:
    draw.text((x, y), text, colour, font(size), anchor=anchor)
