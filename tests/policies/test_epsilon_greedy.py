"""Acting: always legal, reproducible, and by the same values as those that are learned."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from endmark.nets import AgentKind, Share
from endmark.policies import EpsilonGreedy, Policy, linear_decay
from endmark.rollout import InProcess, play
from support.actors import every_actor, frames, make_actor, one_frame
from support.scripted import Scripted


def make_policy(n_envs: int, epsilon: float = 0.0, seed: int = 0) -> EpsilonGreedy:
    policy = EpsilonGreedy(make_actor(), n_envs, torch.Generator().manual_seed(seed))
    policy.epsilon = epsilon
    return policy


def hidden_of(policy: EpsilonGreedy) -> Tensor:
    """What the agent remembers."""
    return policy.memory.state_dict()["hidden"]  # type: ignore[no-any-return]


def test_it_is_a_policy() -> None:
    assert isinstance(make_policy(1), Policy)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_only_legal_actions_are_taken(epsilon: float) -> None:
    policy = make_policy(40, epsilon)
    for seen in frames(40, 30):
        actions = policy.act(seen)["actions"]
        assert seen.legal.gather(2, actions[..., None]).all()


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_an_agent_without_a_legal_action_gets_one_that_exists(epsilon: float) -> None:
    """An agent that has left; the environment ignores what it does."""
    actions = make_policy(2, epsilon).act(one_frame(torch.zeros(2, 3, 4, dtype=torch.bool)))["actions"]
    assert ((actions >= 0) & (actions < 4)).all()


def test_greedy_acting_draws_nothing_and_takes_the_best_legal_action() -> None:
    policy = make_policy(6)
    before, global_before = policy.generator.get_state(), torch.get_rng_state()
    actor = policy.memory.actor
    hidden = actor.agent.start(6)["hidden"]
    for seen in frames(6, 12):
        hidden = torch.where(seen.first[:, None, None], 0.0, hidden)
        with torch.no_grad():
            features, memory = actor.agent.step(seen, seen.last_actions, {"hidden": hidden})
            q, hidden = actor.head.outputs(features), memory["hidden"]
        actions = policy.act(seen)["actions"]
        best = q.masked_fill(~seen.legal, -torch.inf).max(-1).values
        assert torch.equal(q.gather(2, actions[..., None])[..., 0], best)
    assert torch.equal(policy.generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), global_before)


def test_the_same_seed_acts_alike_and_another_does_not() -> None:
    policies = [make_policy(6, 0.5, seed) for seed in (0, 0, 1)]
    runs = [torch.stack([policy.act(seen)["actions"] for seen in frames(6, 20)]) for policy in policies]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("epsilon", [1.0, 0.3])
def test_exploration_is_uniform_over_legal_actions(epsilon: float) -> None:
    n = 30_000
    avail = torch.tensor([[True, True, False, True], [False, True, True, False], [False, False, True, False]])
    seen = one_frame(avail.expand(n, -1, -1))
    best = make_policy(n).act(seen)["actions"][0]
    actions = make_policy(n, epsilon).act(seen)["actions"]
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
    for seen in frames(4, 6):
        old.act(seen)
        other.act(seen)
    starts = torch.tensor([True, False, True, False])
    begins, goes_on = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    assert (hidden_of(old) != 0).all()
    for t, seen in enumerate(frames(4, 5, seed=3)):
        mixed = old.act(seen._replace(first=starts if t == 0 else goes_on))["actions"]
        new = fresh.act(seen._replace(first=begins if t == 0 else goes_on))["actions"]
        continued = other.act(seen._replace(first=goes_on))["actions"]
        assert torch.equal(mixed[starts], new[starts])
        assert torch.equal(mixed[~starts], continued[~starts])
        assert torch.equal(hidden_of(old)[starts], hidden_of(fresh)[starts])
        assert torch.equal(hidden_of(old)[~starts], hidden_of(other)[~starts])
        assert not torch.equal(hidden_of(old)[~starts], hidden_of(fresh)[~starts])


def test_policies_share_parameters_but_no_memory() -> None:
    actor = make_actor()
    one, two = (EpsilonGreedy(actor, 3, torch.Generator()) for _ in range(2))
    (seen,) = frames(3, 1)
    one.act(seen)
    assert (hidden_of(two) == 0).all()
    one.act(seen)["actions"].zero_()  # a caller may do with the actions what it likes


@every_actor
@pytest.mark.parametrize(
    ("n_envs", "last_action", "agent_id"), [(1, True, True), (4, False, False), (4, True, False)]
)
def test_the_values_acted_on_are_those_that_are_learned(
    n_envs: int, last_action: bool, agent_id: bool, kind: AgentKind, share: Share
) -> None:
    """Unrolling the recorded episodes gives back, at every step, the action that was taken greedily."""
    envs = InProcess([Scripted() for _ in range(n_envs)])
    actor = make_actor(envs.spec, kind=kind, share=share, last_action=last_action, agent_id=agent_id)
    batch = play(envs, EpsilonGreedy(actor, n_envs, torch.Generator()), range(40))
    with torch.no_grad():
        q = actor(batch)
    best = q.masked_fill(~batch.avail_actions, -torch.inf).argmax(-1)[batch.step_frames]
    alive = batch.steps("alive")
    assert torch.equal(best[alive], batch.steps("actions")[alive])
    assert len(set(best[alive].tolist())) > 1, "one action throughout would show nothing"


@pytest.mark.parametrize("epsilon", [0.0, 0.4])
def test_a_state_goes_on_as_the_policy_would_have(epsilon: float) -> None:
    """Memory, last actions, generator and ε; and the state that was taken stays as it was."""
    policy, seen = make_policy(5, epsilon), frames(5, 20)
    for frame in seen[:7]:
        policy.act(frame)
    state = policy.state_dict()
    want = [policy.act(frame)["actions"] for frame in seen[7:]]
    for seed in (8, 9):
        other = make_policy(5, seed=seed)
        other.act(seen[0])
        other.load_state_dict(state)
        assert other.epsilon == epsilon
        given = [other.act(frame)["actions"] for frame in seen[7:]]
        assert torch.equal(torch.stack(given), torch.stack(want))


def test_linear_decay() -> None:
    epsilon = linear_decay(1.0, 0.2, 40)
    assert [epsilon(steps) for steps in (0, 10, 20, 40, 41, 10**9)] == pytest.approx(
        [1, 0.8, 0.6, 0.2, 0.2, 0.2]
    )
    assert linear_decay(0.2, 1.0, 4)(3) == pytest.approx(0.8)
    assert linear_decay(1.0, 0.3, 0)(0) == pytest.approx(0.3)  # no steps: at the end from the start


def test_the_schedule_sets_epsilon_and_says_so() -> None:
    policy = EpsilonGreedy(make_actor(), 1, torch.Generator(), linear_decay(1.0, 0.5, 10))
    assert policy.schedule(5) == {"epsilon": 0.75}
    assert policy.epsilon == 0.75
    policy = make_policy(1, epsilon=0.3)
    assert policy.schedule(5) == {}
    assert policy.epsilon == 0.3
