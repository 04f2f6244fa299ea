"""What counts as an image, and that its bytes stay bytes from the environment to the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from endmark.episodes import EpisodeBatch, EpisodeBuilder, EpisodeReplay, EpisodeSpec, SampleBuffer
from endmark.episodes.files import load_episodes, save_episodes
from endmark.episodes.images import image_layout
from support.helpers import assert_same_episodes, make_spec, random_batch

SPEC = make_spec(obs_shape=(9, 8, 3), obs_dtype=torch.uint8, state=False)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((84, 84, 3), "HWC"),
        ((84, 84, 1), "HWC"),
        ((457, 120, 3), "HWC"),
        ((8, 8, 7), "HWC"),
        ((13, 13, 5), "HWC"),
        ((4, 84, 84), "CHW"),
        ((1, 8, 200), "CHW"),
        ((3, 10, 12), "CHW"),
        ((8, 8, 8), None),  # which axis would be the channels?
        ((10, 9, 9), None),
        ((13, 13, 41), None),
        ((7, 7, 3), None),  # MiniGrid: object numbers
        ((3, 5, 5), None),
        ((84, 84), None),
        ((84, 84, 0), None),
        ((2, 84, 84, 3), None),
        ((5,), None),
        ((), None),
    ],
)
def test_what_is_an_image(shape: tuple[int, ...], layout: str | None) -> None:
    assert image_layout(shape) == layout


def test_a_spec_of_images() -> None:
    spec = EpisodeSpec.of(
        n_agents=2,
        n_actions=3,
        episode_limit=4,
        obs_shape=(8, 8, 3),
        obs_dtype=torch.uint8,
        state_shape=(3, 20, 20),
        state_dtype=torch.uint8,
    )
    assert (spec.fields["obs"].shape, spec.fields["obs"].dtype) == ((2, 8, 8, 3), torch.uint8)
    assert (spec.fields["state"].shape, spec.fields["state"].dtype) == ((3, 20, 20), torch.uint8)


def test_the_builder_and_the_replay_hold_bytes() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, *SPEC.fields["obs"].shape), np.uint8)
    others = {"avail_actions": np.ones((3, 4), bool), "alive": np.ones(3, bool)}
    builder = EpisodeBuilder(SPEC)
    builder.begin(obs=pictures[0], **others)
    for picture in pictures[1:]:
        builder.add({"actions": np.zeros(3, np.int64), "reward": 1.0}, obs=picture, **others)
    episode = builder.finish(terminated=True)
    replay, bare = EpisodeReplay(SPEC, 100), EpisodeReplay(make_spec(obs_shape=(0,), state=False), 100)
    replay.add(episode)
    assert replay.n_bytes - bare.n_bytes == 100 * 3 * 9 * 8 * 3
    for buffer in (None, SampleBuffer()):
        sample = replay.sample(1, torch.Generator(), buffer)
        assert sample.obs.dtype == torch.uint8
        assert torch.equal(sample.obs, torch.from_numpy(pictures))


def test_files_and_padded_tensors_hold_bytes(tmp_path: Path) -> None:
    batch = random_batch(0, spec=SPEC)
    save_episodes(batch, tmp_path / "episodes.safetensors")
    assert_same_episodes(load_episodes(tmp_path / "episodes.safetensors"), batch)
    padded = batch.to_padded()
    assert padded["obs"].dtype == torch.uint8
    for spec in (None, SPEC):
        back = EpisodeBatch.from_padded(padded, spec)
        assert back.spec.fields["obs"] == SPEC.fields["obs"]
        assert torch.equal(back.obs, batch.obs)


def test_bytes_that_are_no_image_are_read_as_numbers() -> None:
    batch = random_batch(0, spec=make_spec(obs_dtype=torch.uint8))
    assert EpisodeBatch.from_padded(batch.to_padded()).obs.dtype == torch.float32


def test_the_state_that_is_made_of_images_holds_bytes() -> None:
    batch = random_batch(0, n_episodes=8, spec=SPEC)
    assert not batch.alive.all()
    want = torch.where(batch.alive[..., None], batch.obs.flatten(2).long(), 0).flatten(1)
    assert batch.state.dtype == torch.uint8
    assert torch.equal(batch.state.long(), want)
