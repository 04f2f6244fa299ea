"""An episode scene by scene is the episode that a rollout plays."""

from __future__ import annotations

import pytest
import torch

from endmark.algorithms import IPPOConfig, PPOLearner, QLearner, QMIXConfig
from endmark.envs import EnvError
from endmark.rollout import InProcess, episode_returns, play, scenes
from support.pictured import SIZE, Blind, Fails, Floats, Nothing, Pictured

SEEDS = [4, 7, 3]


@pytest.mark.parametrize("config", [QMIXConfig(hidden_size=8), IPPOConfig(hidden_size=8)])
def test_scenes_are_the_frames_of_the_batch_and_outputs_those_of_the_actor(
    config: QMIXConfig | IPPOConfig,
) -> None:
    learner = config.learner(Pictured().spec, torch.device("cpu"))
    batch = play(InProcess([Pictured(), Pictured()]), learner.greedy_policy(2), SEEDS)
    assert isinstance(learner, QLearner | PPOLearner)
    with torch.no_grad():
        outputs = learner.actor(batch)
    env, policy = Pictured(), learner.greedy_policy(1)
    taken = batch.steps("actions")
    frame = step = 0
    for e, seed in enumerate(SEEDS):
        episode = list(scenes(env, policy, seed, learner.actor))
        length = int(batch.lengths[e])
        assert [scene.t for scene in episode] == list(range(length + 1))
        assert [scene.end for scene in episode[:-1]] == [None] * length
        assert episode[-1].end == ("terminated" if batch.terminated[e] else "truncated")
        assert episode[-1].total == pytest.approx(episode_returns(batch)[e])
        assert episode[-1].actions is None
        assert episode[-1].outputs is None
        for scene in episode:
            assert scene.picture.shape == (*SIZE, 3)
            assert (scene.picture == 20 * scene.t).all()
            assert scene.alive.tolist() == batch.alive[frame].tolist()
            assert scene.avail_actions is not None
            assert scene.avail_actions.tolist() == batch.avail_actions[frame].tolist()
            if scene.actions is not None:
                assert scene.outputs is not None
                torch.testing.assert_close(torch.from_numpy(scene.outputs), outputs[frame])
                assert scene.actions.tolist() == taken[step].tolist()
                step += 1
            frame += 1
    assert (frame, step) == (len(batch.alive), len(taken))


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (Blind(), r"seed 7, frame 0: draws no pictures: it has no method render\(\)"),
        (Nothing(), r"seed 7, frame 0: render\(\): given None, want a picture \[H, W, 3\] uint8"),
        (Floats(), r"seed 7, frame 0: render\(\): given float64 of shape \(24, 36, 3\), want a picture"),
        (Fails(), r"seed 7, frame 0: OSError: no paint \("),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_environment_without_a_sound_picture(env: Pictured, says: str) -> None:
    learner = QMIXConfig(hidden_size=8).learner(env.spec, torch.device("cpu"))
    with pytest.raises(EnvError, match=says):
        list(scenes(env, learner.greedy_policy(1), 7))
