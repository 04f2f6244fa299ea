from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

from endmark.episodes import EpisodeBatch, EpisodeBuilder
from endmark.episodes.spec import OUTCOME
from support.helpers import assert_same_episodes, batches, make_batch, make_spec

Values = dict[str, Any]


def frame_of(episode: EpisodeBatch, t: int) -> Values:
    return {name: episode[name][t].numpy() for name in episode.spec.frame_fields}


def step_of(episode: EpisodeBatch, t: int) -> Values:
    return {name: episode[name][t].numpy() for name in episode.spec.step_fields}


def build(builder: EpisodeBuilder, episode: EpisodeBatch) -> EpisodeBatch:
    builder.begin(**frame_of(episode, 0))
    for t in range(episode.n_steps):
        builder.add(step_of(episode, t), **frame_of(episode, t + 1))
    outcomes = {name: float(episode.outcome(name)) for name in episode.spec.outcomes}
    return builder.finish(terminated=bool(episode.terminated), outcomes=outcomes)


@given(batches(vectors=None))
def test_what_goes_in_comes_out(batch: EpisodeBatch) -> None:
    """One builder for all episodes, long after short and short after long."""
    builder = EpisodeBuilder(batch.spec)
    built = [build(builder, episode) for episode in batch.split()]
    assert_same_episodes(EpisodeBatch.cat(built), batch)
    for episode in built:
        for name in batch.spec.step_fields:
            assert (episode[name][-1] == 0).all()  # not the step of an earlier, longer episode
        for name in batch.spec.outcomes:
            assert episode[name].count_nonzero() <= 1


def test_plain_numbers_and_lists_will_do() -> None:
    spec = make_spec(n_agents=1, n_actions=2, state=False)
    builder = EpisodeBuilder(spec)
    frame: Values = {"obs": [[1, 2, 3, 4, 5]], "avail_actions": [[True, False]], "alive": [True]}
    builder.begin(**frame)
    builder.add({"actions": [0], "reward": 1}, **frame)
    episode = builder.finish(terminated=True)
    assert episode["reward"][0] == 1
    assert episode.obs.dtype == torch.float32
    assert episode.obs[1, 0].tolist() == [1, 2, 3, 4, 5]
    assert episode.terminated.all()


def test_an_episode_owns_its_tensors() -> None:
    long, short = make_batch(make_spec(), [6, 2], [True, False]).split()
    builder = EpisodeBuilder(long.spec)
    first = build(builder, long)
    build(builder, short)
    assert_same_episodes(first, long)
    first.obs.fill_(7)
    assert_same_episodes(build(builder, short), short)


def test_begin_drops_a_running_episode() -> None:
    dropped, kept = make_batch(make_spec(), [5, 3], [True, True]).split()
    builder = EpisodeBuilder(kept.spec)
    builder.begin(**frame_of(dropped, 0))
    for t in range(4):
        builder.add(step_of(dropped, t), **frame_of(dropped, t + 1))
    assert builder.length == 4
    assert_same_episodes(build(builder, kept), kept)


def test_order_of_calls() -> None:
    episode = make_batch(make_spec(), [3], [True])
    builder = EpisodeBuilder(episode.spec)
    with pytest.raises(RuntimeError, match="add: no episode is running; call begin first"):
        builder.add(step_of(episode, 0), **frame_of(episode, 1))
    with pytest.raises(RuntimeError, match="finish: no episode with a step is running"):
        builder.finish(terminated=True)
    builder.begin(**frame_of(episode, 0))
    with pytest.raises(RuntimeError, match="finish: no episode with a step is running"):
        builder.finish(terminated=True)
    builder.add(step_of(episode, 0), **frame_of(episode, 1))
    builder.finish(terminated=True)
    with pytest.raises(RuntimeError, match="finish"):
        builder.finish(terminated=True)
    with pytest.raises(RuntimeError, match="add: no episode is running"):
        builder.add(step_of(episode, 1), **frame_of(episode, 2))


