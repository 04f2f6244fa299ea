"""Updates in a thread are the same updates, and what acts does not depend on how fast they are."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.algorithms import Learner, QLearner, VDNConfig
from endmark.episodes import EpisodeBatch, Replay
from endmark.rollout import InProcess, play
from endmark.training.meters import Meters
from endmark.training.updates import InTurn, Overlapped, settle
from support.scripted import ByObservation, Scripted

SPEC = Scripted().spec


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


# --- priorities ---


def prioritised() -> Replay:
    source = torch.Generator().manual_seed(0)
    return Replay(SPEC, 1000, batch_size=3, every=1, generator=source, exponent=0.7, beta=0.5)


@pytest.mark.parametrize("kind", [InTurn, lambda learner: Overlapped(learner, threads=1)])
def test_priorities_go_back_to_the_store_and_into_no_metric(kind: Callable[[Learner], Any]) -> None:
    updates, store, meters = kind(make_learner()), prioritised(), Meters()
    twin, want = make_learner(), prioritised()
    for episodes in batches(4):
        store.add(episodes)
        want.add(episodes)
        drawn = []
        for batch in store.due():
            updates.begin(batch)
        for batch in want.due():
            metrics = twin.update(batch)
            drawn.append((batch["serial"][batch.first_frames], metrics["priority"]))
        settle(updates, meters, store)
        for serials, priorities in drawn:
            want.prioritise(serials, priorities)
        assert store.memory.priorities.tolist() == want.memory.priorities.tolist()
    assert len(set(store.memory.priorities.tolist())) > 3
    assert meters.pop().keys() == VDNConfig.METRICS.keys()
    assert_same(updates.learner.networks.state_dict(), twin.networks.state_dict())


def test_a_learner_without_priorities_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QLearner, "update", lambda *_: {"loss": torch.zeros(())})
    updates, store = InTurn(make_learner()), prioritised()
    for episodes in batches(2):
        store.add(episodes)
    said = "priority_exponent: given to QLearner, want a learner that gives the 'priority' of each episode"
    with pytest.raises(ValueError, match=said):
        updates.begin(next(store.due()))
