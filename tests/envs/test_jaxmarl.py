"""SMAX and JaxMARL's other environments, K at once."""

from __future__ import annotations

import copy
import sys
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.algorithms import VDNConfig
from endmark.envs import BatchedEnvironment, BatchedStep, EnvError, check, make, make_batched
from endmark.episodes import EpisodeBatch
from endmark.policies import RandomPolicy
from endmark.rollout import EpisodeSeeds, Rollout, make_rollout
from endmark.training import TrainConfig
from endmark.training.build import make_envs
from support.helpers import assert_same_episodes

pytest.importorskip("jaxmarl")
K = 4


def made(env_id: str, n_envs: int = K, **kwargs: Any) -> BatchedEnvironment:
    envs = make_batched(env_id, n_envs, **kwargs)
    assert envs is not None
    return envs


def episodes_of(envs: BatchedEnvironment, n: int) -> EpisodeBatch:
    """At least so many, played at random."""
    rollout = make_rollout(envs, EpisodeSeeds(3))
    policy = RandomPolicy(torch.Generator().manual_seed(0))
    episodes = [rollout.collect(policy)]
    while rollout.episodes < n:
        episodes.append(rollout.collect(policy))
    return EpisodeBatch.cat(episodes)


def played(envs: BatchedEnvironment, seeds: list[int], actions: Tensor) -> list[BatchedStep]:
    """The steps of an episode in each environment, with the same actions [T, N] in all."""
    envs.reset(torch.tensor(seeds), torch.ones(len(seeds), dtype=torch.bool))
    return [envs.step(joint.expand(len(seeds), -1)) for joint in actions]


def assert_same_rows(given: list[BatchedStep], row: int, want: list[BatchedStep], want_row: int) -> None:
    """Bit for bit, up to the end of the episode."""
    for step, want_step in zip(given, want, strict=True):
        for name, tensor in step.frames.items():
            assert torch.equal(tensor[row], want_step.frames[name][want_row]), name
        for name in ("reward", "terminated", "truncated"):
            assert torch.equal(getattr(step, name)[row], getattr(want_step, name)[want_row]), name
        if step.terminated[row] or step.truncated[row]:
            return
    pytest.fail("the episode has no end")


def test_the_fields_of_8m() -> None:
    """Those that a StarCraft user knows; `max_steps=119` gives episodes of at most 120 steps."""
    from endmark.envs.jaxmarl_adapter import SMAX_RULES, game

    env = game("smax:8m", {"max_steps": 119})
    assert SMAX_RULES.limit(env) == 120
    assert (len(env.agents), env.obs_size, env.state_size, env.num_ally_actions) == (8, 205, 192, 13)


@pytest.mark.parametrize(
    ("env_id", "kinds"),
    [
        ("smax:2s3z", (0, 0, 1, 1, 1)),
        ("smax:3m", (0, 0, 0)),
        ("smax:smacv2_5_units", (0, 0, 0, 0, 0)),  # drawn for each episode
        ("jaxmarl:MPE_simple_tag_v3", (0, 0, 0, 1)),
    ],
)
def test_kinds_are_unit_types_or_names(env_id: str, kinds: tuple[int, ...]) -> None:
    envs = make_batched(env_id, 1)
    assert envs is not None
    assert envs.spec.kinds == kinds


def test_an_episode_is_a_function_of_its_seed_and_actions_whoever_shares_the_batch() -> None:
    """In another row, beside other episodes, and in environments that were used before."""
    envs = made("smax:3m", max_steps=30)
    actions = torch.randint(0, 8, (31, 3), generator=torch.Generator().manual_seed(1))
    want = played(envs, [7, 7, 2**40 + 5, 2**33], actions)
    assert_same_rows(want, 0, want, 1)
    given = played(envs, [1, 2**40 + 5, 2, 7], actions)
    assert_same_rows(given, 3, want, 0)
    assert_same_rows(given, 1, want, 2)
    assert not torch.equal(given[0].frames["obs"][0], given[0].frames["obs"][3])


def test_a_reset_of_some_leaves_the_others_as_they_are() -> None:
    envs = made("smax:3m", max_steps=30)
    actions = torch.full((31, 3), 2)
    want = played(envs, [5, 6, 7, 8], actions)
    envs.reset(torch.tensor([5, 6, 7, 8]), torch.ones(4, dtype=torch.bool))
    given = [envs.step(actions[0].expand(4, -1))]
    before = given[0].frames["obs"].clone()
    frames = envs.reset(torch.tensor([0, 9, 0, 0]), torch.tensor([False, True, False, False]))
    assert torch.equal(frames["obs"][[0, 2, 3]], before[[0, 2, 3]])
    assert not torch.equal(frames["obs"][1], before[1])
    given += [envs.step(joint.expand(4, -1)) for joint in actions[1:]]
    for row in (0, 2, 3):
        assert_same_rows(given, row, want, row)


def test_smax_keeps_to_the_contract() -> None:
    """Among it: leavers see zeros, frames and ends of a used environment are those of a fresh one."""
    report = check(partial(make, "smax:3m", max_steps=30), episodes=4, resets=10)
    assert report.terminated == report.episodes


