"""Networks that read images: against one picture at a time in float64, and in every algorithm."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from endmark.algorithms import ALGORITHMS, Learner
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets import AgentKind, CentralCritic, FeedForwardAgent, QMIXMixer, RecurrentAgent, Share
from endmark.nets.heads import LinearHead
from endmark.nets.images import AsVector, StateAsVector
from support.actors import SMALL, every_kind, make_actor, randomise
from support.attention_naive import attention_naive
from support.helpers import make_spec, random_batch
from support.seated import BESIDE_PARTNERS

SHAPES = [(9, 8, 3), (2, 8, 12), (20, 33, 1), (1, 20, 33), (84, 84, 4)]
DTYPES = [torch.uint8, torch.float64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
states = pytest.mark.parametrize("state", ["image", "none"])


def pictures(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    colours = torch.randint(0, 256, shape, generator=generator)
    return colours.to(dtype) if dtype == torch.uint8 else (colours / 255).to(dtype)


def vector_naive(module: AsVector, picture: Tensor) -> Tensor:
    """One picture: channels first, colours from 0 to 1, and one convolution after the other."""
    x = picture.double() / (255 if picture.dtype == torch.uint8 else 1)
    if picture.shape[-1] < picture.shape[0]:
        x = torch.stack([x[..., channel] for channel in range(x.shape[-1])])
    for layer in module.convolutions:
        if isinstance(layer, nn.Conv2d):
            x = torch.relu(functional.conv2d(x[None], layer.weight, layer.bias, stride=2, padding=1)[0])
    return x.flatten()


def spec_of(dtype: torch.dtype, *, state: str = "none", shape: tuple[int, ...] = (9, 8, 3)) -> EpisodeSpec:
    return EpisodeSpec.of(
        n_agents=3,
        n_actions=4,
        episode_limit=7,
        obs_shape=shape,
        obs_dtype=dtype,
        state_shape=(2, 10, 11) if state == "image" else None,
        state_dtype=dtype,
    )


def state_naive(module: StateAsVector, episode: EpisodeBatch, t: int) -> Tensor:
    if "state" in episode.fields:
        return vector_naive(module.part, episode["state"][t])
    seen = [
        episode.obs[t, n] if episode.alive[t, n] else torch.zeros_like(episode.obs[t, n])
        for n in range(episode.spec.n_agents)
    ]
    return torch.cat([vector_naive(module.part, picture) for picture in seen])


def assert_the_same_and_every_gradient(module: nn.Module, given: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(given, want, rtol=1e-10, atol=1e-10)
    direction = torch.randn(given.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    names, parameters = zip(*module.named_parameters(), strict=True)
    gradients = (torch.autograd.grad(values, parameters, direction) for values in (given, want))
    for name, one, other in zip(names, *gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=name)
        assert (one != 0).any(), name


@every_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_image_as_a_vector(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    module = AsVector(shape).double()
    randomise(module, scale=0.2)
    x = pictures(2, 3, *shape, dtype=dtype)
    vectors = module(x)
    assert vectors.shape == (2, 3, module.n_features)
    want = torch.stack([vector_naive(module, picture) for picture in x.flatten(0, 1)]).view(2, 3, -1)
    assert_the_same_and_every_gradient(module, vectors, want)


@pytest.mark.parametrize(
    ("shape", "layers", "n_features"),
    [((8, 8, 3), 2, 2 * 2 * 32), ((10, 10, 3), 2, 3 * 3 * 32), ((84, 84, 4), 4, 6 * 6 * 64)],
)
def test_as_many_layers_as_the_size_needs(shape: tuple[int, ...], layers: int, n_features: int) -> None:
    module = AsVector(shape)
    assert sum(isinstance(layer, nn.Conv2d) for layer in module.convolutions) == layers
    assert module.n_features == n_features


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (7, 7, 3), (2, 9, 9, 3)], ids=str)
def test_what_is_no_image_is_flat(shape: tuple[int, ...]) -> None:
    module = AsVector(shape)
    assert list(module.parameters()) == []
    x = torch.randn(4, 2, *shape)
    assert torch.equal(module(x), x.reshape(4, 2, -1))
    colours = pictures(4, 2, *shape, dtype=torch.uint8)
    assert torch.equal(module(colours), colours.reshape(4, 2, -1).float())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_lie_in_memory_as_the_weights_do(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """torch's fused Adam takes both for lists of numbers in the same order, and does not say otherwise."""
    module = AsVector(shape)
    loss = module(pictures(5, *shape, dtype=dtype)).square().mean()
    parameters = list(module.parameters())
    assert all(parameter.is_contiguous() for parameter in parameters)
    assert all(gradient.is_contiguous() for gradient in torch.autograd.grad(loss, parameters))


