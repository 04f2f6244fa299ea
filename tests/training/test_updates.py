"""Updates in a thread are the same updates, and what acts does not depend on how fast they are."""

from __future__ import annotations

import copy
import threading
import time

import pytest
import torch
from torch import Tensor

from endmark.algorithms import Learner, QLearner, VDNConfig
from endmark.episodes import EpisodeBatch
from endmark.rollout import InProcess, play
from endmark.training.updates import InTurn, Overlapped
from support.scripted import ByObservation, Scripted


def make_learner() -> QLearner:
    torch.manual_seed(0)
    return QLearner(Scripted().spec, VDNConfig(hidden_size=8, lr=0.1))


def batches(n: int) -> list[EpisodeBatch]:
    return [play(InProcess([Scripted()]), ByObservation(), [seed, seed + 1]) for seed in range(n)]


def weights(learner: InTurn | Overlapped | Learner) -> dict[str, Tensor]:
    return copy.deepcopy(learner.actor.state_dict())


def assert_same(given: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert given.keys() == want.keys()
    for name, tensor in want.items():
        assert torch.equal(given[name], tensor), name


def test_the_updates_are_the_same() -> None:
    one, other = InTurn(make_learner()), Overlapped(make_learner(), threads=1)
    for batch in batches(5):
        one.begin(batch)
        other.begin(batch)
    want, given = one.finish(), other.finish()
    assert len(want) == len(given) == 5
    for mine, theirs in zip(given, want, strict=True):
        assert_same(dict(mine), dict(theirs))
    assert_same(other.learner.networks.state_dict(), one.learner.networks.state_dict())
    assert (one.finish(), other.finish()) == ([], [])


def test_in_turn_the_next_action_is_by_the_new_weights() -> None:
    updates = InTurn(make_learner())
    before = weights(updates)
    updates.begin(*batches(1))
    assert_same(weights(updates), weights(updates.learner))
    assert not torch.equal(before["head.linear.bias"], updates.actor.state_dict()["head.linear.bias"])


def test_what_acts_changes_when_an_update_begins_and_nothing_runs() -> None:
    updates = Overlapped(make_learner(), threads=1)
    start = weights(updates)
    assert_same(start, weights(updates.learner))
    first, second, third = batches(3)
    updates.begin(first)
    while updates.learner.updates < 1:
        time.sleep(0.01)
    assert_same(weights(updates), start)
    updates.begin(second)  # the first is done, but nobody has asked
    assert_same(weights(updates), start)
    updates.finish()
    after = weights(updates.learner)
    assert_same(weights(updates), start)
    assert not torch.equal(start["head.linear.bias"], after["head.linear.bias"])
    updates.begin(third)
    assert_same(weights(updates), after)
    updates.finish()


def test_the_caller_goes_on_and_hears_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The update waits for what happens only after `begin` has returned."""
    go_on = threading.Event()

    def fail(learner: QLearner, batch: EpisodeBatch) -> None:
        assert go_on.wait(60)
        raise ZeroDivisionError("in an update")

    monkeypatch.setattr(QLearner, "update", fail)
    updates = Overlapped(make_learner(), threads=1)
    updates.begin(*batches(1))
    go_on.set()
    with pytest.raises(ZeroDivisionError, match="in an update"):
        updates.finish()
