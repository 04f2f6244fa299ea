"""The baseline is the same the padded way: loss, gradients, stores, returns, and what a runner sees."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from benchmarks.agree import check_update, without_ties
from benchmarks.baseline import PaddedBatch, padded_gae, padded_lambda_return
from benchmarks.baseline_runner import OneEnvironmentActor, OneEnvironmentRunner
from benchmarks.border import baseline_of, padded_batch, padded_replay, padded_row

from endmark.algorithms import QLearner, QLearningConfig, QMIXConfig, VDNConfig
from endmark.episodes import EpisodeBatch
from endmark.policies import EpsilonGreedy
from endmark.rollout import EpisodeSeeds, InProcess, play
from endmark.targets import gae, lambda_return
from support.helpers import make_batch, make_spec, random_batch
from support.scripted import LIMIT, Scripted

SIZES: dict[str, Any] = {
    "hidden_size": 8,
    "mixer_embed_size": 4,
    "mixer_hyper_size": 6,
    "normalise_reward": "none",
}


def qmix(batch: EpisodeBatch, **options: Any) -> QLearner:
    return QLearner(batch.spec, QMIXConfig(**(SIZES | options)))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "options",
    [{}, {"state": False}, {"reward_per_agent": True}, {"n_agents": 1}],
    ids=["state", "no state", "a reward an agent", "one agent"],
)
def test_the_same_loss_gradients_and_update(seed: int, options: dict[str, Any]) -> None:
    batch = random_batch(seed, n_episodes=7, **options)  # every kind of end; agents leave
    learner = qmix(batch, double_q=bool(seed % 2), td_lambda=seed / 7)
    _, _, distance = check_update(learner, batch)  # raises, where they differ
    assert 0 <= distance <= 1e-5
    baseline, _, _ = check_update(learner, batch)  # and with moments in the optimiser
    clear = without_ties(learner, batch)
    value, want = learner.loss(clear)["loss"], baseline.loss(padded_batch(clear))
    torch.testing.assert_close(value, want, rtol=1e-2, atol=0)


def test_only_the_longest_episode_matters_to_its_size() -> None:
    batch = make_batch(make_spec(limit=50), [3, 5, 1], [True, False, True])
    padded = padded_batch(batch)
    assert padded.obs.shape == (3, 6, 3, 5)
    assert padded.mask.tolist()[2] == [True] + [False] * 5
    assert padded.terminated.nonzero().tolist() == [[0, 2], [2, 0]]


def fields(batch: PaddedBatch) -> dict[str, torch.Tensor]:
    """Those of steps at real steps alone."""
    found = {name: field for name, field in vars(batch).items() if field is not None}
    return found | {name: found[name][batch.mask] for name in ("actions", "actions_onehot", "reward")}


@pytest.mark.parametrize("state", [True, False])
def test_the_store_gives_back_what_was_added_last(state: bool) -> None:
    batch = random_batch(3, n_episodes=7, state=state)
    store = padded_replay(batch.spec, capacity=4)
    for episode in batch.split():
        store.add(padded_row(episode), terminated=bool(episode.terminated))
    assert len(store) == 4
    last = EpisodeBatch.cat(
        [batch.split()[e] for e in (4, 5, 6, 3)]
    )  # the ring: three in the place of others
    given, want = fields(store.rows(torch.arange(4))), fields(padded_batch(last))
    filled = torch.arange(given["mask"].shape[1]) <= last.lengths[:, None]
    for name, field in want.items():
        assert given[name].shape == field.shape, name
        if name in ("actions", "actions_onehot", "reward"):
            assert torch.equal(given[name], field), name
        else:  # beyond an episode stands what was there before
            assert torch.equal(given[name][filled], field[filled]), name
    assert torch.equal(given["mask"], want["mask"])
    assert torch.equal(given["terminated"], want["terminated"])


def test_trimming_first_gives_the_same_sample() -> None:
    batch = random_batch(4, n_episodes=9)
    store = padded_replay(batch.spec, capacity=9)
    for episode in batch.split():
        store.add(padded_row(episode), terminated=bool(episode.terminated))
    one, other = (torch.Generator().manual_seed(5) for _ in range(2))
    for _ in range(5):
        given, want = store.sample(3, one), store.sample_trimmed(3, other)
        assert given.obs.shape[1] == int(given.mask.sum(1).max()) + 1
        for name, field in vars(want).items():
            assert torch.equal(getattr(given, name), field), name


def test_the_stores_memory_grows_with_the_limit() -> None:
    short, long = (padded_replay(make_spec(limit=limit), 2).n_bytes for limit in (9, 99))
    assert long == 10 * short
    n, a = 3, 4
    frame = n * 5 * 4 + n * a + n + n * 8 + n * a * 4 + 4 + 1 + 1 + 4 * 4
    assert short == 2 * 10 * frame


@pytest.mark.parametrize("seed", range(5))
def test_returns_and_advantages(seed: int) -> None:
    batch = random_batch(seed, n_episodes=7)
    mask, terminated = padded_batch(batch).mask[:, :-1], padded_batch(batch).terminated[:, :-1]
    reward, value, next_value = torch.randn(3, batch.n_steps)

    def pad(steps: torch.Tensor) -> torch.Tensor:
        padded = torch.full(mask.shape, 7.0)  # what stands in padding must not matter
        padded[mask] = steps
        return padded.t()

    flags = mask.t(), terminated.t(), 0.9, 0.7
    want = lambda_return(reward, batch.discount(0.9), next_value, batch.lengths, 0.7)
    given = padded_lambda_return(pad(reward), pad(next_value), *flags).t()
    torch.testing.assert_close(given[mask], want)
    assert not given[~mask].any()
    want = gae(reward, batch.discount(0.9), value, next_value, batch.lengths, 0.7)
    torch.testing.assert_close(padded_gae(pad(reward), pad(value), pad(next_value), *flags).t()[mask], want)


@pytest.mark.parametrize("per_agent", [False, True])
def test_the_usual_runner_sees_what_a_rollout_sees(per_agent: bool) -> None:
    env = Scripted(reward_per_agent=per_agent)
    learner = QLearner(env.spec, QMIXConfig(**SIZES))
    policy = EpsilonGreedy(learner.actor, 1, torch.Generator())
    want = play(InProcess([env]), policy, itertools.islice(EpisodeSeeds(1), 6))
    actor = OneEnvironmentActor(baseline_of(learner).agent, env.spec.n_actions, torch.Generator())
    runner = OneEnvironmentRunner(env, LIMIT, env.spec.n_actions, actor, EpisodeSeeds(1))
    for episode in want.split():
        row, terminated = runner.episode()
        assert terminated == bool(episode.terminated)
        expected = padded_row(episode)
        assert row.keys() == expected.keys()
        for name, field in expected.items():
            torch.testing.assert_close(row[name], field, msg=name)
    assert runner.env_steps == want.n_steps


def test_an_actor_explores_legally() -> None:
    learner = QLearner(make_spec(), QMIXConfig(**SIZES))
    actor = OneEnvironmentActor(baseline_of(learner).agent, 4, torch.Generator().manual_seed(0), epsilon=1.0)
    legal = torch.tensor([[True, False, True, False], [False, True, False, False], [True] * 4])
    seen = torch.stack([actor.act(torch.zeros(3, 5), legal) for _ in range(200)])
    assert set(seen[:, 0].tolist()) == {0, 2}
    assert set(seen[:, 1].tolist()) == {1}
    assert set(seen[:, 2].tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (VDNConfig(), "mixer"),
        (QMIXConfig(target_update="hard", normalise_reward="none"), "target update"),
        (QMIXConfig(normalise_reward="scale"), "rewards"),
        (QMIXConfig(last_action=False, normalise_reward="none"), "last action"),
        (QMIXConfig(agent="feedforward", normalise_reward="none"), "recurrent"),
        (QMIXConfig(share="none", normalise_reward="none"), "share"),
    ],
)
def test_a_learner_that_it_cannot_copy_is_refused(config: QLearningConfig, what: str) -> None:
    learner = QLearner(make_spec(), config)
    with pytest.raises(ValueError, match=what):
        baseline_of(learner)
