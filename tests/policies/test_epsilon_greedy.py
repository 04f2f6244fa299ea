"""Acting: always legal, reproducible, and by the same values as those that are learned."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from endmark.algorithms import EpsilonGreedy, QLearner, QLearningConfig
from endmark.episodes import EpisodeSpec
from endmark.rollout import play
from support.helpers import make_spec
from support.padded_oracle import perturb
from support.scripted import Scripted

SPEC = make_spec(n_agents=3, n_actions=4)
CONFIG = QLearningConfig(hidden_size=16)


def make_learner(spec: EpisodeSpec = SPEC, config: QLearningConfig = CONFIG) -> QLearner:
    torch.manual_seed(0)
    learner = QLearner("vdn", spec, config)
    perturb(learner, torch.Generator().manual_seed(1))
    return learner


def make_policy(n_envs: int, epsilon: float = 0.0, seed: int = 0) -> EpsilonGreedy:
    policy = EpsilonGreedy(make_learner().agent, n_envs, torch.Generator().manual_seed(seed))
    policy.epsilon = epsilon
    return policy


def frames(n_envs: int, n_frames: int, seed: int = 0) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Inputs of `act`; at least one action is legal, episodes start at frame 0 and here and there."""
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for t in range(n_frames):
        obs = torch.randn(n_envs, 3, 5, generator=generator)
        avail = torch.rand(n_envs, 3, 4, generator=generator) < 0.4
        legal = torch.randint(0, 4, (n_envs, 3, 1), generator=generator)
        first = torch.rand(n_envs, generator=generator) < (0.2 if t else 2.0)
        inputs.append((obs, avail.scatter(2, legal, True), first))
    return inputs


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_only_legal_actions_are_taken(epsilon: float) -> None:
    policy = make_policy(40, epsilon)
    for obs, avail, first in frames(40, 30):
        actions = policy.act(obs, avail, first)
        assert avail.gather(2, actions[..., None]).all()


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_an_agent_without_a_legal_action_gets_one_that_exists(epsilon: float) -> None:
    """An agent that has left; the environment ignores what it does."""
    actions = make_policy(2, epsilon).act(
        torch.zeros(2, 3, 5), torch.zeros(2, 3, 4, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    )
    assert ((actions >= 0) & (actions < 4)).all()


def test_greedy_acting_draws_nothing_and_takes_the_best_legal_action() -> None:
    policy = make_policy(6)
    before, global_before = policy.generator.get_state(), torch.get_rng_state()
    agent, hidden = policy.agent, policy.agent.initial_hidden(6)
    last_actions = torch.full((6, 3), -1)
    for obs, avail, first in frames(6, 12):
        hidden = torch.where(first[:, None, None], 0.0, hidden)
        last_actions = torch.where(first[:, None], -1, last_actions)
        with torch.no_grad():
            q, hidden = agent.step(obs, last_actions, hidden)
        last_actions = policy.act(obs, avail, first)
        best = q.masked_fill(~avail, -torch.inf).max(-1).values
        assert torch.equal(q.gather(2, last_actions[..., None])[..., 0], best)
    assert torch.equal(policy.generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), global_before)


def test_the_same_seed_acts_alike_and_another_does_not() -> None:
    policies = [make_policy(6, 0.5, seed) for seed in (0, 0, 1)]
    runs = [torch.stack([policy.act(*inputs) for inputs in frames(6, 20)]) for policy in policies]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("epsilon", [1.0, 0.3])
def test_exploration_is_uniform_over_legal_actions(epsilon: float) -> None:
    n = 30_000
    avail = torch.tensor([[True, True, False, True], [False, True, True, False], [False, False, True, False]])
    obs = torch.zeros(n, 3, 5)
    first = torch.ones(n, dtype=torch.bool)
    best = make_policy(n).act(obs, avail.expand(n, -1, -1), first)[0]
    actions = make_policy(n, epsilon).act(obs, avail.expand(n, -1, -1), first)
    for agent in range(3):
        share = torch.bincount(actions[:, agent], minlength=4) / n
        want = epsilon * avail[agent] / avail[agent].sum()
        want[best[agent]] += 1 - epsilon
        torch.testing.assert_close(share, want, rtol=0, atol=0.012)
    # Each agent explores by itself: two agents that deviate together do so at the product of their shares.
    both = ((actions[:, 0] != best[0]) & (actions[:, 1] != best[1])).float().mean()
    assert float(both) == pytest.approx(epsilon * 2 / 3 * epsilon / 2, abs=0.012)


def test_memory_is_forgotten_exactly_where_an_episode_starts() -> None:
    old, fresh = make_policy(4), make_policy(4)
    other = make_policy(4)
    for obs, avail, first in frames(4, 6):
        old.act(obs, avail, first)
        other.act(obs, avail, first)
    starts = torch.tensor([True, False, True, False])
    begins, goes_on = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    assert (old.hidden != 0).all()
    for t, (obs, avail, _) in enumerate(frames(4, 5, seed=3)):
        mixed = old.act(obs, avail, starts if t == 0 else goes_on)
        new = fresh.act(obs, avail, begins if t == 0 else goes_on)
        continued = other.act(obs, avail, goes_on)
        assert torch.equal(mixed[starts], new[starts])
        assert torch.equal(mixed[~starts], continued[~starts])
        assert torch.equal(old.hidden[starts], fresh.hidden[starts])
        assert torch.equal(old.hidden[~starts], other.hidden[~starts])
        assert not torch.equal(old.hidden[~starts], fresh.hidden[~starts])


def test_policies_share_parameters_but_no_memory() -> None:
    agent = make_learner().agent
    one, two = (EpsilonGreedy(agent, 3, torch.Generator()) for _ in range(2))
    inputs = frames(3, 1)[0]
    one.act(*inputs)
    assert (two.hidden == 0).all()
    assert (two.last_actions == -1).all()
    actions = one.act(*inputs)
    remembered = actions.clone()
    actions.zero_()  # a caller may do with the actions what it likes
    assert torch.equal(one.last_actions, remembered)


@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize(("last_action", "agent_id"), [(True, True), (False, False), (True, False)])
def test_the_values_acted_on_are_those_that_are_learned(
    n_envs: int, last_action: bool, agent_id: bool
) -> None:
    """Unrolling the recorded episodes gives back, at every step, the action that was taken greedily."""
    envs = [Scripted() for _ in range(n_envs)]
    config = QLearningConfig(hidden_size=16, last_action=last_action, agent_id=agent_id)
    learner = make_learner(envs[0].spec, config)
    batch = play(envs, EpsilonGreedy(learner.agent, n_envs, torch.Generator()), range(40))
    with torch.no_grad():
        q = learner.agent.unroll(batch)
    best = q.masked_fill(~batch.avail_actions, -torch.inf).argmax(-1)[batch.step_frames]
    alive = batch.steps("alive")
    assert torch.equal(best[alive], batch.steps("actions")[alive])
    assert len(set(best[alive].tolist())) > 1, "one action throughout would show nothing"
