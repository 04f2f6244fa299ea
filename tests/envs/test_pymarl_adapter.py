"""PyMARL's environments: both forms, cuts, seeds, dead agents, agents that differ, and what is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from endmark.envs import EnvError, Environment, EnvWarning, Step, check, make
from endmark.envs.pymarl_adapter import PyMARLAdapter
from support.pymarl import (
    ATTACK,
    LIMIT,
    NO_OP,
    STOP,
    AroundGymnasium,
    Newer,
    Reviving,
    Skirmish,
    StarCraftLike,
    Wrapped,
)

LONG = (9, 9, 9)  # nobody dies


def played(env: Environment, action: int = STOP, seed: int = 0) -> list[Step]:
    """An episode in which every agent that can does this; all arrays kept."""
    steps: list[Step] = []
    frame = env.reset(seed=seed)
    while not steps or steps[-1].end is None:
        chosen = np.where(frame.legal[:, action], action, NO_OP)
        step = env.step(chosen)
        frame = step.frame
        kept = type(frame)(*(None if array is None else array.copy() for array in frame))  # type: ignore[arg-type]
        steps.append(step._replace(frame=kept, reward=np.array(step.reward)))
    return steps


def ends(env: Environment, action: int = STOP) -> tuple[int, str | None]:
    steps = played(env, action)
    return len(steps), steps[-1].end


def quiet(env: Any, **options: Any) -> PyMARLAdapter:
    """An adapter of an environment that cannot be seeded, which is known."""
    return PyMARLAdapter(env, seeded=False, **options)


@pytest.mark.parametrize(
    ("env", "n_steps", "end"),
    [
        (Skirmish(health=LONG), LIMIT, "truncated"),  # info["episode_limit"]
        (Skirmish(health=(1, 1, 1)), 3, "terminated"),
        (Newer(health=LONG), LIMIT, "truncated"),  # truncated
        (Newer(health=LONG, flags="each"), LIMIT, "truncated"),
        (Newer(health=(1, 1, 1)), 3, "terminated"),
        (Newer(health=(1, 1, 1), flags="each"), 3, "terminated"),
        (Newer(health=(2, 2, 2), flags="each"), LIMIT, "terminated"),  # an end of the game at the limit
        (Skirmish(health=(2, 2, 2)), LIMIT, "terminated"),
    ],
)
def test_an_end_at_the_limit_is_a_cut_where_the_environment_says_so(env: Any, n_steps: int, end: str) -> None:
    assert ends(PyMARLAdapter(env)) == (n_steps, end)


@pytest.mark.parametrize("kind", [StarCraftLike, Wrapped])
@pytest.mark.parametrize("continuing_episode", [True, False])
def test_a_timeout_of_starcraft_is_a_cut_also_where_info_does_not_say_so(
    kind: Any, continuing_episode: bool
) -> None:
    env = quiet(kind(health=LONG, continuing_episode=continuing_episode))
    assert [ends(env) for _ in range(2)] == [(LIMIT, "truncated")] * 2
    env = quiet(kind(health=(2, 2, 2), continuing_episode=continuing_episode))
    assert [ends(env) for _ in range(2)] == [(LIMIT, "terminated")] * 2


@pytest.mark.parametrize("kind", [StarCraftLike, Wrapped])
def test_a_crash_is_no_end_of_the_game(kind: Any) -> None:
    env = quiet(kind(health=LONG, crash_at=2))
    with pytest.raises(EnvError, match="crashed and was started again: this episode is lost"):
        played(env)
    env.reset()
    assert env.step(np.full(3, STOP)).end is None


def test_a_known_family_is_corrected_inside_a_wrapper() -> None:
    """Level-Based Foraging calls its own limit an end, and its reset depends on the last episode."""
    key = "lbforaging:Foraging-5x5-2p-1f-v3"
    raw = AroundGymnasium(key)
    env = PyMARLAdapter(raw)
    env.reset(seed=0)
    raw._env = raw._env.unwrapped  # without Gymnasium's own limit beside it
    assert [env.step(np.zeros(2, np.int64)).end for _ in range(50)] == [*[None] * 49, "truncated"]
    check(lambda: PyMARLAdapter(AroundGymnasium(key)), episodes=1, resets=200)


def test_smaclite_forgets_the_last_actions_before_a_reset() -> None:
    named = type("SMACliteEnv", (Newer,), {"__module__": "smaclite.env.smaclite"})
    raw: Any = named(health=LONG)
    raw.last_actions = np.ones(9)
    raw.get_state = lambda: raw.last_actions[:4]
    np.testing.assert_array_equal(PyMARLAdapter(raw).reset().state, np.zeros(4))


def test_a_lower_limit_is_a_cut() -> None:
    assert ends(PyMARLAdapter(Newer(health=LONG), episode_limit=2)) == (2, "truncated")
    assert ends(PyMARLAdapter(Newer(health=(1, 1, 1)), episode_limit=3)) == (3, "terminated")
    assert PyMARLAdapter(Newer(), episode_limit=99).spec.episode_limit == LIMIT


def test_a_flag_for_some_of_the_agents_is_no_end() -> None:
    env = Newer(health=LONG)
    adapter = PyMARLAdapter(env)
    adapter.reset(seed=0)
    flags: list[tuple[list[bool], list[bool], str | None]] = [
        ([True, False, True], [False] * 3, None),
        ([True, False, True], [False, True, False], "truncated"),
        ([True, True, True], [False, True, False], "terminated"),
    ]
    for terminated, truncated, end in flags:
        env.step = lambda _, t=terminated, c=truncated: (env.get_obs(), 1.0, t, c, {})  # type: ignore[method-assign, misc]
        assert adapter.step(np.full(3, STOP)).end == end


def test_frames() -> None:
    env = PyMARLAdapter(Newer(health=(3, 2, 5), enemy=8))
    frame = env.reset(seed=0)
    np.testing.assert_array_equal(frame.obs, [[3] * 4, [2] * 4, [5] * 4])
    np.testing.assert_array_equal(frame.avail_actions, [[0, 1, 1]] * 3)
    np.testing.assert_array_equal(frame.state, [3, 2, 5, 8])
    step = env.step(np.array([2, 1, 2]))
    np.testing.assert_array_equal(step.frame.obs[:, 0], [2, 2, 5])
    np.testing.assert_array_equal(step.frame.state, [2, 2, 5, 6])
    assert step.reward.shape == ()


def test_rewards_of_each_agent() -> None:
    env = PyMARLAdapter(Newer(health=LONG, common_reward=False))
    assert env.spec.reward_per_agent
    np.testing.assert_array_equal(played(env)[0].reward, [1, 2, 3])
    env = PyMARLAdapter(Newer(health=(1, 9, 9), common_reward=False), dead_when_only_noop=True)
    assert [step.reward.tolist() for step in played(env)[:2]] == [[1, 2, 3], [0, 2, 3]]
    told = PyMARLAdapter(Newer(health=LONG, common_reward=False), reward_per_agent=False)
    with pytest.raises(EnvError, match=r"reward: given shape \(3,\), want shape \(\)"):
        played(told)


def test_the_dead_do_nothing_and_are_seen_by_nobody() -> None:
    raw = StarCraftLike(health=(1, 9, 1))
    steps = played(quiet(raw))
    assert [step.frame.alive.tolist() for step in steps[:3]] == [
        [False, True, True],
        [False, True, True],
        [False, True, False],
    ]
    assert raw.heard == [[1, 1, 1], [0, 1, 1], [0, 1, 1], [0, 1, 0], [0, 1, 0], [0, 1, 0]]
    np.testing.assert_array_equal(steps[2].frame.avail_actions, [[1, 0, 0], [0, 1, 1], [1, 0, 0]])
    np.testing.assert_array_equal(steps[2].frame.obs, [[0] * 4, [8] * 4, [0] * 4])


def test_what_the_dead_are_told_is_not_seen() -> None:
    raw = StarCraftLike(health=(1, 9, 9))
    raw.get_obs = lambda: np.full((3, 4), 5.0)  # type: ignore[method-assign]
    np.testing.assert_array_equal(played(quiet(raw))[0].frame.obs[:, 0], [0, 5, 5])


def test_an_action_of_the_dead_is_not_passed_on() -> None:
    raw = StarCraftLike(health=(1, 9, 9))
    env = quiet(raw)
    env.reset()
    for _ in range(2):
        env.step(np.array([2, 2, 2]))
    assert raw.heard == [[2, 2, 2], [0, 2, 2]]


def test_a_no_op_means_death_in_starcraft_or_where_it_is_told() -> None:
    health = (1, 9, 9)
    assert played(PyMARLAdapter(Skirmish(health=health)))[0].frame.alive.all()
    assert not played(PyMARLAdapter(Skirmish(health=health), dead_when_only_noop=True))[0].frame.alive[0]
    assert played(quiet(StarCraftLike(health=health), dead_when_only_noop=False))[0].frame.alive.all()
    named = type("SMACliteLike", (Newer,), {})
    assert not played(PyMARLAdapter(named(health=health)))[0].frame.alive[0]


def test_the_dead_do_not_come_back() -> None:
    assert len(played(PyMARLAdapter(Reviving(health=LONG)))) == LIMIT
    with pytest.raises(EnvError, match="agent 1: given other legal actions, want action 0 alone"):
        played(PyMARLAdapter(Reviving(health=LONG), dead_when_only_noop=True))


def test_agents_that_differ_get_rows_of_one_length() -> None:
    raw = Newer(health=(5, 6, 7), sizes=(2, 4, 1), actions=(3, 5, 4))
    env = PyMARLAdapter(raw)
    frame = env.reset(seed=0)
    np.testing.assert_array_equal(frame.obs, [[5, 5, 0, 0], [6, 6, 6, 6], [7, 0, 0, 0]])
    np.testing.assert_array_equal(frame.avail_actions, [[0, 1, 1, 0, 0], [0, 1, 1, 1, 1], [0, 1, 1, 1, 0]])
    check(lambda: PyMARLAdapter(Newer(sizes=(2, 4, 1), actions=(3, 5, 4))), episodes=2, resets=10)


@pytest.mark.parametrize("kind", [Skirmish, Newer])
@pytest.mark.parametrize("dies", [False, True])
def test_an_environment_that_takes_seeds_keeps_to_the_contract(kind: Any, dies: bool) -> None:
    report = check(lambda: PyMARLAdapter(kind(enemy=7), dead_when_only_noop=dies), episodes=4)
    assert report.terminated > 0 < report.truncated


def test_an_environment_that_cannot_be_seeded_is_told_of() -> None:
    with pytest.warns(EnvWarning, match="StarCraftLike has no way to seed an episode: a run with it"):
        PyMARLAdapter(StarCraftLike())
    with pytest.raises(EnvError, match=r"as the first time|as in a fresh one"):
        check(lambda: quiet(StarCraftLike(), dead_when_only_noop=False))


def test_a_run_can_start_without_a_state() -> None:
    env = Newer(health=LONG)
    info = {key: value for key, value in env.get_env_info().items() if key != "state_shape"}
    env.get_env_info = lambda: info  # type: ignore[method-assign]
    adapter = PyMARLAdapter(env)
    assert "state" not in adapter.spec.fields
    assert adapter.reset().state is None


def test_shapes_may_be_tuples() -> None:
    env = Newer(health=LONG)
    info = env.get_env_info() | {"obs_shape": (4,), "state_shape": (2, 2)}
    env.get_env_info = lambda: info  # type: ignore[method-assign]
    env.get_state = lambda: np.arange(4).reshape(2, 2)  # type: ignore[method-assign]
    adapter = PyMARLAdapter(env)
    assert adapter.spec.fields["obs"].shape == (3, 4)
    np.testing.assert_array_equal(adapter.reset().state, np.arange(4))


def test_images_stay_images() -> None:
    env = Newer(health=LONG)
    info = env.get_env_info() | {"obs_shape": (16, 12, 3)}
    pictures = np.arange(3 * 576).reshape(3, 16, 12, 3) % 256
    env.get_env_info = lambda: info  # type: ignore[method-assign]
    env.get_obs = lambda: pictures.astype(np.uint8)  # type: ignore[method-assign]
    adapter = PyMARLAdapter(env)
    assert adapter.spec.fields["obs"].shape == (3, 16, 12, 3)
    np.testing.assert_array_equal(adapter.reset().obs, pictures)


@pytest.mark.parametrize(("enemy", "win"), [(9, 1.0), (100, 0.0)])
def test_a_battle_that_is_won(enemy: int, win: float) -> None:
    env = quiet(StarCraftLike(health=LONG, enemy=enemy))
    assert env.spec.outcomes == ("win",)
    steps = played(env, ATTACK)
    assert [step.outcomes for step in steps] == [*[{}] * (len(steps) - 1), {"win": win}]
    assert PyMARLAdapter(Newer()).spec.outcomes == ()


def test_outcomes_are_what_is_told() -> None:
    make_env: Any = partial(make, "pymarl:support.pymarl:Newer", health=[1, 1, 1])
    assert played(make_env(outcomes="battle_won"))[-1].outcomes == {"win": 0.0}
    assert make_env(outcomes=["draw", "battle_won"]).spec.outcomes == ("draw", "win")
    with pytest.raises(EnvError, match=r"info\['draw'\]: given nothing at the end, want a number"):
        played(make_env(outcomes=["draw"]))
    with pytest.raises(EnvError, match="outcomes: given 3, want a name or a list of names"):
        make_env(outcomes=3)


def test_close_is_passed_on_once() -> None:
    raw = Newer()
    env = PyMARLAdapter(raw)
    env.close()
    env.close()
    assert raw.closed == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"get_obs": lambda: [np.zeros(4)] * 2}, "^obs: given 2 observations, want 3, one per agent"),
        ({"get_obs": lambda: None}, "^obs: given None, want 3 observations"),
        (
            {"get_obs": lambda: [np.zeros(3)] * 3},
            r"^obs, largest: given shape \(3,\), want \(4,\), as",
        ),
        ({"get_obs": lambda: [[1, [2]], [3], [4]]}, r"^obs, agent 0: given \[1, \[2\]\], want numbers"),
        (
            {"get_avail_actions": lambda: [[1, 1]] * 3},
            r"^avail_actions, largest: given shape \(2,\)",
        ),
        (
            {"get_avail_actions": lambda: [[1, 1, 7]] * 3},
            "^action_mask, agent 0, number .* given 7, want 0",
        ),
        ({"get_avail_actions": lambda: [1, 1, 1]}, r"^avail_actions, largest: given shape \(1,\)"),
        ({"get_state": lambda: np.zeros(9)}, r"^state: given shape \(9,\), want shape \(4,\)"),
        ({"step": lambda _: (1.0, False)}, "^step: given 2 values, want reward, terminated, info or obs"),
        ({"step": lambda _: None}, "^step: given None, want reward"),
        ({"step": lambda _: ("much", False, {})}, "^reward: given .*'much'.*, want a number"),
    ],
)
def test_what_an_environment_gives_is_tested(changes: dict[str, Any], words: str) -> None:
    raw = Newer(health=LONG)
    for name, value in changes.items():
        setattr(raw, name, value)
    with pytest.raises(EnvError, match=words):
        played(PyMARLAdapter(raw))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("n_agents", 0, r"get_env_info\(\), n_agents: given 0, want a whole number, at least 1"),
        ("n_actions", None, r"get_env_info\(\), n_actions: given None, want a whole number"),
        ("obs_shape", (4, "x"), r"get_env_info\(\), obs_shape: given 'x', want a whole number"),
        ("episode_limit", ..., r"get_env_info\(\): no 'episode_limit', want n_agents, n_actions"),
    ],
)
def test_what_get_env_info_says_is_tested(key: str, value: Any, words: str) -> None:
    raw = Newer()
    info = {name: given for name, given in (raw.get_env_info() | {key: value}).items() if given is not ...}
    raw.get_env_info = lambda: info  # type: ignore[method-assign]
    with pytest.raises(EnvError, match=words):
        PyMARLAdapter(raw)


# --- By id ---


def test_arguments_go_to_the_constructor_but_the_options_to_the_adapter() -> None:
    make_env: Any = partial(make, "pymarl:support.pymarl:StarCraftLike", seeded=False)
    env = make_env(map_name="8m", health=[1, 9, 9], episode_limit=4)
    assert env.spec.episode_limit == 4
    assert not played(env)[0].frame.alive[0]
    env = make_env(map_name="8m", health=[1, 9, 9], dead_when_only_noop=False)
    assert played(env)[0].frame.alive.all()


@pytest.mark.parametrize(
    ("env_id", "kwargs", "words"),
    [
        ("pymarl:", {}, "^unknown environment 'pymarl:': want pymarl:module:Class$"),
        (
            "pymarl:support.pymarl",
            {},
            "^unknown environment 'pymarl:support.pymarl': want pymarl:module:Class$",
        ),
        ("pymarl:support.pymarl:Skirmsh", {}, r"did you mean pymarl:support.pymarl:Skirmish"),
        ("pymarl:support.pymrl:Skirmish", {}, r"did you mean pymarl:support.pymarl:Skirmish"),
        (
            "pymarl:support.pymarl:NOT_CALLABLE",
            {},
            "is a int: want a class or a function that makes",
        ),
        (
            "pymarl:smac.env:StarCraft2Env",
            {},
            r"not installed: pip install git\+https://github.com/oxwhirl/smac$",
        ),
        (
            "pymarl:support.pymarl:Skirmish",
            {"map": 1},
            "takes no argument 'map': it takes health, enemy, sizes",
        ),
        (
            "pymarl:support.pymarl:Newer",
            {"seeded": 3},
            "'pymarl:support.pymarl:Newer': seeded: given 3, want true or",
        ),
        (
            "pymarl:collections:Counter",
            {},
            r"given a Counter without reset\(\), want PyMARL's reset, step, get_obs",
        ),
        (
            "support.pymarl:Skirmish",
            {},
            "given an environment with PyMARL's methods: want `pymarl:` before its id",
        ),
    ],
)
def test_an_unusable_id_gets_one_helpful_line(env_id: str, kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(EnvError, match=words) as caught:
        make(env_id, **kwargs)
    assert "\n" not in str(caught.value)
