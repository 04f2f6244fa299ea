"""Environments of every kind draw pictures where they are asked to."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import ImageColor

from endmark.envs import EnvError, GymAdapter, make, make_drawn, picture_of
from endmark.envs.boards import AGENTS, FOOD, SHELF, WANTED
from support.pictured import SIZE, Blind


@pytest.fixture(autouse=True)
def _no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.mark.parametrize(
    "env_id",
    [
        "CartPole-v1",
        "mpe2.simple_spread_v3",
        "lbforaging:Foraging-8x8-2p-3f-v3",
        "rware:rware-tiny-2ag-v2",
        "support.pictured:Pictured",
    ],
)
def test_pictures_of_one_size_that_change(env_id: str) -> None:
    with closing(make_drawn(env_id)) as env:
        frame = env.reset(seed=3)
        first = picture_of(env)
        before = first.copy()
        for k in range(4):
            legal = [np.flatnonzero(row) for row in frame.legal]
            frame = env.step(np.array([row[(1 + k) % len(row)] for row in legal])).frame
        later = picture_of(env)
        assert later.shape == first.shape
        assert (later != before).any()
        assert (first == before).all()  # a new array each time
        names: tuple[str, ...] = getattr(env, "action_names", ())
        assert len(names) in (0, env.spec.n_actions)
        assert getattr(env, "render_fps", None) in (50, 10, 5)


def test_a_shorter_limit_leaves_the_pictures() -> None:
    with closing(make_drawn("support.pictured:Pictured", episode_limit=3)) as env:
        assert env.spec.episode_limit == 3
        env.reset(seed=2)
        assert picture_of(env).shape == (*SIZE, 3)
        assert getattr(env, "render_fps", None) == 10
        names: tuple[str, ...] = getattr(env, "action_names", ())
        assert names[3] == "fire"
    with pytest.raises(EnvError, match="draws no pictures"):
        picture_of(make("support.pictured:Blind", episode_limit=3))
    with pytest.raises(EnvError, match="draws no pictures: it has no method render"):
        picture_of(Blind())


class Dark(gym.Env[Any, Any]):
    """Shows itself to people alone."""

    metadata = {"render_modes": ["human"]}  # noqa: RUF012 - as Gymnasium has it
    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)


def test_a_render_mode_that_is_missing() -> None:
    env = GymAdapter(Dark(), episode_limit=1)
    assert not env.draws_if_asked
    with pytest.raises(EnvError, match="draws no pictures: its render modes are 'human', want 'rgb_array'"):
        picture_of(env)


def test_foraging_shows_who_and_what_is_where() -> None:
    with closing(make_drawn("lbforaging:Foraging-8x8-2p-3f-v3")) as env:
        env.reset(seed=5)
        field = env._env.unwrapped  # type: ignore[attr-defined]
        picture = picture_of(env)
        cell = picture.shape[0] // 8
        for number, player in enumerate(field.players):
            row, col = player.position
            inside = picture[row * cell + cell // 2, col * cell + int(0.25 * cell)]
            assert tuple(inside) == ImageColor.getrgb(AGENTS[number])
        food = [tuple(at) for at in np.argwhere(field.field)]
        assert len(food) > 0
        red = ImageColor.getrgb(FOOD)
        with_red = {
            (row, col)
            for row in range(8)
            for col in range(8)
            if tuple(picture[row * cell + cell // 2, col * cell + cell // 2]) == red
        }
        assert with_red == set(food)


def test_the_warehouse_shows_what_is_asked_for() -> None:
    with closing(make_drawn("rware:rware-tiny-2ag-v2")) as env:
        env.reset(seed=0)
        inner = env._env.unwrapped  # type: ignore[attr-defined]
        picture = picture_of(env)
        rows, cols = inner.grid_size
        cell = picture.shape[0] // rows
        assert picture.shape[1] // cell == cols
        free = {(robot.x, robot.y) for robot in inner.agents}
        seen = set()
        for shelf in inner.shelfs:
            if (shelf.x, shelf.y) in free:
                continue
            colour = tuple(picture[shelf.y * cell + cell // 2, shelf.x * cell + cell // 2])
            wanted = any(shelf is other for other in inner.request_queue)
            assert colour == ImageColor.getrgb(WANTED if wanted else SHELF)
            seen.add(wanted)
        assert seen == {True, False}


class NoSuchDisplay(Exception):
    """As pyglet raises it."""

    __module__ = "pyglet.display"


def test_a_screen_that_is_missing_is_said() -> None:
    class NeedsScreen(Dark):
        metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

        def render(self) -> None:
            raise NoSuchDisplay("Cannot connect to None")

    with pytest.raises(EnvError, match="it needs a screen; where there is none: xvfb-run"):
        picture_of(GymAdapter(NeedsScreen(), episode_limit=1))
