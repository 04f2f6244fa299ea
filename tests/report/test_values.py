"""The bars beside a picture say what the numbers say."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ImageColor

from endmark.envs import Picture
from endmark.report import ValuesBeside
from endmark.report.values import BAR, HEADER, LABEL, MARGIN, NAME, OTHER, ROW, TAKEN
from endmark.rollout import Scene

WIDTH = 40


def scene(outputs: npt.ArrayLike | None, *, taken: list[int], **changes: Any) -> Scene:
    shape = np.shape(outputs) if outputs is not None else (len(taken), 3)
    values = None if outputs is None else np.asarray(outputs, np.float32)
    plain = Scene(
        t=2,
        picture=np.zeros((300, WIDTH, 3), np.uint8),
        alive=np.ones(shape[0], np.bool_),
        avail_actions=np.ones(shape, np.bool_),
        actions=None if outputs is None else np.asarray(taken),
        outputs=values,
        total=0.5,
        end="terminated" if outputs is None else None,
    )
    return plain._replace(**changes)


def bars(picture: Picture, n_actions: int, agent: int = 0) -> list[tuple[str, int]]:
    """The colour and the length of each of an agent's bars."""
    found = []
    left = WIDTH + MARGIN + LABEL
    for a in range(n_actions):
        top = HEADER + agent * (NAME + ROW * n_actions + 12) + NAME + a * ROW
        row = picture[top + 4, left : left + BAR + 1]
        for name, colour in (("taken", TAKEN), ("other", OTHER)):
            if n := int((row == ImageColor.getrgb(colour)).all(-1).sum()):
                found.append((name, n))
                break
        else:
            found.append(("none", 0))
    return found


def test_probabilities_are_the_softmax_over_legal_actions() -> None:
    draw = ValuesBeside(probabilities=True)
    legal = np.array([[True, True, True, False]])
    logits = np.log([[0.1, 0.6, 0.3, 5.0]]) + 7
    found = bars(draw(scene(logits, taken=[1], avail_actions=legal)), 4)
    assert [name for name, _ in found] == ["other", "taken", "other", "none"]
    assert [n for _, n in found[:3]] == pytest.approx([BAR * 0.1, BAR * 0.6, BAR * 0.3], abs=2)


def test_values_stand_out_from_the_mean_on_one_scale() -> None:
    draw = ValuesBeside(probabilities=False)
    outputs = [[10.0, 14.0, 12.0], [12.0, 13.0, 11.0]]
    picture = draw(scene(outputs, taken=[1, 0]))
    first, second = (bars(picture, 3, agent) for agent in range(2))
    assert [name for name, _ in first[:2]] == ["other", "taken"]
    assert first[2][1] <= 2
    assert first[0][1] == pytest.approx(BAR / 2, abs=2)
    assert first[1][1] == pytest.approx(BAR / 2, abs=2)
    assert second[1][1] == pytest.approx(BAR / 4, abs=2)
    assert second[2][1] == pytest.approx(BAR / 4, abs=2)
    # The scale stays where it was.
    again = bars(draw(scene([[0.0, 2.0, 1.0]] * 2, taken=[1, 1])), 3)
    assert again[1] == ("taken", second[1][1])


def test_an_agent_that_has_left_and_the_end_have_no_bars() -> None:
    draw = ValuesBeside(probabilities=False)
    outputs = [[np.nan] * 3, [0.0, 1.0, 2.0]]
    picture = draw(scene(outputs, taken=[0, 2], alive=np.array([False, True])))
    assert bars(picture, 3) == [("none", 0)] * 3
    assert bars(picture, 3, 1)[2][0] == "taken"
    assert bars(draw(scene(None, taken=[0, 0])), 3) == [("none", 0)] * 3


@pytest.mark.parametrize(("n_agents", "n_actions"), [(1, 2), (8, 13), (20, 5), (3, 40)])
@pytest.mark.parametrize("probabilities", [True, False])
def test_there_is_room_for_all(n_agents: int, n_actions: int, probabilities: bool) -> None:
    """Every agent's last action, the one taken, is inside the picture, and all pictures have one size."""
    outputs = np.tile(np.arange(n_actions, dtype=np.float32), (n_agents, 1))
    draw = ValuesBeside(probabilities=probabilities)
    picture = draw(scene(outputs, taken=[n_actions - 1] * n_agents))
    taken = (picture == ImageColor.getrgb(TAKEN)).all(-1)
    rows = np.flatnonzero(np.diff(taken[:, WIDTH:].sum(1) > 20, prepend=False))
    assert len(rows) >= 2
    # Of every block there is a bar; their area counts them.
    bar = int(taken[rows[0] + 1, WIDTH + MARGIN + LABEL : WIDTH + MARGIN + LABEL + BAR + 1].sum())
    height = ROW - 5
    assert taken.sum() >= n_agents * bar * height
    assert draw(scene(outputs, taken=[0] * n_agents)).shape == picture.shape
