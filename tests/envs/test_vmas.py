"""VMAS's scenarios, K worlds at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from endmark.envs import BatchedEnvironment, BatchedStep, EnvError, check, make, make_batched

pytest.importorskip("vmas")
K, T = 4, 20
EVERY_ROW = torch.ones(K, dtype=torch.bool)
# Worlds of one simulation, and one of each kind that is kept apart: noise, joints, goals, wind.
TOGETHER = ["balance", "transport", "navigation", "wheel", "simple_spread"]
KEPT_APART = [
    "discovery",
    "joint_passage_size",
    "simple_adversary",
    "simple_crypto",
    "het_mass",
    "wind_flocking",
]


def made(name: str, n_envs: int = K, **kwargs: Any) -> BatchedEnvironment:
    envs = make_batched(f"vmas:{name}", n_envs, **{"max_steps": T, **kwargs})
    assert envs is not None
    return envs


def joint_actions(envs: BatchedEnvironment) -> Tensor:
    """[T, N], such as every agent can do."""
    legal = envs.reset(torch.zeros(envs.n_envs, dtype=torch.int64), torch.ones(envs.n_envs, dtype=torch.bool))
    counts = legal["avail_actions"][0].sum(-1)
    numbers = torch.rand(T, len(counts), generator=torch.Generator().manual_seed(1))
    return (numbers * counts).long()


def steps(envs: BatchedEnvironment, actions: Tensor) -> list[BatchedStep]:
    return [envs.step(joint.expand(envs.n_envs, -1)) for joint in actions]


def played(envs: BatchedEnvironment, seeds: list[int], actions: Tensor) -> list[BatchedStep]:
    """The steps of an episode in each environment, with the same actions [T, N] in all."""
    envs.reset(torch.tensor(seeds), torch.ones(len(seeds), dtype=torch.bool))
    return steps(envs, actions)


def assert_same_rows(given: list[BatchedStep], row: int, want: list[BatchedStep], want_row: int) -> None:
    """Bit for bit, up to the end of the episode."""
    for t, (step, want_step) in enumerate(zip(given, want, strict=True)):
        for name, tensor in step.frames.items():
            assert torch.equal(tensor[row], want_step.frames[name][want_row]), (t, name)
        for name in ("reward", "terminated", "truncated"):
            assert torch.equal(getattr(step, name)[row], getattr(want_step, name)[want_row]), (t, name)
        if step.terminated[row] or step.truncated[row]:
            return
    pytest.fail("the episode has no end")


@pytest.mark.parametrize("name", [*TOGETHER, *KEPT_APART])
def test_an_episode_is_a_function_of_its_seed_and_actions_whoever_shares_the_batch(name: str) -> None:
    """In another row, beside other episodes, alone, and in environments that were used before."""
    envs = made(name)
    actions = joint_actions(envs)
    want = played(envs, [7, 7, 2**40 + 5, 11], actions)
    assert_same_rows(want, 0, want, 1)
    given = played(envs, [1, 2**40 + 5, 2, 7], actions)
    assert_same_rows(given, 3, want, 0)
    assert_same_rows(given, 1, want, 2)
    assert_same_rows(played(made(name, 1), [7], actions), 0, want, 0)
    assert not torch.equal(given[0].frames["obs"][0], given[0].frames["obs"][3])


@pytest.mark.parametrize("name", [*TOGETHER, *KEPT_APART])
def test_a_reset_of_some_leaves_the_others_as_they_are(name: str) -> None:
    envs = made(name)
    actions = joint_actions(envs)
    want = played(envs, [5, 6, 7, 8], actions)
    given = played(envs, [5, 6, 7, 8], actions[:3])
    before = given[-1].frames["obs"].clone()
    frames = envs.reset(torch.tensor([0, 9, 0, 0]), torch.tensor([False, True, False, False]))
    assert torch.equal(frames["obs"][[0, 2, 3]], before[[0, 2, 3]])
    assert not torch.equal(frames["obs"][1], before[1])
    given += steps(envs, actions[3:])
    for row in (0, 2, 3):
        assert_same_rows(given, row, want, row)


@pytest.mark.parametrize("continuous", [False, True])
def test_kinds_are_by_names_and_sizes(continuous: bool) -> None:
    for name, kinds in [
        ("simple_tag", (0, 0, 0, 1)),
        ("simple_speaker_listener", (0, 1)),
        ("balance", (0, 0, 0)),
    ]:
        assert made(name, 1, continuous_actions=continuous).spec.kinds == kinds


def test_noise_that_is_asked_for_belongs_to_the_episode() -> None:
    envs = made("give_way", obs_noise=0.5)
    actions = joint_actions(envs)
    want = played(envs, [7, 8, 9, 10], actions)
    assert_same_rows(played(envs, [1, 2, 7, 3], actions), 2, want, 0)
    other = played(made("give_way"), [7, 8, 9, 10], actions)
    assert not torch.equal(want[0].frames["obs"], other[0].frames["obs"])


@pytest.mark.parametrize("name", ["balance", "football"])
def test_tensors_stay_as_they_are_and_the_global_generators_too(name: str) -> None:
    torch.manual_seed(3)
    envs = made(name)
    actions = joint_actions(envs)
    numpy = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    first = envs.reset(torch.arange(K), EVERY_ROW)
    handed = [first["obs"], *(tensor for s in steps(envs, actions) for tensor in (s.frames["obs"], s.reward))]
    copies = [tensor.clone() for tensor in handed]
    envs.reset(torch.arange(K) + 10, EVERY_ROW)
    steps(envs, actions)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(handed, copies, strict=True))
    assert torch.equal(torch.rand(4), torch.rand(4, generator=torch.Generator().manual_seed(3)))
    assert np.array_equal(np.random.get_state()[1], numpy)  # type: ignore[index]  # noqa: NPY002


def test_a_fall_terminates_and_the_limit_truncates() -> None:
    """Agents that move at random drop the line onto the floor. A fall at the limit is a termination."""
    envs = made("balance", max_steps=80)
    actions = joint_actions(envs).repeat(4, 1)
    ends = torch.stack([step.terminated for step in played(envs, [1, 2, 3, 4], actions)])
    n = int(ends.any(1).nonzero()[0]) + 1  # steps until the first of them falls
    assert n > 2
    assert not ends[n - 1].all()
    steps_of = played(made("balance", max_steps=n), [1, 2, 3, 4], actions[:n])
    assert torch.equal(steps_of[-1].terminated, ends[n - 1])
    assert torch.equal(steps_of[-1].truncated, ~ends[n - 1])
    assert not torch.stack([step.terminated | step.truncated for step in steps_of[:-1]]).any()
    assert played(made("balance", max_steps=n - 1), [1, 2, 3, 4], actions[: n - 1])[-1].truncated.all()


def test_the_fields_of_balance_and_its_limit() -> None:
    spec = make("vmas:balance").spec
    assert (spec.n_agents, spec.n_actions, spec.fields["obs"].shape) == (3, 9, (3, 16))
    assert spec.reward_per_agent
    assert spec.episode_limit == 100
    assert make("vmas:balance", n_agents=4).spec.n_agents == 4
    assert make("vmas:balance", max_steps=50).spec.episode_limit == 50
    assert make("vmas:balance", max_steps=50, episode_limit=20).spec.episode_limit == 20


def test_agents_that_differ_are_made_equal() -> None:
    """The speaker says one of 3 words, and moves as the listener does. It sees 3 numbers, not 11."""
    frames = made("simple_speaker_listener").reset(torch.arange(K), EVERY_ROW)
    assert sorted(frames["avail_actions"][0].sum(-1).tolist()) == [9, 27]
    speaker = int(frames["avail_actions"][0].sum(-1).argmax())
    assert frames["obs"].shape[2] == 11
    assert not frames["obs"][:, speaker, 3:].any()
    assert frames["obs"][:, 1 - speaker, 3:].any()


@pytest.mark.parametrize("name", ["balance", "wheel", "simple_reference"])
def test_they_keep_to_the_contract(name: str) -> None:
    check(partial(make, f"vmas:{name}", max_steps=30), episodes=3, resets=5)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("balanse", {}, "unknown environment 'vmas:balanse': did you mean vmas:balance"),
        (
            "balance",
            {"n_agent": 3},
            "'vmas:balance' takes no argument 'n_agent': it takes max_steps, continuous_actions, n_",
        ),
        ("balance", {"continuous_actions": 1}, "continuous_actions: given 1, want True or False"),
        ("balance", {"max_steps": "many"}, "'vmas:balance': max_steps: given 'many', want a whole number"),
        ("balance", {"max_steps": 0}, "max_steps: given 0, want a whole number of at least 1"),
        ("balance", {"n_agents": 1}, "'vmas:balance' cannot be made: "),
        (
            "football",
            {"dict_obs": True},
            "given observations that are not vectors, want one vector",
        ),
    ],
)
def test_what_cannot_be_made_is_one_line(name: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvError, match=message) as caught:
        make_batched(f"vmas:{name}", K, **kwargs)
    assert "\n" not in str(caught.value)
