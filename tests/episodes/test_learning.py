"""`EpisodeBatch.learning`: who takes part and is the learner's, at every frame."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from endmark.episodes import EpisodeBatch
from endmark.policies import with_seats
from support.helpers import make_spec, random_batch
from support.seated import seated_batch


def naive(batch: EpisodeBatch) -> Tensor:
    """By a loop: the seats of an episode's first frame, at all of its frames."""
    rows, start = [], 0
    for length in batch.lengths.tolist():
        rows += [batch["learns"][start] & batch.alive[f] for f in range(start, start + length + 1)]
        start += length + 1
    return torch.stack(rows)


@pytest.mark.parametrize("seed", range(6))
def test_seats_last_for_an_episode_its_final_frame_included(seed: int) -> None:
    """Where `learns` holds garbage; also after episodes were taken apart and put together, and padded."""
    batch = seated_batch(seed, learners=1 + seed % 2)
    want = naive(batch)
    given = batch["learns"].clone()
    assert torch.equal(batch.learning, want)
    assert torch.equal(batch["learns"], given), "the field stays as it is"
    assert not torch.equal(want, batch.alive)
    parts = batch.split()
    assert torch.equal(torch.cat([part.learning for part in parts]), want)
    assert torch.equal(EpisodeBatch.cat(parts[::-1]).learning, torch.cat([p.learning for p in parts[::-1]]))
    assert torch.equal(batch.select([2, 0]).learning, torch.cat([parts[2].learning, parts[0].learning]))
    back = EpisodeBatch.from_padded(batch.to_padded(), batch.spec)
    assert torch.equal(back.learning, want)


def test_without_partners_all_that_are_alive_learn() -> None:
    batch = random_batch(1)
    assert batch.learning is batch.alive


def test_the_fields_are_step_fields() -> None:
    spec = with_seats(make_spec())
    assert {"learns", "partner"} <= {*spec.step_fields}
