"""Batches in the forms of other code bases."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.audit import Case, PyMARLBatch, audit_learner, nested_fields, pymarl_batch, with_nested_fields
from endmark.audit.layout import view_of
from endmark.audit.run import missing_cases
from endmark.episodes import step_mask
from support.learners import Learner, call

SIZES: dict[str, Any] = {"n_agents": 2, "n_actions": 3, "obs_size": 4, "state_size": 5, "episode_limit": 6}


def test_shapes_and_types_are_those_of_pymarl() -> None:
    batch = pymarl_batch(**SIZES)
    want: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "obs": ((7, 7, 2, 4), torch.float32),
        "state": ((7, 7, 5), torch.float32),
        "actions": ((7, 7, 2, 1), torch.int64),
        "actions_onehot": ((7, 7, 2, 3), torch.float32),
        "avail_actions": ((7, 7, 2, 3), torch.int32),
        "reward": ((7, 7, 1), torch.float32),
        "terminated": ((7, 7, 1), torch.uint8),
        "filled": ((7, 7, 1), torch.int64),
    }
    assert {name: (tuple(x.shape), x.dtype) for name, x in batch.data.transition_data.items()} == want
    assert (batch.batch_size, batch.max_seq_length, batch.device) == (7, 7, torch.device("cpu"))
    filled = batch["filled"][..., 0] == 1
    assert torch.equal(batch["actions_onehot"][filled].argmax(-1), batch["actions"][filled][..., 0])
    assert not batch["actions_onehot"][~filled].any()
    steps = step_mask(batch["filled"], batch["terminated"])[..., 0]
    assert batch["avail_actions"][:, :-1][steps].gather(2, batch["actions"][:, :-1][steps]).all()
    assert int(batch.max_t_filled()) == 7
    assert pymarl_batch(**SIZES, reward_per_agent=True)["reward"].shape == (7, 7, 2)


def test_slices_are_those_of_pymarl() -> None:
    batch = pymarl_batch(**SIZES)
    part = batch[2:5, :-1]
    assert isinstance(part, PyMARLBatch)
    assert (part.batch_size, part.max_seq_length) == (3, 6)
    assert torch.equal(part["obs"], batch["obs"][2:5, :-1])
    assert batch[3]["obs"].shape == (1, 7, 2, 4)  # an integer is a slice of one
    assert batch[:, 2]["obs"].shape == (7, 1, 2, 4)
    assert batch[[0, 4]].batch_size == 2
    assert {*batch["obs", "reward"].data.transition_data} == {"filled", "obs", "reward"}
    batch.to("cpu")
    assert batch.device == torch.device("cpu")


def test_every_case_is_in_it() -> None:
    view = view_of(Case(lambda _: torch.zeros(()), pymarl_batch(**SIZES).data.transition_data))
    assert missing_cases(view) == ()


@pytest.mark.parametrize(("leak", "clean"), [("", True), ("gradient", False)])
def test_a_learner_of_pymarls_kind(leak: str, clean: bool) -> None:
    report = audit_learner(Learner(leak), pymarl_batch(**SIZES), call, quick=True)
    assert (report.leaks == ()) == clean
    assert report.left_alone == ()


class Dict:
    """As TensorDict: items, and a batch size that its maker says."""

    def __init__(self, parts: dict[str, Any], batch_size: Any) -> None:
        self.parts, self.batch_size = parts, batch_size

    def items(self) -> Any:
        return self.parts.items()


@pytest.mark.parametrize("kind", [dict, partial(Dict, batch_size=torch.Size([2, 3]))])
def test_nested_tensors(kind: Any) -> None:
    batch = kind({"obs": torch.arange(6.0).view(2, 3), "next": kind({"obs": torch.ones(2, 3)}), "name": "x"})
    fields = nested_fields(batch)
    assert {*fields} == {"obs", "next.obs", "name"}
    tensors: dict[str, Tensor] = {n: x[:, :2] + 1 for n, x in fields.items() if isinstance(x, Tensor)}
    other = with_nested_fields(batch, tensors)
    assert type(other) is type(batch)
    again = nested_fields(other)
    assert torch.equal(again["next.obs"], torch.full((2, 2), 2.0))
    assert torch.equal(again["obs"], tensors["obs"])
    assert again["name"] == "x"
    assert nested_fields(batch)["obs"].shape == (2, 3)
    assert isinstance(other, dict) or other.batch_size == (2, 2)