def test_units_die_battles_are_cut_and_wins_are_told() -> None:
    episodes = episodes_of(made("smax:3m", max_steps=30), 60)
    assert episodes.spec.outcomes == ("win",)
    assert set(episodes.outcome("win").tolist()) <= {0.0, 1.0}
    assert bool((~episodes.alive).any())
    final = episodes.alive[episodes.final_frames]
    assert not final[episodes.terminated & (episodes.outcome("win") == 0)].any(), (
        "a lost team has no unit left"
    )
    idle = made("smax:3m", max_steps=5)
    step = played(idle, [1, 2, 3, 4], torch.full((6, 3), 4))[-1]
    assert step.truncated.all()
    assert not step.terminated.any()
    assert not step.outcomes["win"].any()
    shorter = make("smax:3m", episode_limit=2, max_steps=5)
    assert shorter.spec.episode_limit == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "kwargs", "limit", "per_agent"),
    [
        ("jaxmarl:overcooked", {"layout": "coord_ring", "max_steps": 20}, 20, False),
        ("jaxmarl:MPE_simple_spread_v3", {}, 26, True),
        ("jaxmarl:MPE_simple_speaker_listener_v4", {}, 26, True),
        ("jaxmarl:hanabi", {}, 100, False),
        ("jaxmarl:coin_game", {}, 100, True),
    ],
)
def test_other_environments_end_as_they_should(
    env_id: str, kwargs: dict[str, Any], limit: int, per_agent: bool
) -> None:
    envs = made(env_id, 2, **kwargs)
    assert envs.spec.episode_limit == limit
    assert envs.spec.reward_per_agent == per_agent
    episodes = episodes_of(envs, 6)
    by_limit = env_id != "jaxmarl:hanabi"
    if by_limit:
        assert episodes.lengths.tolist() == [limit] * episodes.n_episodes
    else:
        assert (episodes.lengths < limit).any()
    assert bool(episodes.terminated.any()) is not by_limit


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("smax:8n", {}, "unknown environment 'smax:8n': did you mean smax:3m or smax:2s3z or "),
        ("jaxmarl:overcook", {}, "did you mean jaxmarl:overcooked"),
        ("smax:3m", {"scenario": "8m"}, "scenario: given '8m', want none: the id names it"),
        ("smax:3m", {"max_stepz": 3}, "'smax:3m' takes no argument 'max_stepz': it takes "),
        ("smax:3m", {"max_steps": "many"}, "'smax:3m': max_steps: given 'many', want a whole number"),
        ("smax:3m", {"map_width": "wide"}, "'smax:3m' cannot be made: "),
        ("smax:3m", {"scenario_of_mine": object()}, "want arguments that JSON has"),
        ("smax:3m", {"action_type": "continuous"}, "given action space Box, want Discrete"),
        ("jaxmarl:overcooked", {"layout": "kitchen"}, "layout: given 'kitchen', want one of cramped_room"),
        ("jaxmarl:jaxnav", {}, "unknown environment 'jaxmarl:jaxnav'"),
    ],
)
def test_what_cannot_be_made_is_one_line(env_id: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvError, match=message) as caught:
        make_batched(env_id, K, **kwargs)
    assert "\n" not in str(caught.value)


def test_what_shows_only_when_it_is_compiled_is_one_line() -> None:
    envs = made("smax:3m", world_steps_per_env_step="many")
    with pytest.raises(EnvError, match="'smax:3m' cannot be made: ") as caught:
        make_rollout(envs, EpisodeSeeds(0))
    assert "\n" not in str(caught.value)


def test_without_jaxmarl_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "endmark.envs.jaxmarl_adapter", raising=False)
    monkeypatch.delattr("endmark.envs.jaxmarl_adapter", raising=False)
    monkeypatch.setitem(sys.modules, "jaxmarl", None)
    with pytest.raises(EnvError, match=r"needs the package \'jaxmarl\', which is not installed: pip install"):
        make("smax:3m")


def test_workers_have_nothing_to_do() -> None:
    config = TrainConfig(VDNConfig(), "smax:3m", env_arg=("max_steps=30",), workers=2, n_envs=4)
    with pytest.raises(ValueError, match="workers: given 2, want 0: 'smax:3m' is one program for all"):
        make_envs(config, 4)


def test_a_rollout_goes_on_from_its_state_bit_for_bit() -> None:
    """Battles that are running are played again, each from its seed."""

    def started(seed: int) -> tuple[Rollout, RandomPolicy]:
        rollout = make_rollout(made("smax:3m", max_steps=30), EpisodeSeeds(3))
        return rollout, RandomPolicy(torch.Generator().manual_seed(seed))

    rollout, policy = started(0)
    for _ in range(3):
        rollout.collect(policy)
    state, policy_state = copy.deepcopy((rollout.state_dict(), policy.state_dict()))
    assert any(len(episode["steps"]["actions"]) for episode in state["running"])
    want = [rollout.collect(policy) for _ in range(6)]
    rollout, policy = started(1)
    rollout.load_state_dict(state)
    policy.load_state_dict(policy_state)
    for episodes in want:
        assert_same_episodes(rollout.collect(policy), episodes)
    assert rollout.exact
