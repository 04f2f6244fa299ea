"""What a policy gives beside actions is stored, if the learner's spec names it, and refused if not."""

from __future__ import annotations

from contextlib import closing

import pytest
import torch
from torch import Tensor

from endmark.episodes import EpisodeBatch, EpisodeSpec, Field, Seen
from endmark.rollout import InProcess, Lockstep, VectorEnv, Workers
from support.helpers import assert_same_episodes
from support.scripted import ByObservation, Scripted

ENV = Scripted().spec
LEARNER = ENV.extend(log_prob=Field((2,), torch.float32, per="step"), turn=Field((), torch.int64, per="step"))


class GivesMore(ByObservation):
    """Numbers that tell the step that they belong to."""

    def act(self, seen: Seen) -> dict[str, Tensor]:
        return {**super().act(seen), "log_prob": seen.obs.sum(-1), "turn": seen.obs[:, 0, 0].long()}


class Gives(ByObservation):
    """Actions and these fields."""

    def __init__(self, **fields: Tensor) -> None:
        super().__init__()
        self.fields = fields

    def act(self, seen: Seen) -> dict[str, Tensor]:
        return {**super().act(seen), **self.fields}


def collect(envs: VectorEnv, spec: EpisodeSpec) -> EpisodeBatch:
    rollout, policy = Lockstep(envs, range(3, 30), spec), GivesMore()
    episodes = []
    while rollout.running:
        episodes.append(rollout.collect(policy))
    return EpisodeBatch.cat(episodes)


def test_further_fields_are_stored_with_their_steps() -> None:
    batch = collect(InProcess([Scripted() for _ in range(4)]), LEARNER)
    assert batch.spec == LEARNER
    assert torch.equal(batch.steps("log_prob"), batch.steps("obs").sum(-1))
    assert torch.equal(batch.steps("turn"), batch.steps("obs")[:, 0, 0].long())
    assert (batch["log_prob"][batch.final_frames] == 0).all()


def test_a_learners_spec_may_have_more_fields_than_the_workers_environments() -> None:
    """Workers once held their environments to the learner's spec, and failed three times."""
    here = collect(InProcess([Scripted() for _ in range(4)]), LEARNER)
    with closing(Workers(Scripted, ENV, workers=2, envs_per_worker=2)) as envs:
        assert_same_episodes(collect(envs, LEARNER), here)


LOG_PROB, TURN = torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("fields", "spec", "said"),
    [
        ({}, LEARNER, "Gives.act: gave no 'log_prob', want actions, log_prob, turn"),
        ({"log_prob": LOG_PROB}, LEARNER, "Gives.act: gave no 'turn', want actions, log_prob, turn"),
        (
            {"log_prob": LOG_PROB, "turns": TURN},  # as many as there should be
            LEARNER,
            "Gives.act: gave no 'turn', want actions, log_prob, turn",
        ),
        (
            {"log_prob": LOG_PROB, "turn": TURN, "value": LOG_PROB},
            LEARNER,
            "Gives.act: gave 'value', which is not in the learner's spec, want actions, log_prob, turn",
        ),
        (
            {"log_prob": LOG_PROB},
            None,
            "Gives.act: gave 'log_prob', which is not in the learner's spec, want actions",
        ),
        # What the environment gives is not the policy's to give.
        (
            {"reward": TURN},
            None,
            "Gives.act: gave 'reward', which is not in the learner's spec, want actions",
        ),
    ],
)
def test_a_policy_that_forgets_a_field_or_adds_one_is_refused(
    fields: dict[str, Tensor], spec: EpisodeSpec | None, said: str
) -> None:
    rollout = Lockstep(InProcess([Scripted() for _ in range(2)]), range(9), spec)
    with pytest.raises(ValueError) as error:
        rollout.collect(Gives(**fields))
    assert str(error.value) == said


def test_a_field_of_another_shape_is_refused() -> None:
    rollout = Lockstep(InProcess([Scripted() for _ in range(2)]), range(9), LEARNER)
    with pytest.raises(ValueError, match=r"Gives.act: 'log_prob': given shape \(2, 1\), want \(2, 2\)"):
        rollout.collect(Gives(log_prob=torch.zeros(2, 1), turn=TURN))
