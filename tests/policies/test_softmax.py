"""Drawing actions: legal, as often as they are probable, with the log-probability that is learned from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from endmark.episodes import Field, Seen
from endmark.nets import AgentKind, Share
from endmark.ops.categorical import log_softmax
from endmark.policies import Policy, SoftmaxPolicy
from endmark.rollout import InProcess, Lockstep
from support.actors import every_actor, frames, make_actor, one_frame
from support.scripted import Scripted


def make_policy(n_envs: int, seed: int = 0, **options: object) -> SoftmaxPolicy:
    return SoftmaxPolicy(make_actor(**options), n_envs, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]


def run(policy: SoftmaxPolicy, seen: list[Seen]) -> tuple[Tensor, Tensor]:
    """Actions and log-probabilities [T, K, N]."""
    outputs = [policy.act(frame) for frame in seen]
    return torch.stack([o["actions"] for o in outputs]), torch.stack([o["log_prob"] for o in outputs])


@every_actor
def test_only_legal_actions_are_taken(kind: AgentKind, share: Share) -> None:
    policy = make_policy(40, kind=kind, share=share)
    assert isinstance(policy, Policy)
    assert policy.schedule(9) == {}
    seen = frames(40, 30)
    actions, log_probs = run(policy, seen)
    avail = torch.stack([frame.legal for frame in seen])
    assert avail.gather(3, actions[..., None]).all()
    assert ((log_probs <= 0) & log_probs.isfinite()).all()
    assert (log_probs[avail.sum(-1) == 1] == 0).all()


def test_an_agent_without_a_legal_action_gets_one_that_exists() -> None:
    """An agent that has left; the environment ignores what it does."""
    given = make_policy(2).act(one_frame(torch.zeros(2, 3, 4, dtype=torch.bool)))
    assert ((given["actions"] >= 0) & (given["actions"] < 4)).all()
    assert given["log_prob"].isfinite().all()


@every_actor
@pytest.mark.parametrize("n_envs", [1, 4])
def test_log_prob_is_that_of_the_unrolled_episodes(n_envs: int, kind: AgentKind, share: Share) -> None:
    envs = InProcess([Scripted() for _ in range(n_envs)])
    spec = envs.spec.extend(log_prob=Field((2,), torch.float32, per="step"))
    actor = make_actor(envs.spec, kind=kind, share=share, obs_scale=0.003)
    rollout = Lockstep(envs, range(40), spec)
    policy = SoftmaxPolicy(actor, n_envs, torch.Generator().manual_seed(3))
    n_episodes, taken = 0, set()
    while rollout.running:
        batch = rollout.collect(policy)
        n_episodes += batch.n_episodes
        with torch.no_grad():
            log_probs = log_softmax(actor(batch), batch.avail_actions)[batch.step_frames]
        actions = batch.steps("actions")
        want = log_probs.gather(-1, actions[..., None])[..., 0]
        torch.testing.assert_close(batch.steps("log_prob"), want, rtol=1e-5, atol=1e-5)
        taken |= set(actions[batch.steps("alive")].tolist())
    assert n_episodes == 40
    assert len(taken) > 2, "one action throughout would show nothing"


def test_actions_are_as_frequent_as_they_are_probable() -> None:
    """30,000 environments at the same frame: within five standard deviations, at most 0.003 each."""
    n = 30_000
    avail = torch.tensor([[True, True, False, True], [False, True, True, False], [False, False, True, False]])
    seen = one_frame(avail.expand(n, -1, -1))
    policy = make_policy(n)
    actor = policy.memory.actor
    with torch.no_grad():
        features, _ = actor.agent.step(seen, torch.full((n, 3), -1), actor.agent.start(n))
        want = log_softmax(actor.head.outputs(features)[0], avail).exp()
    actions = policy.act(seen)["actions"]
    for agent in range(3):
        share = torch.bincount(actions[:, agent], minlength=4) / n
        torch.testing.assert_close(share, want[agent], rtol=0, atol=0.015)
        assert (share[~avail[agent]] == 0).all()
    # Each agent draws by itself.
    both = ((actions[:, 0] == 0) & (actions[:, 1] == 1)).float().mean()
    assert float(both) == pytest.approx(float(want[0, 0] * want[1, 1]), abs=0.015)


def test_the_same_seed_acts_alike_and_another_does_not() -> None:
    policies, before = [make_policy(6, seed) for seed in (0, 0, 1)], torch.get_rng_state()
    runs = [run(policy, frames(6, 20))[0] for policy in policies]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert torch.equal(torch.get_rng_state(), before)


@every_actor
def test_memory_is_forgotten_exactly_where_an_episode_starts(kind: AgentKind, share: Share) -> None:
    """By log-probabilities, which tell any difference in memory; the draws are the same."""
    old, other, fresh = (make_policy(4, kind=kind, share=share) for _ in range(3))
    for seen in frames(4, 6):
        old.act(seen)
        other.act(seen)
    fresh.generator.set_state(old.generator.get_state())
    starts = torch.tensor([True, False, True, False])
    begins, goes_on = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    for t, seen in enumerate(frames(4, 5, seed=3)):
        seen = seen._replace(avail_actions=torch.ones(4, 3, 4, dtype=torch.bool))
        mixed = old.act(seen._replace(first=starts if t == 0 else goes_on))
        new = fresh.act(seen._replace(first=begins if t == 0 else goes_on))
        continued = other.act(seen._replace(first=goes_on))
        for name in ("actions", "log_prob"):
            assert torch.equal(mixed[name][starts], new[name][starts])
            assert torch.equal(mixed[name][~starts], continued[name][~starts])
        if kind == "gru":  # feed-forward agents remember nothing
            assert (new["log_prob"][~starts] != continued["log_prob"][~starts]).any()


@every_actor
def test_a_state_goes_on_as_the_policy_would_have(kind: AgentKind, share: Share) -> None:
    """Bit for bit; and the state that was taken stays as it was."""
    policy, seen = make_policy(5, kind=kind, share=share), frames(5, 20)
    run(policy, seen[:7])
    state = policy.state_dict()
    want = run(policy, seen[7:])
    for seed in (8, 9):
        other = make_policy(5, seed, kind=kind, share=share)
        other.act(seen[0])
        other.load_state_dict(state)
        for one, wanted in zip(run(other, seen[7:]), want, strict=True):
            assert torch.equal(one, wanted)


def test_what_is_given_is_the_callers() -> None:
    """Outside of inference mode, and no part of the memory."""
    policy, other = make_policy(3), make_policy(3)
    first, second = frames(3, 2)
    for seen in (first, second._replace(first=torch.zeros(3, dtype=torch.bool))):
        given, want = policy.act(seen), other.act(seen)
        for name in ("actions", "log_prob"):
            assert torch.equal(given[name], want[name])
            assert not given[name].is_inference()
            given[name].zero_()