def test_no_step_after_the_limit() -> None:
    episode = make_batch(make_spec(limit=3), [3], [False])
    builder = EpisodeBuilder(episode.spec)
    builder.begin(**frame_of(episode, 0))
    for t in range(3):
        builder.add(step_of(episode, t), **frame_of(episode, t + 1))
    with pytest.raises(ValueError, match="add: step 3: want at most 3 steps an episode"):
        builder.add(step_of(episode, 0), **frame_of(episode, 1))
    assert_same_episodes(builder.finish(terminated=False), episode)


@pytest.mark.parametrize("name", ["obs", "state", "avail_actions", "alive"])
def test_a_frame_field_missing_or_of_wrong_shape(name: str) -> None:
    episode = make_batch(make_spec(), [3], [True])
    frame = frame_of(episode, 0)
    wrong: list[tuple[Values, str]] = [
        ({k: v for k, v in frame.items() if k != name}, "given nothing"),
        (frame | {name: None}, "given nothing"),
        (frame | {name: frame[name][None]}, r"given shape \(1, "),
        (frame | {name: frame[name][:-1]}, r"given shape \("),
    ]
    builder = EpisodeBuilder(episode.spec)
    for given_, said in wrong:
        with pytest.raises(ValueError, match=rf"field '{name}', frame 0: {said}.*, want shape"):
            builder.begin(**given_)
        with pytest.raises(RuntimeError, match="no episode is running"):  # it did not begin
            builder.add(step_of(episode, 0), **frame)
        builder.begin(**frame)
        with pytest.raises(ValueError, match=rf"field '{name}', frame 1: {said}.*, want shape"):
            builder.add(step_of(episode, 0), **given_)
        assert builder.length == 0


@pytest.mark.parametrize("name", ["actions", "reward"])
def test_a_step_field_missing_or_of_wrong_shape(name: str) -> None:
    episode = make_batch(make_spec(), [3], [True])
    builder = EpisodeBuilder(episode.spec)
    builder.begin(**frame_of(episode, 0))
    step = step_of(episode, 0)
    with pytest.raises(ValueError, match=f"field '{name}', frame 0: given nothing"):
        builder.add({k: v for k, v in step.items() if k != name}, **frame_of(episode, 1))
    with pytest.raises(ValueError, match=rf"field '{name}', frame 0: given shape \(1,.*\), want shape"):
        builder.add(step | {name: step[name][None]}, **frame_of(episode, 1))
    builder.add(step, **frame_of(episode, 1))
    assert builder.length == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("actions", [0, 4, 0], "field 'actions': episode 0, step 0, agent 1: given 4"),
        ("reward", float("nan"), "field 'reward': episode 0, step 0: given nan"),
    ],
)
def test_finish_validates(name: str, value: object, message: str) -> None:
    episode = make_batch(make_spec(), [1], [True])
    builder = EpisodeBuilder(episode.spec)
    builder.begin(**frame_of(episode, 0))
    builder.add(step_of(episode, 0) | {name: value}, **frame_of(episode, 1))
    with pytest.raises(ValueError, match=message):
        builder.finish(terminated=True)


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ({}, "outcomes: given none, want draw, win, as in the spec"),
        ({"win": 1.0}, "outcomes: given win, want draw, win, as in the spec"),
        (
            {"win": 1.0, "draw": 0.0, "loss": 0.0},
            "outcomes: given draw, loss, win, want draw, win, as in the spec",
        ),
        ({"win": float("nan"), "draw": 0.0}, "field 'win': episode 0: given nan, want a finite number"),
    ],
)
def test_an_episode_has_the_outcomes_of_its_spec(outcomes: dict[str, float], message: str) -> None:
    episode = make_batch(make_spec(), [2], [True])
    builder = EpisodeBuilder(episode.spec.extend(win=OUTCOME, draw=OUTCOME))
    builder.begin(**frame_of(episode, 0))
    for t in range(2):
        builder.add(step_of(episode, t), **frame_of(episode, t + 1))
    with pytest.raises(ValueError, match=f"^{message}$"):
        builder.finish(terminated=True, outcomes=outcomes)


