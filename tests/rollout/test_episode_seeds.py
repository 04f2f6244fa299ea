from __future__ import annotations

from itertools import islice

import pytest

from endmark.rollout import EpisodeSeeds


@pytest.mark.parametrize("drawn", [0, 1, 2, 3, 10, 101, 1000])
def test_seeds_go_on_where_they_were(drawn: int) -> None:
    seeds = EpisodeSeeds(3, 7)
    for _ in range(drawn):
        next(seeds)
    again = EpisodeSeeds(3, 7)
    next(again)
    again.load_state_dict(seeds.state_dict())
    assert again.state_dict() == {"drawn": drawn}
    assert list(islice(again, 9)) == list(islice(seeds, 9))


def test_a_number_of_seeds_that_cannot_be_counted_is_no_hang() -> None:
    seeds = EpisodeSeeds(3, 7)
    seeds.load_state_dict({"drawn": 2**62 + 1})
    next(seeds)
    for wrong in (-1, 2**63):
        with pytest.raises(ValueError, match=f"drawn: given {wrong} seeds, want 0 <= drawn"):
            seeds.load_state_dict({"drawn": wrong})
