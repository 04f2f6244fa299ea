from __future__ import annotations

import torch

from endmark.policies import Policy, RandomPolicy, random_legal
from support.actors import frames, one_frame


def make_policy(seed: int = 5) -> RandomPolicy:
    return RandomPolicy(torch.Generator().manual_seed(seed))


def test_random_policy_is_legal_uniform_and_seeded() -> None:
    avail = torch.tensor([[[True, False, True, True], [False, True, False, False]]])
    seen = one_frame(avail.expand(30_000, -1, -1))
    actions = make_policy().act(seen)["actions"]
    again = make_policy().act(seen)["actions"]
    assert torch.equal(actions, again)
    assert (actions[:, 1] == 1).all()
    share = torch.bincount(actions[:, 0], minlength=4) / 30_000
    torch.testing.assert_close(share, torch.tensor([1 / 3, 0, 1 / 3, 1 / 3]), rtol=0, atol=0.012)


def test_no_legal_action_is_action_0() -> None:
    none = torch.zeros(100, 3, dtype=torch.bool)
    assert (random_legal(none, torch.Generator().manual_seed(0)) == 0).all()


def test_a_state_goes_on_as_the_policy_would_have() -> None:
    policy, seen = make_policy(), frames(6, 9)
    assert isinstance(policy, Policy)
    assert policy.schedule(7) == {}
    for frame in seen[:4]:
        policy.act(frame)
    state = policy.state_dict()
    want = torch.stack([policy.act(frame)["actions"] for frame in seen])
    other = make_policy(seed=6)
    assert not torch.equal(torch.stack([other.act(frame)["actions"] for frame in seen]), want)
    other.load_state_dict(state)
    assert torch.equal(torch.stack([other.act(frame)["actions"] for frame in seen]), want)