def test_a_field_that_the_spec_lacks_is_refused() -> None:
    """It used to be dropped without a word. None is nothing, as a frame without a state has it."""
    episode = make_batch(make_spec(state=False), [2], [True])
    builder, frame, step = EpisodeBuilder(episode.spec), frame_of(episode, 0), step_of(episode, 0)
    known = "which has alive, avail_actions, obs$"
    with pytest.raises(ValueError, match=rf"^field 'state', frame 0: not a frame field of the spec, {known}"):
        builder.begin(**frame, state=np.zeros(4))
    with pytest.raises(RuntimeError, match="no episode is running"):  # it did not begin
        builder.add(step, **frame)
    builder.begin(**frame, state=None)
    known = "which has actions, reward$"
    with pytest.raises(ValueError, match=rf"^field 'log_prob', frame 0: not a step field .*, {known}"):
        builder.add(step | {"log_prob": np.zeros(3)}, **frame)
    with pytest.raises(ValueError, match=r"^field 'goal', frame 1: not a frame field of the spec"):
        builder.add(step, **frame, goal=np.zeros(2))
    assert builder.length == 0
    builder.add(step, **frame, goal=None)
    assert builder.length == 1


def test_a_field_in_the_place_of_another_is_refused() -> None:
    """As many as there should be, and one of them is not."""
    episode = make_batch(make_spec(), [1], [True])
    builder, frame, step = EpisodeBuilder(episode.spec), frame_of(episode, 0), step_of(episode, 0)
    with pytest.raises(ValueError, match="field 'state', frame 0: given nothing"):
        builder.begin(**{name: value for name, value in frame.items() if name != "state"}, goal=np.zeros(2))
    builder.begin(**frame)
    with pytest.raises(ValueError, match="field 'reward', frame 0: given nothing"):
        builder.add({"actions": step["actions"], "rewards": step["reward"]}, **frame)


def test_a_step_field_is_no_frame_field() -> None:
    episode = make_batch(make_spec(), [1], [True])
    builder, frame, step = EpisodeBuilder(episode.spec), frame_of(episode, 0), step_of(episode, 0)
    with pytest.raises(ValueError, match="field 'actions', frame 0: not a frame field"):
        builder.begin(**frame, actions=step["actions"])
    builder.begin(**frame)
    with pytest.raises(ValueError, match="field 'obs', frame 0: not a step field"):
        builder.add(step | {"obs": frame["obs"]}, **frame)


def test_steps_so_far() -> None:
    episode = make_batch(make_spec(), [4], [True])
    builder = EpisodeBuilder(episode.spec)
    assert builder.steps(["actions"])["actions"].shape == (0, 3)
    builder.begin(**frame_of(episode, 0))
    for t in range(3):
        builder.add(step_of(episode, t), **frame_of(episode, t + 1))
    so_far = builder.steps(["actions", "reward"])
    builder.add(step_of(episode, 3), **frame_of(episode, 4))
    for name, steps in so_far.items():
        assert torch.equal(torch.from_numpy(steps), episode[name][:3])
    builder.finish(terminated=True)
    assert builder.steps(["actions"])["actions"].shape == (0, 3)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("obs", [[1, 2, 3, 4, 5], [1, 2]], "given list: "),
        ("obs", [["a"] * 5] * 2, "given list: could not convert"),
        ("obs", [[{}] * 5] * 2, "given list: "),
        ("obs", [[1, 2, 3, 4, 5]], "given shape (1, 5)"),
    ],
)
def test_a_value_that_cannot_be_stored_is_said_with_its_place(field: str, value: Any, words: str) -> None:
    spec = make_spec(n_agents=2, n_actions=2, state=False)
    builder = EpisodeBuilder(spec)
    frame: Values = {"obs": np.zeros((2, 5)), "avail_actions": np.ones((2, 2), bool), "alive": [True, True]}
    builder.begin(**frame)
    with pytest.raises(ValueError, match=rf"^field '{field}', frame 1: {re.escape(words)}.*want shape"):
        builder.add({"actions": [0, 0], "reward": 1}, **(frame | {field: value}))
    with pytest.raises(ValueError, match=r"^field 'reward', frame 0: given str: .*want shape \(\)"):
        builder.add({"actions": [0, 0], "reward": "much"}, **frame)
