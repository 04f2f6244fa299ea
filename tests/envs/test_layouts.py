"""What the numbers of an observation are said to mean is what they mean."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest

from endmark.envs import GymAdapter, make
from endmark.envs.layouts import foraging


@pytest.mark.parametrize(
    ("env_id", "arguments"),
    [
        ("lbforaging:Foraging-8x8-2p-3f-v3", {}),
        ("lbforaging:Foraging-8x8-2p-3f-v3", {"sight": 7}),
        ("lbforaging:Foraging-8x8-3p-3f-v3", {"observe_agent_levels": False}),
        ("lbforaging:Foraging-6x6-4p-2f-v3", {}),
    ],
)
def test_foraging_has_its_places_where_the_layout_says(env_id: str, arguments: dict[str, Any]) -> None:
    with closing(make(env_id, **arguments)) as env:
        assert isinstance(env, GymAdapter)
        layout, game = env.layout, env._unwrapped
        assert layout is not None
        for seed in range(5):
            frame = env.reset(seed=seed)
            for _ in range(4):
                frame = env.step(np.array([np.flatnonzero(row)[-1] for row in frame.legal])).frame
                positions = [tuple(map(int, player.position)) for player in game.players]
                foods = {(*map(int, cell), int(game.field[tuple(cell)])) for cell in np.argwhere(game.field)}
                assert (layout.rows, layout.cols) == game.field.shape
                for agent, obs in enumerate(frame.obs):
                    others = [position for n, position in enumerate(positions) if n != agent]
                    assert tuple(obs[list(layout.own)]) == positions[agent]
                    assert [tuple(obs[list(pair)]) for pair in layout.others] == others
                    seen = {tuple(map(int, obs[list(food)])) for food in layout.foods}
                    assert {food for food in seen if food[2] > 0} == foods


@pytest.mark.parametrize(
    ("env_id", "arguments"),
    [
        ("lbforaging:Foraging-2s-8x8-2p-3f-v3", {}),
        ("lbforaging:Foraging-8x8-2p-3f-v3", {"sight": 6}),
        ("CartPole-v1", {}),
    ],
)
def test_where_places_are_not_known(env_id: str, arguments: dict[str, Any]) -> None:
    with closing(make(env_id, **arguments)) as env:
        assert isinstance(env, GymAdapter)
        assert env.layout is None


def test_images_of_foraging_have_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(make("lbforaging:Foraging-8x8-2p-3f-v3")) as env:
        assert isinstance(env, GymAdapter)
        assert foraging(env._unwrapped) == env.layout
        monkeypatch.setattr(env._unwrapped, "_grid_observation", True)
        assert foraging(env._unwrapped) is None