@every_kind
@every_dtype
def test_an_agent_is_the_naive_loop(dtype: torch.dtype, kind: AgentKind) -> None:
    spec = spec_of(dtype)
    batch, actor = random_batch(0, n_episodes=8, spec=spec), make_actor(spec, kind=kind, dtype=torch.float64)
    agent, head = cast(Any, actor.agent), actor.head
    assert isinstance(head, LinearHead)
    outputs = []
    for episode in batch.split():
        hidden, inputs = torch.zeros(3, 16, dtype=torch.float64), []
        for t in range(episode.n_frames):
            last = torch.zeros(3, 4).double()
            if t > 0:
                last[range(3), episode["actions"][t - 1]] = 1
            seen = torch.stack([vector_naive(agent.inputs.obs, picture) for picture in episode.obs[t]])
            inputs.append(torch.cat([seen, last, torch.eye(3).double()], 1))
            x = torch.relu(agent.encoder(inputs[-1]))
            if isinstance(agent, RecurrentAgent):
                features = hidden = agent.recurrence(x, hidden)
            elif isinstance(agent, FeedForwardAgent):
                features = torch.relu(agent.hidden(x))
            else:
                features = attention_naive(agent, inputs)[-1]
            outputs.append(head.linear(features))
    assert_the_same_and_every_gradient(actor, actor(batch), torch.stack(outputs))


@every_kind
@every_dtype
@states
def test_the_central_critic_is_the_naive_loop(state: str, dtype: torch.dtype, kind: AgentKind) -> None:
    spec = spec_of(dtype, state=state)
    critic = CentralCritic(spec, kind=kind, hidden_size=6, n_values=3, attention=SMALL).double()
    randomise(critic, scale=0.3)
    batch, trunk = random_batch(0, n_episodes=8, spec=spec), cast(Any, critic.trunk)
    values = []
    for episode in batch.split():
        hidden, inputs = torch.zeros(1, 6, dtype=torch.float64), []
        for t in range(episode.n_frames):
            inputs.append(state_naive(critic.state, episode, t)[None])
            if kind == "attention":
                hidden = attention_naive(trunk, inputs)[-1]
            else:
                x = torch.relu(trunk.encoder(inputs[-1]))
                hidden = trunk.recurrence(x, hidden) if kind == "gru" else torch.relu(trunk.hidden(x))
            values.append(critic.head(hidden[0]))
    assert_the_same_and_every_gradient(critic, critic(batch), torch.stack(values))


@every_dtype
@states
def test_qmix_is_its_equation(state: str, dtype: torch.dtype) -> None:
    spec = spec_of(dtype, state=state)
    mixer = QMIXMixer(spec, embed_size=5, hyper_size=7).double()
    randomise(mixer, scale=0.3)
    batch = random_batch(0, n_episodes=8, spec=spec)
    values = torch.randn(batch.n_steps, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mixed, step = [], 0
    for episode in batch.split():
        for t in range(episode.n_steps):
            s, q = state_naive(mixer.state, episode, t), values[step]
            hidden = functional.elu(q @ mixer.weight_1(s).abs().view(3, 5) + mixer.bias_1(s))
            mixed.append(hidden @ mixer.weight_2(s).abs() + mixer.bias_2(s)[0])
            step += 1
    given = mixer(values, batch.state, batch.step_frames)
    assert_the_same_and_every_gradient(mixer, given, torch.stack(mixed))


def test_grey_observations_of_three_agents_are_no_image_together() -> None:
    """Side by side [3, 9, 9] they have the shape of one."""
    spec = make_spec(obs_shape=(9, 9), state=False)
    assert list(StateAsVector(spec).parameters()) == []


@every_kind
@states
@pytest.mark.parametrize("share", ["all", "none"], ids=["shared", "independent"])
@pytest.mark.parametrize("name", sorted(ALGORITHMS.keys() - {*BESIDE_PARTNERS}))
def test_every_algorithm_learns_from_images(name: str, share: Share, state: str, kind: AgentKind) -> None:
    spec = spec_of(torch.uint8, state=state)
    config: Any = ALGORITHMS[name]
    if name == "happo" and share == "all":
        return  # it refuses to
    torch.manual_seed(0)
    learner: Learner = config(hidden_size=8, agent=kind, share=share).learner(spec, torch.device("cpu"))
    batch = random_batch(1, n_episodes=6, spec=learner.spec)
    batch["avail_actions"].fill_(True)  # what was done was legal
    before = {n: p.clone() for n, p in learner.networks.named_parameters() if p.requires_grad}
    metrics = learner.update(batch)
    assert all(value.isfinite().all() for value in metrics.values())
    convolutions = [n for n in before if "convolutions" in n]
    n_readers = (1 if share == "all" else 3) * (2 if name in ("ia2c", "ippo") else 1)
    n_readers *= 2 if name in ("ow-qmix", "cw-qmix") else 1
    # Of the state: none in these, two in those. COMA's critic reads the state and the observations.
    none, two = ("iql", "vdn", "ia2c", "ippo"), ("ow-qmix", "cw-qmix", "qatten", "coma")
    n_readers += 0 if name in none else 2 if name in two else 1
    assert len(convolutions) == 4 * n_readers  # two layers each
    after = dict(learner.networks.named_parameters())
    for parameter in convolutions:
        assert not torch.equal(after[parameter], before[parameter]), parameter
        assert after[parameter].isfinite().all()
