"""The attention agent beside its equations, its memory, and what it may read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from endmark.episodes import NO_ACTION, EpisodeBatch
from endmark.nets import Actor, AttentionAgent, AttentionOptions, Inputs
from endmark.policies.memory import renew_
from support.actors import make_actor, randomise
from support.attention_naive import attention_naive
from support.helpers import make_batch, make_spec, random_batch

SPEC = make_spec(obs_dtype=torch.float64)
sizes = pytest.mark.parametrize(
    "options", [AttentionOptions(2, 2, 3), AttentionOptions(4, 1, 100), AttentionOptions(1, 3, 1)], ids=str
)


def make(options: AttentionOptions = AttentionOptions(2, 2, 3), **other: Any) -> AttentionAgent:
    actor = make_actor(SPEC, kind="attention", attention=options, dtype=torch.float64, **other)
    return cast(AttentionAgent, actor.agent)


def inputs_of(episode: EpisodeBatch) -> list[Tensor]:
    """What the first layer reads at each frame, one-hot inputs written out, [N, I]."""
    inputs = []
    for t in range(episode.n_frames):
        last = torch.zeros(3, 4, dtype=torch.float64)
        if t > 0:
            last[range(3), episode["actions"][t - 1]] = 1
        inputs.append(torch.cat([episode.obs[t], last, torch.eye(3, dtype=torch.float64)], 1))
    return inputs


@sizes
@pytest.mark.parametrize("seed", range(3))
def test_it_is_its_equations_in_value_and_gradient(seed: int, options: AttentionOptions) -> None:
    agent, batch = make(options, seed=seed), random_batch(seed, n_episodes=6, spec=SPEC)
    given = agent.features(batch)
    want = torch.cat([torch.stack(attention_naive(agent, inputs_of(episode))) for episode in batch.split()])
    torch.testing.assert_close(given, want, rtol=1e-10, atol=1e-10)
    direction = torch.randn(given.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    names, parameters = zip(*agent.named_parameters(), strict=True)
    slopes = [torch.autograd.grad(out, parameters, direction) for out in (given, want)]
    for name, one, other in zip(names, *slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=name)


def test_gradients_of_acting_are_those_of_the_batch() -> None:
    """Frame by frame, where gradients are recorded, nothing is written over that the backward pass reads."""
    agent, batch = make(), make_batch(SPEC, [6], [True])
    memory, outs = agent.start(1), []
    for t in range(7):
        out, memory = agent.advance(batch.obs[t : t + 1], batch.last_actions[t : t + 1], memory)
        outs.append(out)
    parameters = list(agent.parameters())
    whole = agent.features(batch)
    torch.testing.assert_close(torch.cat(outs), whole, rtol=1e-10, atol=1e-10)
    slopes = [torch.autograd.grad(x.square().sum(), parameters) for x in (torch.cat(outs), whole)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def test_an_episode_is_nothing_to_the_others() -> None:
    """No slope of one episode's features by another's observations; and NaN in one stays in it."""
    agent = make()
    batch = make_batch(SPEC, [5, 3, 5, 6], [True, False, True, False])
    first = batch.first_frames.tolist()
    for e, episode in enumerate(batch.split()):
        own = torch.zeros(batch.n_frames, dtype=torch.bool)
        own[first[e] : first[e] + episode.n_frames] = True
        obs = batch.obs.clone().requires_grad_()
        features = agent.unroll(obs, batch.last_actions, batch.time_major)
        (slope,) = torch.autograd.grad(features[own].square().sum(), obs)
        assert (slope[~own] == 0).all()
        assert (slope[own] != 0).any()
        poisoned = torch.where(own[:, None, None], torch.nan, batch.obs)
        other = agent.unroll(poisoned, batch.last_actions, batch.time_major)
        assert other[own].isnan().all()
        assert torch.equal(other[~own], features[~own])


@sizes
def test_how_far_a_frame_sees(options: AttentionOptions) -> None:
    """A layer reads `window` frames, itself among them; each further layer adds all but one of them."""
    agent = make(options)
    batch = make_batch(SPEC, [7, 7], [True, True])
    obs = batch.obs.clone().requires_grad_()
    features = agent.unroll(obs, torch.full_like(batch.last_actions, NO_ACTION), batch.time_major)
    reach = (options.window - 1) * options.layers
    for t in range(8):
        (slope,) = torch.autograd.grad(features[8 + t].square().sum(), obs, retain_graph=True)
        read = (slope != 0).any(-1).any(-1).nonzero()[:, 0].tolist()
        assert read == list(range(8 + max(0, t - reach), 8 + t + 1))


def test_agents_do_not_read_one_another() -> None:
    agent, batch = make(), make_batch(SPEC, [4, 2], [True, True])
    obs = batch.obs.clone().requires_grad_()
    features = agent.unroll(obs, batch.last_actions, batch.time_major)
    for n in range(3):
        (slope,) = torch.autograd.grad(features[:, n].square().sum(), obs, retain_graph=True)
        others = [m for m in range(3) if m != n]
        assert (slope[:, others] == 0).all()
        assert (slope[:, n] != 0).any()


def test_memory_at_the_start_and_after() -> None:
    agent = make(AttentionOptions(2, 2, 3))
    memory = agent.start(4)
    names = ("keys.0", "values.0", "keys.1", "values.1")
    assert {name: (tuple(t.shape), t.dtype) for name, t in memory.items()} == {
        **dict.fromkeys(names, ((4, 3, 2, 3, 8), torch.float64)),
        "time": ((4, 3), torch.int64),
    }
    assert all((tensor == 0).all() for tensor in memory.values())
    batch = make_batch(SPEC, [5] * 4, [True] * 4)
    with torch.no_grad():
        _, after = agent.advance(batch.obs[:4], batch.last_actions[:4], memory)
    assert (after["time"] == 1).all()
    assert (memory["time"] == 0).all()
    for name in names:
        assert after[name].data_ptr() == memory[name].data_ptr()  # no copy
        assert (after[name][:, :, :, 0] != 0).all()
        assert (after[name][:, :, :, 1:] == 0).all()


def test_the_same_frame_twice_from_one_memory_is_the_same() -> None:
    """What `step` writes over is what no frame from there on reads."""
    agent, batch = make(AttentionOptions(2, 2, 3)), make_batch(SPEC, [7], [True])
    memory = agent.start(1)
    with torch.no_grad():
        for t in range(8):
            frame = batch.obs[t : t + 1], batch.last_actions[t : t + 1]
            agent.advance(frame[0] + 1, frame[1], memory)
            first, after = agent.advance(*frame, memory)
            again, after = agent.advance(*frame, memory)
            assert torch.equal(first, again)
            memory = after
        torch.testing.assert_close(first[0], agent.features(batch)[7], rtol=1e-10, atol=1e-10)


def test_a_row_starts_anew_and_the_others_go_on() -> None:
    agent, batch = make(AttentionOptions(2, 2, 3)), make_batch(SPEC, [7], [True])
    start, memory = agent.start(2), agent.start(2)
    want = agent.features(batch)
    with torch.no_grad():
        for t in range(12):
            # Row 0 plays the episode from t = 0, row 1 from t = 4.
            at = [min(t, 7), t - 4 if t >= 4 else t]
            renew_(memory, start, torch.tensor([t == 0, t in (0, 4)]))
            out, memory = agent.advance(batch.obs[at], batch.last_actions[at], memory)
            if t <= 7:
                torch.testing.assert_close(out[0], want[at[0]], rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(out[1], want[at[1]], rtol=1e-10, atol=1e-10)
            if t == 4:  # nothing of the last episode is left
                assert (memory["keys.0"][1, :, :, 1:] == 0).all()
                assert (memory["values.1"][1, :, :, 1:] == 0).all()


def test_the_window_is_no_longer_than_an_episode() -> None:
    spec = make_spec(limit=7)
    actor = Actor.of(spec, n_outputs=4, hidden_size=16, kind="attention")
    assert cast(AttentionAgent, actor.agent).options == AttentionOptions(4, 2, 8)
    long = replace(spec, episode_limit=1000)
    actor = Actor.of(long, n_outputs=4, hidden_size=16, kind="attention")
    assert cast(AttentionAgent, actor.agent).options == AttentionOptions()


def test_a_width_that_heads_cannot_share() -> None:
    inputs = Inputs.of(SPEC, last_action=True, agent_id=True)
    with pytest.raises(ValueError, match=r"^hidden_size: given 12, want a multiple of 8, twice the heads$"):
        AttentionAgent(inputs, 12, AttentionOptions(heads=4))


def test_float32_frame_by_frame() -> None:
    spec = make_spec(limit=60)
    agent = cast(AttentionAgent, Actor.of(spec, n_outputs=4, hidden_size=64, kind="attention").agent)
    randomise(agent, scale=0.2)
    batch = make_batch(spec, [60], [True])
    memory, outs = agent.start(1), []
    with torch.inference_mode():
        for t in range(61):
            out, memory = agent.advance(batch.obs[t : t + 1], batch.last_actions[t : t + 1], memory)
            outs.append(out)
        torch.testing.assert_close(torch.cat(outs), agent.features(batch), rtol=1e-5, atol=1e-5)
