"""The T-maze: what it shows and pays, and that without memory nobody gets more than a quarter."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from endmark.algorithms import IPPOConfig
from endmark.envs import EnvError, Frame, check, make
from endmark.envs.t_maze import LEFT, RIGHT, TMaze
from endmark.rollout import InProcess, play, summarise

WALK = np.array([0, 0])


def walk(env: TMaze, seed: int) -> tuple[list[np.ndarray], int]:
    """All observations up to the junction, and the number of steps of the episode."""
    seen = [env.reset(seed).obs]
    while seen[-1][0, 3] == 0:
        step = env.step(WALK)
        assert step.end is None
        assert step.reward == 0
        seen.append(step.frame.obs)
    return seen, len(seen)


def legal_at(frame: Frame) -> npt.NDArray[np.bool_]:
    assert frame.avail_actions is not None
    return frame.avail_actions


def test_it_keeps_to_the_contract() -> None:
    report = check(partial(make, "memory:t-maze", shortest=2, longest=6), episodes=30)
    assert 2 <= report.mean_length <= 6
    assert report.terminated == 30


def test_what_is_seen_and_what_is_paid() -> None:
    env, lengths, cues = TMaze(3, 5), Counter[int](), Counter[tuple[int, ...]]()
    for seed in range(200):
        seen, steps = walk(env, seed)
        cue = tuple((LEFT + seen[0].argmax(1)).tolist())
        lengths[steps] += 1
        cues[cue] += 1
        assert (seen[0].sum(1) == 1).all()
        assert (seen[0][:, 2:] == 0).all()
        for obs in seen[1:-1]:
            assert (obs == [0, 0, 1, 0]).all()
        answer = np.array([[LEFT, LEFT], [LEFT, RIGHT], [RIGHT, LEFT], [RIGHT, RIGHT]][seed % 4])
        last = env.step(answer)
        assert last.end == "terminated"
        assert last.reward == (tuple(answer.tolist()) == cue)
        assert not last.frame.obs.any()
    assert lengths.keys() == {3, 4, 5}
    assert len(cues) == 4
    assert min(*lengths.values(), *cues.values()) > 30


def test_an_agent_without_memory_gets_a_quarter_by_construction() -> None:
    """At the junction it sees the same, may do the same, and did the same before, whatever its cue was.

    So it answers the same in every episode, or by chance; the cues are independent and fair.
    """
    env, at_the_answer, paid = TMaze(), set(), Counter[tuple[int, ...]]()
    for seed in range(400):
        frame, last = env.reset(seed), None
        cue = tuple((LEFT + frame.obs.argmax(1)).tolist())
        while not (legal := legal_at(frame))[0, LEFT]:
            assert (legal == [True, False, False]).all()  # no action keeps the cue
            frame, last = env.step(WALK).frame, WALK
        paid[cue] += 1
        assert (legal == [False, True, True]).all()
        assert last is not None
        at_the_answer.add((frame.obs.tobytes(), legal.tobytes(), last.tobytes()))
    assert len(at_the_answer) == 1
    assert max(paid.values()) / 400 < 0.33


@pytest.mark.parametrize("last_action", [True, False])
def test_so_a_feed_forward_policy_answers_alike_everywhere(last_action: bool) -> None:
    """Any weights: its greedy returns over 200 episodes are those of one fixed answer."""
    envs = InProcess([TMaze() for _ in range(4)])
    torch.manual_seed(3)
    config = IPPOConfig(agent="feedforward", hidden_size=8, last_action=last_action)
    policy = config.learner(TMaze().spec, torch.device("cpu")).greedy_policy(4)
    batch = play(envs, policy, range(200))
    answers = batch["actions"][batch.final_frames - 1]
    assert len({tuple(answer) for answer in answers.tolist()}) == 1
    assert summarise(batch).return_mean < 0.35


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shortest": 1}, r"shortest: given 1, want an integer from 2 to 1000"),
        ({"longest": 2.5}, r"longest: given 2\.5, want an integer from 2 to 1000"),
        ({"longest": True}, r"longest: given True, want an integer"),
        ({"shortest": 9, "longest": 8}, r"shortest: given 9, want at most 8, the longest"),
        ({"width": 3}, "width"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvError, match=message):
        make("memory:t-maze", **arguments)


def test_an_unknown_name() -> None:
    with pytest.raises(EnvError, match=r"unknown environment 'memory:maze': did you mean memory:t-maze\?"):
        make("memory:maze")
