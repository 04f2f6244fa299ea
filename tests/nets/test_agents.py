"""Agents of every kind: what they act by is what they are trained on, and nothing else gets in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from endmark.episodes import NO_ACTION, EpisodeBatch, EpisodeSpec, Seen
from endmark.nets import Actor, Agent, AgentKind, Head, Inputs, RecurrentAgent, Share
from support.actors import KINDS, SHARES, every_actor, every_kind, make_actor
from support.helpers import batches, make_batch, make_spec, random_batch, with_garbage

SPEC = make_spec(obs_dtype=torch.float64, kinds=KINDS)
options = pytest.mark.parametrize(
    ("last_action", "agent_id"), [(True, True), (True, False), (False, True), (False, False)]
)


def make(spec: EpisodeSpec = SPEC, **options: Any) -> Actor:
    return make_actor(spec, hidden_size=6, dtype=torch.float64, **options)


def agree(given_: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(given_, want, rtol=1e-10, atol=1e-10)


def seen_at(batch: EpisodeBatch, frames: Tensor, first: Tensor) -> Seen:
    return Seen(
        batch.obs[frames],
        batch.avail_actions[frames] if batch.spec.bounds is None else None,
        batch.alive[frames],
        batch.state[frames] if "state" in batch.fields else None,
        first,
        batch.last_actions[frames],
        torch.zeros(len(frames), dtype=torch.int64),
    )


def act(agent: Agent, batch: EpisodeBatch, n_rows: int) -> Tensor:
    """Features at every frame, as seen by `n_rows` environments that play the episodes one after the other.

    A row starts its next episode while the others are in the middle of theirs: its memory and its last
    action are reset, theirs are not.
    """
    n_rows = min(n_rows, batch.n_episodes)
    n_agents, n_actions = batch.spec.n_agents, batch.spec.n_actions
    episodes = list(zip(batch.first_frames.tolist(), batch.lengths.tolist(), strict=True))
    queues = [
        [(start + t, t) for start, length in episodes[row::n_rows] for t in range(length + 1)]
        for row in range(n_rows)
    ]
    all_features = torch.full((batch.n_frames, n_agents, agent.n_features), torch.nan, dtype=torch.float64)
    start = agent.start(n_rows)
    memory = {name: tensor.clone() for name, tensor in start.items()}
    numbered = batch.spec.bounds is None
    nothing = NO_ACTION if numbered else 0
    last_actions = batch["actions"][:n_rows].clone()
    for now in range(max(map(len, queues))):
        # A row that has played all stays at its last frame; what it says is not read.
        at = [queue[min(now, len(queue) - 1)] for queue in queues]
        frames = torch.tensor([frame for frame, _ in at])
        first = torch.tensor([t == 0 for _, t in at])
        for name, tensor in memory.items():
            tensor[first] = start[name][first]
        last_actions[first] = nothing
        features, after = agent.step(seen_at(batch, frames, first), last_actions, memory)
        for row, queue in enumerate(queues):
            if now < len(queue):
                all_features[frames[row]] = features[row]
        # Final frames hold garbage actions; the reset comes before anyone would use them.
        last_actions = batch["actions"][frames]
        last_actions = last_actions.clamp(0, n_actions - 1) if numbered else last_actions.nan_to_num()
        memory = {name: tensor.clone() for name, tensor in after.items()}
    return all_features


@every_actor
def test_they_keep_the_contracts(kind: AgentKind, share: Share) -> None:
    actor = make(kind=kind, share=share)
    assert isinstance(actor.agent, Agent)
    assert isinstance(actor.head, Head)
    assert actor.agent.n_features == 6


@every_actor
@options
@pytest.mark.parametrize("n_rows", [1, 3])
def test_features_are_those_of_acting_frame_by_frame(
    n_rows: int, last_action: bool, agent_id: bool, kind: AgentKind, share: Share
) -> None:
    actor = make(kind=kind, share=share, last_action=last_action, agent_id=agent_id)
    batch = random_batch(0, n_episodes=8, spec=SPEC)
    with torch.no_grad():
        features = act(actor.agent, batch, n_rows)
        agree(actor.agent.features(batch), features)
        agree(actor(batch), actor.head.outputs(features))


@every_actor
@pytest.mark.parametrize("obs_dtype", [torch.uint8, torch.float64], ids=str)
@pytest.mark.parametrize("obs_shape", [(9, 8, 3), (2, 8, 12)], ids=str)
def test_features_of_images_are_those_of_acting_frame_by_frame(
    obs_shape: tuple[int, ...], obs_dtype: torch.dtype, kind: AgentKind, share: Share
) -> None:
    spec = make_spec(obs_shape=obs_shape, obs_dtype=obs_dtype)
    actor = make(spec, kind=kind, share=share)
    batch = random_batch(0, n_episodes=8, spec=spec)
    with torch.no_grad():
        features = act(actor.agent, batch, 3)
        agree(actor.agent.features(batch), features)
    assert len({tuple(row) for row in features.flatten(0, 1).tolist()}) > batch.n_frames


@every_actor
@settings(max_examples=20)
@given(batches(obs_dtype=torch.float64, vectors=None))
def test_features_are_those_of_acting_on_any_batch(
    kind: AgentKind, share: Share, batch: EpisodeBatch
) -> None:
    actor = make(batch.spec, kind=kind, share=share)
    with torch.no_grad():
        agree(actor.agent.features(batch), act(actor.agent, batch, 2))


@every_actor
def test_float32(kind: AgentKind, share: Share) -> None:
    spec = make_spec()
    batch = random_batch(1, spec=spec)
    actor = make_actor(spec, kind=kind, share=share, hidden_size=6)
    values = actor(batch)
    assert values.dtype == torch.float32
    double = replace(
        batch, spec=make_spec(obs_dtype=torch.float64), fields={**batch.fields, "obs": batch.obs.double()}
    )
    torch.testing.assert_close(values.double(), actor.double()(double), rtol=1e-4, atol=1e-5)


@every_actor
@pytest.mark.parametrize("seed", range(3))
def test_an_episode_does_not_depend_on_its_company_or_its_place(
    seed: int, kind: AgentKind, share: Share
) -> None:
    actor = make(kind=kind, share=share, seed=seed)
    episodes = random_batch(seed, n_episodes=7, spec=SPEC).split()
    with torch.no_grad():
        alone = [actor(episode) for episode in episodes]
        order = torch.randperm(7, generator=torch.Generator().manual_seed(seed)).tolist()
        for subset in (list(range(7)), order, order[:3], [2, 2]):
            together = actor(EpisodeBatch.cat([episodes[e] for e in subset]))
            agree(together, torch.cat([alone[e] for e in subset]))


@every_actor
def test_garbage_on_final_frames_does_not_matter(kind: AgentKind, share: Share) -> None:
    actor = make(kind=kind, share=share)
    batch = random_batch(2, spec=SPEC)
    other = with_garbage(batch, 99)
    assert not torch.equal(batch["actions"], other["actions"])
    assert torch.equal(actor(batch), actor(other))


@every_actor
@options
def test_what_the_values_depend_on(last_action: bool, agent_id: bool, kind: AgentKind, share: Share) -> None:
    """The last action is that of the frame before, within the episode; never the one about to be taken."""
    actor = make(kind=kind, share=share, last_action=last_action, agent_id=agent_id)
    batch = make_batch(SPEC, [3, 2], [True, False])
    values = actor(batch)
    for frame, following in [(0, [1, 2, 3]), (2, [3]), (4, [5, 6]), (5, [6])]:
        actions = batch["actions"].clone()
        actions[frame, 1] = (actions[frame, 1] + 1) % 4
        other = actor(replace(batch, fields={**batch.fields, "actions": actions}))
        changed = (other != values).any(-1)
        want = torch.zeros_like(changed)
        want[following[:1] if kind == "feedforward" else following, 1] = last_action
        assert torch.equal(changed, want)
    same = batch.obs.clone()
    same[:, :] = same[:, :1]
    twins = replace(
        batch,
        fields={**batch.fields, "obs": same, "actions": batch["actions"][:, :1].expand(-1, 3).contiguous()},
        checked=True,
    )
    values = actor(twins)
    # torch's products, without the kernels, do not give equal rows the same bits.
    are_equal = torch.allclose(values[:, 0], values[:, 1], rtol=1e-12, atol=1e-12)
    assert are_equal == (share == "all" and not agent_id)


@every_actor
def test_a_first_frame_has_no_last_action(kind: AgentKind, share: Share) -> None:
    """It is none of the actions, so `NO_ACTION` is not action 0."""
    agent = make(kind=kind, share=share).agent
    batch = make_batch(SPEC, [1], [True])
    seen = seen_at(batch, torch.tensor([0]), torch.tensor([True]))
    memory = agent.start(1)
    outs = [agent.step(seen, torch.full((1, 3), action), memory)[0] for action in range(NO_ACTION, 4)]
    for i, a in enumerate(outs):
        for b in outs[:i]:
            assert not torch.equal(a, b)
    agree(outs[0][0], agent.features(batch)[0])


@pytest.mark.parametrize("share", SHARES)
def test_memory_at_the_start(share: Share) -> None:
    memory = make(share=share).agent.start(4)
    assert memory.keys() == {"hidden"}
    assert memory["hidden"].shape == (4, 3, 6)
    assert memory["hidden"].dtype == torch.float64
    assert (memory["hidden"] == 0).all()
    assert make(kind="feedforward", share=share).agent.start(4) == {}


@pytest.mark.parametrize("n_agents", [1, 3])
@options
def test_inputs_are_counted(n_agents: int, last_action: bool, agent_id: bool) -> None:
    """One agent needs no id."""
    spec = make_spec(n_agents=n_agents)
    agent = RecurrentAgent(Inputs.of(spec, last_action=last_action, agent_id=agent_id), hidden_size=6)
    ids = n_agents if agent_id and n_agents > 1 else 0
    assert agent.encoder.in_features == agent.inputs.size == 5 + 4 * last_action + ids
    assert agent.features(random_batch(0, spec=spec)).shape[1:] == (n_agents, 6)


@every_kind
@pytest.mark.parametrize("obs_shape", [(), (2, 3), (1,)])
def test_observations_of_any_shape(obs_shape: tuple[int, ...], kind: AgentKind) -> None:
    spec = EpisodeSpec.of(n_agents=2, n_actions=3, episode_limit=4, obs_shape=obs_shape)
    batch = make_batch(spec, [2, 4], [True, False])
    for share in SHARES:
        agent = make_actor(spec, kind=kind, share=share, hidden_size=6).agent
        first = agent.features(batch)[batch.first_frames]
        seen = seen_at(batch, batch.first_frames, torch.tensor([True, True]))
        out, _ = agent.step(seen, torch.full((2, 2), NO_ACTION), agent.start(2))
        assert out.shape == (2, 2, 6)
        torch.testing.assert_close(out, first)


@every_actor
@options
def test_gradients_reach_every_parameter(
    last_action: bool, agent_id: bool, kind: AgentKind, share: Share
) -> None:
    actor = make(kind=kind, share=share, last_action=last_action, agent_id=agent_id)
    values = actor(random_batch(3, n_episodes=8, spec=SPEC))
    names, parameters = zip(*actor.named_parameters(), strict=True)
    gradients = torch.autograd.grad(values.square().mean(), parameters)
    n_own = {"gru": 8, "attention": 30, "feedforward": 6}[kind]  # those of the head among them
    assert len(names) == n_own * {"all": 1, "kind": 2, "none": 3}[share]
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient.isfinite().all(), name
        assert (gradient != 0).any(), name
