from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from endmark.episodes import Bounds, EpisodeBatch, EpisodeSpec
from endmark.episodes.files import save_episodes
from endmark.inspect.inspection import inspect
from endmark.inspect.source import Source, read
from support.helpers import bits, random_batch
from support.inspections import shown


def with_actions(*rows: list[list[int]], **more: Tensor) -> Source:
    """Rows of two steps and a final frame, the second step terminal."""
    n = len(rows)
    flags = {"filled": bits(*["111"] * n), "terminated": bits(*["010"] * n)}
    return Source("x", "padded batch", {**flags, "actions": torch.tensor(rows)[..., None], **more})


@pytest.mark.parametrize("wrong", [-1, 2**62, 3])
def test_an_action_that_does_not_exist_breaks_the_batch(wrong: int) -> None:
    avail = torch.ones(2, 3, 2, 3, dtype=torch.int32)
    sound = with_actions([[0, 1], [2, 0], [wrong, 99]], [[0, 1], [2, 0], [0, 0]], avail_actions=avail)
    assert inspect(sound).actions is None  # a final frame has no action
    source = with_actions(
        [[0, 1], [2, 0], [0, 0]],
        [[0, 1], [2, wrong], [0, 0]],
        avail_actions=avail,
        reward=torch.ones(2, 3, 1),
    )
    found = inspect(source)
    assert found.broken
    assert found.actions is not None
    assert (found.actions.n_actions, found.actions.outside, found.actions.illegal) == (3, 1, 0)
    assert found.actions.first_outside == (1, 1, 1, str(wrong))
    assert json.loads(json.dumps(found.to_json()))["actions"]["outside"] == 1
    text = shown(source, found, width=120)
    assert "1 on real steps are none: want 0 <= action < 3" in text
    assert f"first at row 1, t 1, agent 1: {wrong}" in text
    assert "broken: actions that do not exist" in text
    padded = {**source.tensors, "obs": torch.zeros(2, 3, 2, 1)}
    with pytest.raises(ValueError, match=rf"episode 1, step 1, agent 1: given {wrong}, want 0 <= action < 3"):
        EpisodeBatch.from_padded(padded)


@pytest.mark.parametrize(("wrong", "broken"), [(-1, True), (2**62, True), (1000, False)])
def test_actions_without_a_number_of_actions(wrong: int, broken: bool) -> None:
    assert inspect(with_actions([[0, 1], [2, wrong], [0, 0]])).broken == broken


@pytest.mark.parametrize("wrong", [0.5, math.nan, math.inf, -0.5])
def test_actions_that_are_no_whole_numbers(wrong: float) -> None:
    source = with_actions([[0, 1], [1, 1], [0, 0]], avail_actions=torch.ones(1, 3, 2, 2))
    tensors = dict(source.tensors) | {"actions": source.tensors["actions"].double()}
    assert inspect(replace(source, tensors=tensors)).actions is None
    tensors["actions"][0, 0, 0] = wrong
    found = inspect(replace(source, tensors=tensors))
    assert found.broken
    assert found.actions is not None
    assert found.actions.first_outside == (0, 0, 0, str(wrong))
    json.dumps(found.to_json()["actions"], allow_nan=False)


def test_an_action_that_was_not_legal_is_said_and_breaks_nothing() -> None:
    """As `EpisodeBatch`, which takes it: there are environments that do."""
    avail = torch.ones(1, 3, 2, 3, dtype=torch.int32)
    avail[0, 1, 1, 2] = avail[0, 2] = 0
    source = with_actions([[0, 1], [2, 2], [0, 0]], avail_actions=avail)
    found = inspect(source)
    assert not found.broken
    assert found.actions is not None
    assert (found.actions.outside, found.actions.illegal, found.actions.first_illegal) == (
        0,
        1,
        (0, 1, 1, "2"),
    )
    assert "sound, but for actions that were not legal" in shown(source, found, width=120)
    gone = torch.tensor([[[1, 1], [1, 0], [1, 0]]], dtype=torch.uint8)
    assert inspect(with_actions([[0, 1], [2, 2], [0, 0]], avail_actions=avail, alive=gone)).actions is None


@pytest.mark.parametrize("size", [1, 3])
def test_vectors_are_no_numbers(size: int, tmp_path: Path) -> None:
    """Of stored episodes, whose spec says so; and of a padded batch, where several numbers say so."""
    bounds = Bounds.of([-1.0] * size, [1.0] * size, 2)
    spec = EpisodeSpec.of(n_agents=2, bounds=bounds, episode_limit=6, obs_shape=(3,))
    batch = random_batch(0, spec=spec)
    save_episodes(batch, tmp_path / "episodes.safetensors")
    source = read(tmp_path / "episodes.safetensors")
    assert source.vectors
    found = inspect(source)
    assert found.actions is None
    assert not found.broken
    if size > 1:
        assert inspect(Source("x", "padded batch", source.tensors)).actions is None
    wrong = {**source.tensors, "actions": source.tensors["actions"].clone()}
    wrong["actions"][0, 0, 1, 0] = torch.nan
    assert inspect(replace(source, tensors=wrong)).broken
