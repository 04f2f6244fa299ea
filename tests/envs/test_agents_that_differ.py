"""Agents that see and do different things: equal rows at the border, and nobody does what it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from endmark.algorithms import ALGORITHMS, MAPPOConfig, QMIXConfig, VDNConfig
from endmark.envs import PettingZooAdapter, check, make
from endmark.envs.agent_kinds import by_name
from endmark.episodes import EpisodeBatch
from endmark.episodes.spec import numbered
from endmark.policies import Policy, RandomPolicy
from endmark.rollout import EpisodeSeeds, InProcess, Lockstep
from support.kinds import ACTED, COUNTS, LIMIT, SIZES, ThreeKinds

SPEAKER_LISTENER = "mpe2.simple_speaker_listener_v4"


def three_kinds() -> PettingZooAdapter:
    return PettingZooAdapter(ThreeKinds())


def test_shorter_rows_end_in_zeros_and_actions_that_are_never_legal() -> None:
    env = three_kinds()
    assert env.spec.fields["obs"].shape == (3, max(SIZES))
    frame = env.reset(seed=0)
    for size, count, obs, legal in zip(SIZES, COUNTS, frame.obs, frame.legal, strict=True):
        assert not obs[size:].any()
        assert not legal[count:].any()
    assert frame.obs[0].all()
    assert sorted(frame.obs[1, :3]) == [0, 0, 1]  # one-hot
    assert frame.obs[2, :4].all()
    np.testing.assert_array_equal(frame.legal[1], [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(env.step(np.array([0, 3, 0])).frame.legal[1], [1] * 6)


@pytest.mark.parametrize(
    ("names", "sizes", "kinds"),
    [
        (["adversary_0", "adversary_1", "agent_0"], [8, 8, 8], (0, 0, 1)),
        (["agent_0", "agent_1", "agent_10"], [8, 10, 8], (0, 1, 0)),
        (["red1", "blue-1", "red 22"], [8, 8, 8], (0, 1, 0)),
        ([0, 1, 2], [8, 8, 8], (0, 0, 0)),
    ],
)
def test_kinds_by_names_and_sizes(names: list[Any], sizes: list[int], kinds: tuple[int, ...]) -> None:
    assert numbered(by_name(names, sizes)) == kinds


@pytest.mark.parametrize(
    ("env_id", "kinds"),
    [
        ("mpe2.simple_tag_v3", (0, 0, 0, 1)),
        (SPEAKER_LISTENER, (0, 1)),
        ("mpe2.simple_spread_v3", (0, 0, 0)),
        ("matrix:climbing", (0, 0)),
        ("lbforaging:Foraging-5x5-2p-1f-v3", (0, 0)),
    ],
)
def test_kinds_of_environments(env_id: str, kinds: tuple[int, ...]) -> None:
    assert make(env_id).spec.kinds == kinds


def test_agents_of_other_spaces_are_of_other_kinds() -> None:
    assert three_kinds().spec.kinds == (0, 1, 2)


def test_actions_are_the_environments_own_numbers() -> None:
    raw = ThreeKinds()
    env = PettingZooAdapter(raw)
    env.reset(seed=0)
    step = env.step(np.array([1, 5, 3]))
    assert raw.heard == [{"scout": 6, "guard": 5, "medic": 2}]
    np.testing.assert_array_equal(step.reward, [1, 1, 1])


def test_they_keep_to_the_contract() -> None:
    report = check(three_kinds, episodes=3, resets=20)
    assert (report.mean_length, report.truncated) == (LIMIT, 3)


def policies() -> dict[str, Policy]:
    spec, generator = three_kinds().spec, torch.Generator().manual_seed(0)
    made: dict[str, Policy] = {"random": RandomPolicy(generator)}
    configs: dict[str, Any] = {
        "epsilon-greedy": QMIXConfig(epsilon_start=0.5, hidden_size=8),
        "greedy": QMIXConfig(epsilon_start=0.0, epsilon_end=0.0, hidden_size=8),
        "softmax": MAPPOConfig(hidden_size=8),
    }
    for name, config in configs.items():
        learner = config.learner(spec, torch.device("cpu"))
        made[name] = learner.policy(learner.actor, 4, generator)
        made[name].schedule(0)
    return made


@pytest.mark.parametrize("name", ["random", "epsilon-greedy", "greedy", "softmax"])
def test_no_policy_does_what_an_agent_cannot(name: str) -> None:
    """The environment would refuse it. And all that an agent can do is done, unless greedily."""
    torch.manual_seed(0)
    envs = [ThreeKinds() for _ in range(4)]
    policy = policies()[name]
    spec = three_kinds().spec
    if name == "softmax":
        spec = MAPPOConfig(hidden_size=8).learner(spec, torch.device("cpu")).spec
    rollout = Lockstep(InProcess([PettingZooAdapter(env) for env in envs]), EpisodeSeeds(0), spec)
    while rollout.episodes < 40:
        batch = rollout.collect(policy)
        assert_masked(batch, SIZES, COUNTS)
    if name != "greedy":
        heard = [actions for env in envs for actions in env.heard]
        done = {agent: {actions[agent] for actions in heard if agent in actions} for agent in ACTED}
        assert done == {agent: set(range(s.start, s.start + s.n)) for agent, s in ACTED.items()}


def assert_masked(batch: EpisodeBatch, sizes: tuple[int, ...], counts: tuple[int, ...]) -> None:
    """Padding is zero at every frame, and every action of an agent alive is one that it has."""
    steps = batch.step_frames
    for agent, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        assert not batch.obs[:, agent, size:].any()
        assert not batch.avail_actions[:, agent, count:].any()
        assert (batch["actions"][steps, agent] < count).all()
    taken = batch.avail_actions[steps].gather(2, batch["actions"][steps][..., None])[..., 0]
    assert taken[batch.alive[steps]].all()


@pytest.mark.parametrize("share", ["all", "kind"])
@pytest.mark.parametrize("kind", [VDNConfig, QMIXConfig, MAPPOConfig])
def test_speaker_and_listener_learn(kind: Any, share: str) -> None:
    """500 steps: every episode is masked, every loss finite."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    config = kind(hidden_size=16, batch_size=4, share=share)
    learner = config.learner(make(SPEAKER_LISTENER).spec, torch.device("cpu"))
    store = config.store(learner.spec, generator, None)
    policy = learner.policy(learner.actor, 4, generator)
    rollout = Lockstep(InProcess([make(SPEAKER_LISTENER) for _ in range(4)]), EpisodeSeeds(0), learner.spec)
    while rollout.env_steps < 500:
        policy.schedule(rollout.env_steps)
        collected = rollout.collect(policy)
        assert_masked(collected, (3, 11), (3, 5))
        store.add(collected)
        for batch in store.due():
            assert learner.update(batch)["loss" if kind is not MAPPOConfig else "policy_loss"].isfinite()
    assert learner.updates > 0
    assert kind in ALGORITHMS.values()
