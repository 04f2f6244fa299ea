"""PettingZoo environments behind the protocol: agents that leave, masks, and every kind of end."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gymnasium import spaces

from endmark.envs import EnvError, PettingZooAdapter, Step, check, make

SPREAD = "mpe2.simple_spread_v3"
AGENTS = ("a", "b", "c")


def test_agents_that_are_alike() -> None:
    env = make(SPREAD)
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.episode_limit) == (3, 5, 25)
    assert spec.fields["obs"].shape == (3, 18)
    assert spec.fields["state"].shape == (54,)
    assert spec.reward_per_agent

    raw = importlib.import_module(SPREAD).parallel_env()
    seen, _ = raw.reset(seed=2)
    frame = env.reset(seed=2)
    np.testing.assert_array_equal(frame.obs, np.stack([seen[agent] for agent in raw.possible_agents]))
    assert frame.state is not None
    np.testing.assert_array_equal(frame.state, raw.state())
    assert frame.legal.all()
    for t in range(25):
        names = list(raw.agents)
        seen, rewards, _, _, _ = raw.step(dict(zip(names, [1, 2, 3], strict=True)))
        step = env.step(np.array([1, 2, 3]))
        np.testing.assert_array_equal(step.frame.obs, np.stack([seen[agent] for agent in names]))
        np.testing.assert_array_equal(step.reward, np.array([rewards[agent] for agent in names], np.float32))
        assert (step.terminated, step.truncated) == (False, t == 24)
    assert step.frame.alive.all()  # cut off: what follows has a value for all of them


def test_agents_that_differ_are_padded_and_masked() -> None:
    env = make("mpe2.simple_speaker_listener_v4")
    frame = env.reset(seed=0)
    assert frame.obs.shape == (2, 11)
    assert not frame.obs[0, 3:].any()  # the speaker sees three numbers
    np.testing.assert_array_equal(frame.legal.sum(axis=1), [3, 5])
    assert frame.state is not None
    np.testing.assert_array_equal(frame.state, np.concatenate([frame.obs[0, :3], frame.obs[1]]))


def test_limits() -> None:
    assert make(SPREAD, max_cycles=9).spec.episode_limit == 9
    assert make(SPREAD, episode_limit=30).spec.episode_limit == 25
    env = make(SPREAD, episode_limit=4)
    env.reset(seed=0)
    steps = [env.step(np.zeros(3, np.int64)) for _ in range(4)]
    assert [step.truncated for step in steps] == [False, False, False, True]
    assert not any(step.terminated for step in steps)


def test_a_seed_starts_a_sequence_of_episodes() -> None:
    one, two = make(SPREAD), make(SPREAD)
    first = one.reset(seed=5).obs.copy()
    np.testing.assert_array_equal(first, two.reset(seed=5).obs)
    second = one.reset().obs.copy()
    np.testing.assert_array_equal(second, two.reset().obs)
    assert (first != second).any()


class Scripted:
    """Three agents; `ends` says at which step each of them goes, and how.

    An end of "terminated" or "truncated" raises that flag, of "both" both, of "vanished" none.
    Agent a sees two numbers, the others three; b has two actions, the others three, those of c numbered
    from 1.
    """

    state_size: int | None = 4
    masks: str | None = None  # where they are: "obs", "infos" or nowhere
    lingering = False  # agents that have gone stay in `agents`, still flagged
    last_words = True  # an agent that goes still gets an observation
    late: str | None = None  # joins at the second step

    def __init__(self, ends: Mapping[str, tuple[int, str]]) -> None:
        self.possible_agents = list(AGENTS)
        self.ends = ends
        self.heard: dict[str, int] = {}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        seen = spaces.Box(0, 99, (2 if agent == "a" else 3,))
        if self.masks == "obs":
            return spaces.Dict(
                {"observation": seen, "action_mask": spaces.MultiBinary(2 if agent == "b" else 3)}
            )
        return seen

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(2 if agent == "b" else 3, start=1 if agent == "c" else 0)

    def mask(self, agent: str) -> npt.NDArray[np.int8]:
        return np.array([0, 1] if agent == "b" else [1, 0, 1], np.int8)

    def look(self, agent: str) -> object:
        seen = np.full(2 if agent == "a" else 3, self.t + 1, np.float32)
        return {"observation": seen, "action_mask": self.mask(agent)} if self.masks == "obs" else seen

    def tell(self, agent: str) -> dict[str, Any]:
        return {"action_mask": self.mask(agent)} if self.masks == "infos" else {}

    def reset(self, seed: int | None = None) -> tuple[Any, Any]:
        self.t = 0
        self.agents = [agent for agent in AGENTS if agent != self.late]
        return {agent: self.look(agent) for agent in self.agents}, {agent: {} for agent in AGENTS} | {
            agent: self.tell(agent) for agent in self.agents
        }

    def step(self, actions: dict[str, int]) -> tuple[Any, Any, Any, Any, Any]:
        self.heard = actions
        here = list(self.agents)
        gone = {agent: how for agent, (at, how) in self.ends.items() if agent in here and at <= self.t}
        self.t += 1
        if not self.lingering:
            self.agents = [agent for agent in here if agent not in gone]
        if self.late and self.t == 2:
            self.agents.append(self.late)
        saying = here if self.last_words else self.agents
        return (
            {agent: self.look(agent) for agent in saying},
            dict.fromkeys(here, 1.0),
            {agent: gone.get(agent) in ("terminated", "both") for agent in here},
            {agent: gone.get(agent) in ("truncated", "both") for agent in here},
            {agent: self.tell(agent) for agent in saying},
        )

    def state(self) -> npt.NDArray[np.int64]:
        if self.state_size is None:
            raise NotImplementedError
        return np.full((2, self.state_size // 2), self.t)

    def close(self) -> None:
        pass


def scripted(ends: Mapping[str, tuple[int, str]], **how: object) -> tuple[Scripted, PettingZooAdapter]:
    raw = Scripted(ends)
    for name, value in how.items():
        setattr(raw, name, value)
    return raw, PettingZooAdapter(raw, episode_limit=6)


def steps_to_the_end(env: PettingZooAdapter) -> list[Step]:
    """An episode of legal actions, every array kept."""
    frame = env.reset(seed=0)
    steps: list[Step] = []
    while not steps or not (steps[-1].terminated or steps[-1].truncated):
        step = env.step(frame.legal.argmax(axis=1))
        frame = step.frame
        kept = type(frame)(*(None if array is None else array.copy() for array in frame))  # type: ignore[arg-type]
        steps.append(step._replace(frame=kept, reward=step.reward.copy()))
    return steps


@pytest.mark.parametrize(
    ("how", "lingering"),
    [
        ("terminated", False),
        ("truncated", False),
        ("vanished", False),
        ("terminated", True),
        ("truncated", True),
    ],
)
def test_an_agent_that_leaves_early(how: str, lingering: bool) -> None:
    ends = {"b": (1, how), "a": (3, "terminated"), "c": (3, "terminated")}
    raw, env = scripted(ends, lingering=lingering)
    frame = env.reset(seed=0)
    assert frame.alive.all()
    env.step(np.array([2, 1, 2]))
    assert raw.heard == {"a": 2, "b": 1, "c": 3}
    step = env.step(np.array([0, 0, 0]))  # b goes
    np.testing.assert_array_equal(step.reward, [1, 1, 1])
    np.testing.assert_array_equal(step.frame.alive, [True, False, True])
    np.testing.assert_array_equal(step.frame.obs, [[3, 3, 0], [0, 0, 0], [3, 3, 3]])
    np.testing.assert_array_equal(step.frame.avail_actions, [[1, 1, 1], [1, 0, 0], [1, 1, 1]])
    assert (step.terminated, step.truncated) == (False, False)
    step = env.step(np.array([1, 1, 1]))
    assert raw.heard == {"a": 1, "c": 2}
    np.testing.assert_array_equal(step.reward, [1, 0, 1])
    step = env.step(np.array([1, 1, 1]))
    assert (step.terminated, step.truncated) == (True, False)
    assert env.reset().alive.all()


@pytest.mark.parametrize(
    ("ends", "terminated", "alive"),
    [
        # All at once: alive as at the step if they terminated, so too if they were cut off.
        ({"a": "terminated", "b": "terminated", "c": "terminated"}, True, [1, 1, 1]),
        ({"a": "vanished", "b": "vanished", "c": "vanished"}, True, [1, 1, 1]),
        ({"a": "both", "b": "both", "c": "both"}, True, [1, 1, 1]),
        ({"a": "truncated", "b": "truncated", "c": "truncated"}, False, [1, 1, 1]),
        # Both kinds: cut off, and nothing follows for those that terminated.
        ({"a": "terminated", "b": "truncated", "c": "truncated"}, False, [0, 1, 1]),
        ({"a": "terminated", "b": "terminated", "c": "truncated"}, False, [0, 0, 1]),
        ({"a": "vanished", "b": "truncated", "c": "both"}, False, [0, 1, 0]),
    ],
)
def test_every_kind_of_end(ends: dict[str, str], terminated: bool, alive: list[int]) -> None:
    _, env = scripted({agent: (2, end) for agent, end in ends.items()})
    steps = steps_to_the_end(env)
    assert len(steps) == 3
    assert (steps[-1].terminated, steps[-1].truncated) == (terminated, not terminated)
    np.testing.assert_array_equal(steps[-1].frame.alive, np.array(alive, np.bool_))
    assert steps[-1].frame.obs[np.array(alive, np.bool_)].any(axis=1).all()


@pytest.mark.parametrize(
    ("leaves", "stays", "terminated"),
    [("truncated", "terminated", True), ("terminated", "truncated", False)],
)
def test_only_those_alive_at_the_last_step_say_how_it_ended(
    leaves: str, stays: str, terminated: bool
) -> None:
    _, env = scripted({"a": (0, leaves), "b": (2, stays), "c": (2, stays)})
    steps = steps_to_the_end(env)
    assert [step.frame.alive.tolist() for step in steps] == [[False, True, True]] * 3
    assert (steps[-1].terminated, steps[-1].truncated) == (terminated, not terminated)


def test_the_limit_cuts_off_those_who_are_left() -> None:
    _, env = scripted({"b": (1, "terminated")})
    steps = steps_to_the_end(env)
    assert len(steps) == 6
    assert (steps[-1].terminated, steps[-1].truncated) == (False, True)
    np.testing.assert_array_equal(steps[-1].frame.alive, [True, False, True])
    assert (steps[-1].frame.obs[0, :2] == 7).all()


def test_an_end_at_the_limit_has_terminated() -> None:
    _, env = scripted(dict.fromkeys(AGENTS, (5, "terminated")))
    steps = steps_to_the_end(env)
    assert (len(steps), steps[-1].terminated, steps[-1].truncated) == (6, True, False)


@pytest.mark.parametrize("where", ["obs", "infos"])
def test_legal_actions(where: str) -> None:
    raw, env = scripted(dict.fromkeys(AGENTS, (2, "truncated")), masks=where)
    want = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], np.bool_)
    frame = env.reset(seed=0)
    np.testing.assert_array_equal(frame.avail_actions, want)
    np.testing.assert_array_equal(frame.obs, [[1, 1, 0], [1, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(env.step(np.array([2, 1, 2])).frame.avail_actions, want)
    raw.mask = lambda agent: np.ones(5, np.int8)  # type: ignore[method-assign]
    with pytest.raises(EnvError, match=r"^action_mask, agent 0: given shape \(5,\), want shape \(3,\)$"):
        env.reset()


def test_a_final_observation_that_is_not_given_is_zeros() -> None:
    _, env = scripted(dict.fromkeys(AGENTS, (2, "truncated")), last_words=False)
    last = steps_to_the_end(env)[-1]
    assert last.truncated
    assert last.frame.alive.all()
    assert not last.frame.obs.any()


def test_state() -> None:
    _, env = scripted(dict.fromkeys(AGENTS, (2, "truncated")))
    assert env.spec.fields["state"].shape == (4,)
    env.reset()
    state = env.step(np.zeros(3, np.int64)).frame.state
    assert state is not None
    assert state.dtype == np.float32
    np.testing.assert_array_equal(state, [1, 1, 1, 1])

    _, env = scripted(dict.fromkeys(AGENTS, (2, "truncated")), state_size=None)
    assert "state" not in env.spec.fields
    assert env.reset().state is None


def test_an_agent_that_joins_late_is_refused() -> None:
    _, env = scripted({}, late="b")
    frame = env.reset(seed=0)
    np.testing.assert_array_equal(frame.alive, [True, False, True])
    env.step(np.zeros(3, np.int64))
    with pytest.raises(
        EnvError, match=r"^alive, agent 1: given 'b', which joined, want agents that are there from the start"
    ):
        env.step(np.zeros(3, np.int64))


def test_what_cannot_be_adapted() -> None:
    with pytest.raises(EnvError, match="no step limit of its own"):
        PettingZooAdapter(Scripted({}))
    nobody = Scripted({})
    nobody.possible_agents = []
    with pytest.raises(EnvError, match="Scripted: given no possible_agents, want a PettingZoo ParallelEnv"):
        PettingZooAdapter(nobody, episode_limit=3)


@pytest.mark.parametrize("env_id", [SPREAD, "mpe2.simple_speaker_listener_v4", "mpe2.simple_adversary_v3"])
def test_real_environments_keep_to_the_protocol(env_id: str) -> None:
    report = check(partial(make, env_id), episodes=3, resets=20)
    assert (report.steps, report.truncated) == (75, 3)


@pytest.mark.parametrize("masks", [None, "obs", "infos"])
@pytest.mark.parametrize("last_words", [True, False])
@pytest.mark.parametrize("how", ["terminated", "truncated", "vanished"])
def test_leaving_keeps_to_the_protocol(masks: str | None, last_words: bool, how: str) -> None:
    ends = {"b": (1, how), "a": (3, how), "c": (4, "truncated")}
    report = check(lambda: scripted(ends, masks=masks, last_words=last_words)[1], episodes=2)
    assert (report.steps, report.truncated) == (10, 2)
    assert report.mean_return == 2 + 4 + 5
