"""Scripts as policies: what they may return, and what they are told where they may not."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.episodes import NO_ACTION, Seats, Seen
from endmark.policies import Scripted
from support import tables
from support.actors import one_frame

LEGAL = torch.tensor([[[1, 1, 0, 0, 0], [0, 1, 1, 0, 0]], [[1, 0, 0, 1, 0], [0, 0, 1, 0, 1]]]).bool()
SEEN = one_frame(LEGAL)


def act(function: Any, seen: Seen = SEEN) -> Tensor:
    return Scripted(function, torch.Generator(), "my:script").act(seen)["actions"]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (tables.raises, "partner my:script: KeyError: 'no such plan' ("),
        (tables.leaves, "partner my:script: SystemExit: 0 ("),
        (tables.flat, "partner my:script: given shape (2,), want actions of shape (2, 2)"),
        (tables.nothing, "partner my:script: given None, want actions of shape (2, 2)"),
        (tables.floats, "partner my:script: given torch.float32, want integers: actions"),
        (tables.too_high, "partner my:script: environment 0, agent 0: given action 7, want one of 0, 1"),
        (tables.negative, "partner my:script: environment 0, agent 0: given action -1, want one of 0, 1"),
        (tables.illegal, "partner my:script: environment 0, agent 0: given action 2, want one of 0, 1"),
        (lambda *_: SEEN.alive, "partner my:script: given torch.bool, want integers: actions"),
        (lambda *_: [[0, 1], [0, 2]], "given [[0, 1], [0, 2]], want actions of shape (2, 2)"),
    ],
)
def test_what_a_script_must_not_do(function: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        act(function)
    assert "\n" not in str(error.value)


def test_only_the_agents_that_it_acts_for_are_looked_at() -> None:
    """Not a partner's, nor one that has left, nor one without a legal action, as where an episode is over."""
    legal = LEGAL.clone()
    legal[0, 0] = False
    alive = torch.tensor([[True, False], [True, True]])
    learns = torch.tensor([[True, True], [False, True]])
    seats = Seats(learns, torch.where(learns, 0, 1), torch.full((2, 2), NO_ACTION))
    seen = one_frame(legal)._replace(alive=alive, seats=seats)
    actions = torch.tensor([[9, -4], [2, 4]])
    assert torch.equal(act(lambda *_: actions, seen), actions)
    with pytest.raises(ValueError, match="environment 1, agent 1: given action 3, want one of 2, 4"):
        act(lambda *_: torch.tensor([[9, -4], [2, 3]]), seen)


def test_small_integers_become_actions() -> None:
    given = act(lambda *_: torch.tensor([[0, 1], [3, 4]], dtype=torch.int16))
    assert given.dtype == torch.int64
    assert given.tolist() == [[0, 1], [3, 4]]


def test_its_state_is_its_generators() -> None:
    one = Scripted(lambda _, g: torch.rand(2, 2, generator=g).mul(0).long() + 1, torch.Generator())
    state = one.state_dict()
    first = torch.rand(3, generator=one.generator)
    other = Scripted(one.script, torch.Generator().manual_seed(9))
    other.load_state_dict(state)
    assert torch.equal(torch.rand(3, generator=other.generator), first)
    assert one.name == "<lambda>"
    assert one.schedule(5) == {}
