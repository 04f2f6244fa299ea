"""The table of families: what it says of environments, and that both adapters follow it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from endmark.envs import Environment, GymAdapter, PettingZooAdapter, Step, known, make
from endmark.envs.known import FAMILIES, Family, family_of
from endmark.envs.limits import Shortened
from support.scripted import Scripted, outcomes_of


def test_a_family_is_found_by_class_and_by_base_class() -> None:
    adapter = make("rware:rware-tiny-2ag-v2")
    assert isinstance(adapter, GymAdapter)
    family = family_of(adapter._unwrapped)
    assert family is not None
    assert family.package == "rware"
    subclass: Any = type("Mine", (type(adapter._unwrapped),), {})
    assert family_of(subclass.__new__(subclass)) is family
    assert family_of(object()) is None


def test_every_class_in_the_table_is_that_of_its_examples() -> None:
    for family in FAMILIES:
        if family.env_class is not None and family.source is None:
            for example in family.examples:
                adapter: Any = make(example)
                assert family_of(adapter._unwrapped) is family


class Timer:
    """Two agents; says "terminated" at its own limit of 4 steps, and remembers how often it was reset."""

    metadata = {"name": "timer"}  # noqa: RUF012
    possible_agents = ["a", "b"]  # noqa: RUF012
    left_behind = 0

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Box(0, 99, (1,))

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None) -> tuple[Any, Any]:
        self.t, self.agents = 0, list(self.possible_agents)
        self.left_behind += 1
        return {agent: [self.left_behind] for agent in self.agents}, {}

    def step(self, actions: dict[str, int]) -> tuple[Any, ...]:
        self.t += 1
        over, here = self.t == 4, self.agents
        self.agents = [] if over else here
        seen = {agent: [self.t] for agent in here}
        return seen, dict.fromkeys(here, 1.0), dict.fromkeys(here, over), dict.fromkeys(here, False), {}

    def close(self) -> None:
        pass


def clear(env: Timer) -> None:
    env.left_behind = 0


def how_it_ends(env: Environment) -> tuple[int, bool]:
    env.reset()
    for t in range(1, 100):
        step = env.step(np.zeros(2, np.int64))
        if step.end is not None:
            return t, step.truncated
    raise AssertionError("no end")


@pytest.mark.parametrize("ended", [True, False])
def test_a_pettingzoo_family_is_corrected(monkeypatch: pytest.MonkeyPatch, ended: bool) -> None:
    entry = Family(
        name="Timers",
        package="timers",
        examples=(),
        env_class=f"{Timer.__module__}.{Timer.__qualname__}",
        step_limit=lambda env: 4,
        mdp_ended=lambda env: ended,
        clear=clear,
    )
    monkeypatch.setattr(known, "FAMILIES", (*FAMILIES, entry))
    env = PettingZooAdapter(Timer())
    assert env.spec.episode_limit == 4
    assert [env.reset().obs[0, 0] for _ in range(3)] == [1, 1, 1], "cleared before every reset"
    assert how_it_ends(env) == (4, not ended)


def test_without_an_entry_nothing_is_corrected() -> None:
    env = PettingZooAdapter(Timer(), episode_limit=50)
    assert how_it_ends(env) == (4, False)
    assert env.reset().obs[0, 0] > 2


def test_an_entry_needs_three_fields() -> None:
    family = Family("Mine", "no_such_package", ("no_such_package:Mine-v0",))
    assert family.version is None
    assert not family.is_installed
    assert family.install == "pip install endmark"


def test_a_shortened_environment_is_truncated_at_its_limit() -> None:
    env = Shortened(make("CartPole-v1"), 5)
    assert env.spec.episode_limit == 5
    for _ in range(2):
        env.reset(seed=0)
        ends = [env.step(np.array([t % 2])).end for t in range(5)]
        assert ends == [None] * 4 + ["truncated"]
    assert Shortened(make("CartPole-v1"), 1000).spec.episode_limit == 500
    env = Shortened(make("CartPole-v1"), 300)
    env.reset(seed=0)
    ends = []
    while not ends or ends[-1] is None:
        ends.append(env.step(np.array([1])).end)
    assert ends[-1] == "terminated"
    env.close()
    env.close()


def test_the_outcomes_of_an_episode_that_is_cut_here_are_0() -> None:
    env = Shortened(Scripted(outcomes=True), 4)
    for seed, own_end in [(4, True), (7, False)]:  # of 3 steps, and of 9
        frame, steps = env.reset(seed=seed), list[Step]()
        while not steps or steps[-1].end is None:
            steps.append(env.step(frame.legal.argmax(1)))  # of one frame, written anew
        assert all(step.outcomes == {} for step in steps[:-1])
        assert steps[-1].outcomes == (outcomes_of(seed) if own_end else {"win": 0.0, "score": 0.0})
