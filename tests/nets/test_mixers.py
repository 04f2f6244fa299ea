from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import elu

from endmark.episodes import EpisodeSpec
from endmark.nets import QMIXMixer, VDNMixer
from endmark.nets.images import StateAsVector
from support.helpers import make_spec, random_batch


def make_mixer(spec: EpisodeSpec, seed: int) -> QMIXMixer:
    mixer = QMIXMixer(spec, embed_size=5, hyper_size=7).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in mixer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return mixer


def random_inputs(seed: int, scale: float, n: int = 200) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values, state = (scale * torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (3, 4))
    return values.requires_grad_(), state


def test_vdn_is_the_sum() -> None:
    values, state = random_inputs(0, 1.0)
    mixed = VDNMixer()(values, state)
    torch.testing.assert_close(mixed, values[:, 0] + values[:, 1] + values[:, 2])
    assert list(VDNMixer().parameters()) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_qmix_is_monotone_in_every_agents_value(seed: int, scale: float) -> None:
    mixer = make_mixer(make_spec(), seed)
    values, state = random_inputs(seed, scale)
    mixed = mixer(values, state)
    (slope,) = torch.autograd.grad(mixed.sum(), values)
    assert (slope >= 0).all()
    assert (slope > 0).any(0).all()
    if scale <= 1:  # far out an elu is flat to the last bit
        assert (slope > 0).all()
    better = values + torch.rand(values.shape, dtype=torch.float64)
    assert (mixer(better, state) >= mixed).all()


def test_qmix_is_not_monotone_in_the_state_and_depends_on_it() -> None:
    """A mixer that took no notice of the state would pass for monotone, too."""
    mixer = make_mixer(make_spec(), 0)
    values, state = random_inputs(0, 1.0)
    state.requires_grad_()
    (slope,) = torch.autograd.grad(mixer(values, state).sum(), state)
    assert (slope > 0).any()
    assert (slope < 0).any()
    (here,) = torch.autograd.grad(mixer(values, state).sum(), values)
    (there,) = torch.autograd.grad(mixer(values, state.flip(0)).sum(), values)
    assert not torch.allclose(here, there)


def test_qmix_is_its_equation_step_by_step() -> None:
    mixer = make_mixer(make_spec(), 1)
    values, state = random_inputs(1, 1.0, n=9)
    mixed = mixer(values, state)
    assert mixed.shape == (9,)
    for q, s, given in zip(values, state, mixed, strict=True):
        weight_1 = mixer.weight_1(s).abs().view(3, 5)
        hidden = elu(q @ weight_1 + mixer.bias_1(s))
        torch.testing.assert_close(given, hidden @ mixer.weight_2(s).abs() + mixer.bias_2(s)[0])


def test_gradients_reach_every_parameter() -> None:
    mixer = make_mixer(make_spec(), 2)
    values, state = random_inputs(2, 1.0)
    names, parameters = zip(*mixer.named_parameters(), strict=True)
    gradients = torch.autograd.grad(mixer(values, state).square().mean(), parameters)
    for name, gradient in zip(names, gradients, strict=True):
        assert (gradient != 0).any(), name


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("state", [True, False])
def test_on_the_state_of_a_batch(state: bool, seed: int) -> None:
    """Which is all observations where none is stored."""
    spec = make_spec(state=state)
    assert StateAsVector(spec).n_features == (4 if state else 15)
    batch = random_batch(seed, spec=spec)
    mixer = QMIXMixer(spec, embed_size=5, hyper_size=7)
    values = torch.randn(batch.n_steps, 3)
    mixed = mixer(values, batch.state[batch.step_frames])
    assert mixed.shape == (batch.n_steps,)
    alone = [mixer(values[i : i + 1], batch.state[f : f + 1]) for i, f in enumerate(batch.step_frames)]
    torch.testing.assert_close(mixed, torch.cat(alone))


@pytest.mark.parametrize("state_shape", [(), (2, 3)])
def test_states_of_any_shape(state_shape: tuple[int, ...]) -> None:
    spec = EpisodeSpec.of(n_agents=2, n_actions=3, episode_limit=4, obs_shape=(1,), state_shape=state_shape)
    mixer = QMIXMixer(spec, embed_size=5, hyper_size=7)
    assert mixer(torch.randn(9, 2), torch.randn(9, *state_shape)).shape == (9,)
