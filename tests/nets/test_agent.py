from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets import NO_ACTION, RecurrentAgent
from support.helpers import batches, make_batch, make_spec, random_batch, with_garbage

SPEC = make_spec(obs_dtype=torch.float64)
options = pytest.mark.parametrize(
    ("last_action", "agent_id"), [(True, True), (True, False), (False, True), (False, False)]
)


def make_agent(
    spec: EpisodeSpec = SPEC, *, seed: int = 0, last_action: bool = True, agent_id: bool = True
) -> RecurrentAgent:
    agent = RecurrentAgent(spec, hidden_size=6, last_action=last_action, agent_id=agent_id).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in agent.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return agent


def agree(given_: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(given_, want, rtol=1e-10, atol=1e-10)


def act(agent: RecurrentAgent, batch: EpisodeBatch, n_rows: int) -> Tensor:
    """Values at every frame, as seen by `n_rows` environments that play the episodes one after the other.

    A row starts its next episode while the others are in the middle of theirs: its hidden state and its
    last action are reset, theirs are not.
    """
    n_rows = min(n_rows, batch.n_episodes)
    episodes = list(zip(batch.first_frames.tolist(), batch.lengths.tolist(), strict=True))
    queues = [
        [(start + t, t) for start, length in episodes[row::n_rows] for t in range(length + 1)]
        for row in range(n_rows)
    ]
    values = torch.full((batch.n_frames, agent.n_agents, agent.n_actions), float("nan"), dtype=torch.float64)
    hidden = agent.initial_hidden(n_rows)
    last_actions = torch.full((n_rows, agent.n_agents), NO_ACTION)
    for now in range(max(map(len, queues))):
        # A row that has played all stays at its last frame; what it says is not read.
        at = [queue[min(now, len(queue) - 1)] for queue in queues]
        frames = torch.tensor([frame for frame, _ in at])
        for row, (_, t) in enumerate(at):
            if t == 0:
                hidden[row] = 0
                last_actions[row] = NO_ACTION
        out, hidden = agent.step(batch.obs[frames], last_actions, hidden)
        for row, queue in enumerate(queues):
            if now < len(queue):
                values[frames[row]] = out[row]
        # Final frames hold garbage actions; the reset comes before anyone would use them.
        last_actions = batch["actions"][frames].clamp(0, agent.n_actions - 1)
        hidden = hidden.clone()
    return values


@options
@pytest.mark.parametrize("n_rows", [1, 3])
def test_unroll_is_acting_frame_by_frame(last_action: bool, agent_id: bool, n_rows: int) -> None:
    agent = make_agent(last_action=last_action, agent_id=agent_id)
    batch = random_batch(0, n_episodes=8, spec=SPEC)
    with torch.no_grad():
        agree(agent.unroll(batch), act(agent, batch, n_rows))


@settings(max_examples=20)
@given(batches(obs_dtype=torch.float64))
def test_unroll_is_acting_on_any_batch(batch: EpisodeBatch) -> None:
    agent = make_agent(batch.spec)
    with torch.no_grad():
        agree(agent.unroll(batch), act(agent, batch, 2))


def test_float32() -> None:
    spec = make_spec()
    batch = random_batch(1, spec=spec)
    agent = RecurrentAgent(spec, hidden_size=6)
    values = agent.unroll(batch)
    assert values.dtype == torch.float32
    double = replace(
        batch, spec=make_spec(obs_dtype=torch.float64), fields={**batch.fields, "obs": batch.obs.double()}
    )
    torch.testing.assert_close(values.double(), agent.double().unroll(double), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_an_episode_does_not_depend_on_its_company_or_its_place(seed: int) -> None:
    agent = make_agent(seed=seed)
    episodes = random_batch(seed, n_episodes=7, spec=SPEC).split()
    with torch.no_grad():
        alone = [agent.unroll(episode) for episode in episodes]
        order = torch.randperm(7, generator=torch.Generator().manual_seed(seed)).tolist()
        for subset in (list(range(7)), order, order[:3], [2, 2]):
            together = agent.unroll(EpisodeBatch.cat([episodes[e] for e in subset]))
            agree(together, torch.cat([alone[e] for e in subset]))


def test_garbage_on_final_frames_does_not_matter() -> None:
    agent = make_agent()
    batch = random_batch(2, spec=SPEC)
    other = with_garbage(batch, 99)
    assert not torch.equal(batch["actions"], other["actions"])
    assert torch.equal(agent.unroll(batch), agent.unroll(other))


@options
def test_what_the_values_depend_on(last_action: bool, agent_id: bool) -> None:
    """The last action is that of the frame before, within the episode; never the one about to be taken."""
    agent = make_agent(last_action=last_action, agent_id=agent_id)
    batch = make_batch(SPEC, [3, 2], [True, False])
    values = agent.unroll(batch)
    for frame, touched in [(0, [1, 2, 3]), (2, [3]), (4, [5, 6]), (5, [6])]:
        actions = batch["actions"].clone()
        actions[frame, 1] = (actions[frame, 1] + 1) % 4
        other = agent.unroll(replace(batch, fields={**batch.fields, "actions": actions}))
        changed = (other != values).any(-1)
        want = torch.zeros_like(changed)
        want[touched, 1] = last_action
        assert torch.equal(changed, want)
    same = batch.obs.clone()
    same[:, :] = same[:, :1]
    twins = replace(
        batch,
        fields={**batch.fields, "obs": same, "actions": batch["actions"][:, :1].expand(-1, 3).contiguous()},
        checked=True,
    )
    values = agent.unroll(twins)
    # torch's products, without the kernels, do not give equal rows the same bits.
    assert torch.allclose(values[:, 0], values[:, 1], rtol=1e-12, atol=1e-12) != agent_id


def test_a_first_frame_has_no_last_action() -> None:
    """It is none of the actions, so `NO_ACTION` is not action 0."""
    agent = make_agent()
    obs, hidden = torch.randn(1, 3, 5, dtype=torch.float64), agent.initial_hidden(1)
    outs = [agent.step(obs, torch.full((1, 3), action), hidden)[0] for action in range(NO_ACTION, 4)]
    for i, a in enumerate(outs):
        for b in outs[:i]:
            assert not torch.equal(a, b)
    first = agent.unroll(make_batch(SPEC, [1], [True]))[0]
    obs = make_batch(SPEC, [1], [True]).obs[:1]
    agree(agent.step(obs, torch.full((1, 3), NO_ACTION), hidden)[0][0], first)


def test_initial_hidden() -> None:
    hidden = make_agent().initial_hidden(4)
    assert hidden.shape == (4, 3, 6)
    assert hidden.dtype == torch.float64
    assert (hidden == 0).all()


@pytest.mark.parametrize("n_agents", [1, 3])
@options
def test_inputs_are_counted(n_agents: int, last_action: bool, agent_id: bool) -> None:
    """One agent needs no id."""
    spec = make_spec(n_agents=n_agents)
    agent = RecurrentAgent(spec, hidden_size=6, last_action=last_action, agent_id=agent_id)
    ids = n_agents if agent_id and n_agents > 1 else 0
    assert agent.encoder.in_features == 5 + 4 * last_action + ids
    assert agent.unroll(random_batch(0, spec=spec)).shape[1:] == (n_agents, 4)


@pytest.mark.parametrize("obs_shape", [(), (2, 3), (1,)])
def test_observations_of_any_shape(obs_shape: tuple[int, ...]) -> None:
    spec = EpisodeSpec.of(n_agents=2, n_actions=3, episode_limit=4, obs_shape=obs_shape)
    batch = make_batch(spec, [2, 4], [True, False])
    agent = RecurrentAgent(spec, hidden_size=6)
    first = agent.unroll(batch)[batch.first_frames]
    out, hidden = agent.step(
        batch.obs[batch.first_frames], torch.full((2, 2), NO_ACTION), agent.initial_hidden(2)
    )
    assert hidden.shape == (2, 2, 6)
    torch.testing.assert_close(out, first)


@options
def test_gradients_reach_every_parameter(last_action: bool, agent_id: bool) -> None:
    agent = make_agent(last_action=last_action, agent_id=agent_id)
    values = agent.unroll(random_batch(3, n_episodes=8, spec=SPEC))
    names, parameters = zip(*agent.named_parameters(), strict=True)
    gradients = torch.autograd.grad(values.square().mean(), parameters)
    assert len(names) == 8
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient.isfinite().all(), name
        assert (gradient != 0).any(), name
