from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from endmark.episodes import ragged
from endmark.ops import gru_unroll, gru_unroll_naive

CASES = {
    "one frame-pair": [1],
    "one episode": [7],
    "equal": [3, 3, 3],
    "ragged": [1, 9, 2, 2, 5, 1],
    "many": [1 + i * 7 % 12 for i in range(40)],
}
cases = pytest.mark.parametrize("lengths", CASES.values(), ids=CASES)


def make(
    lengths: list[int], *, seed: int = 0, n_inputs: int = 3, hidden: int = 4, agents: int = 2
) -> tuple[nn.GRUCell, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cell = nn.GRUCell(n_inputs, hidden).double()
    for parameter in cell.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    x = torch.randn(sum(lengths) + len(lengths), agents, n_inputs, generator=generator, dtype=torch.float64)
    return cell, x.requires_grad_()


def unroll(cell: nn.GRUCell, x: Tensor, lengths: list[int]) -> Tensor:
    return gru_unroll(cell, x, ragged.TimeMajor(torch.tensor(lengths)))


def gradients(out: Tensor, cell: nn.GRUCell, x: Tensor, seed: int = 1) -> tuple[Tensor, ...]:
    """Of a random projection, so that no gradient cancels."""
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed), dtype=out.dtype)
    return torch.autograd.grad((out * direction).sum(), [x, *cell.parameters()])


def agree(given_: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(given_, want, rtol=1e-10, atol=1e-10)


@cases
@pytest.mark.parametrize("agents", [1, 3])
def test_value_and_gradients_are_those_of_the_naive_loop(lengths: list[int], agents: int) -> None:
    cell, x = make(lengths, agents=agents)
    fast, naive = unroll(cell, x, lengths), gru_unroll_naive(cell, x, torch.tensor(lengths))
    agree(fast, naive)
    for given_, want in zip(gradients(fast, cell, x), gradients(naive, cell, x), strict=True):
        assert want.abs().max() > 1e-3
        agree(given_, want)


@settings(max_examples=30)
@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=6),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_any_shape(lengths: list[int], n_inputs: int, hidden: int, agents: int, seed: int) -> None:
    cell, x = make(lengths, seed=seed, n_inputs=n_inputs, hidden=hidden, agents=agents)
    fast, naive = unroll(cell, x, lengths), gru_unroll_naive(cell, x, torch.tensor(lengths))
    agree(fast, naive)
    for given_, want in zip(gradients(fast, cell, x), gradients(naive, cell, x), strict=True):
        agree(given_, want)


@cases
def test_the_naive_loop_is_nn_gru(lengths: list[int]) -> None:
    """So that the reference rests on something outside this repository."""
    cell, x = make(lengths)
    gru = nn.GRU(3, 4).double()
    for parameter, own in zip(gru.parameters(), cell.parameters(), strict=True):
        parameter.data = own.data.clone()
    episodes = torch.split(x, [length + 1 for length in lengths])
    sequences = [episode[:, agent] for episode in episodes for agent in range(2)]
    packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)
    padded, _ = nn.utils.rnn.pad_packed_sequence(gru(packed)[0], batch_first=True)
    rows = padded.view(len(lengths), 2, *padded.shape[1:])
    torch_out = torch.cat([row[:, : n + 1].transpose(0, 1) for row, n in zip(rows, lengths, strict=True)])
    agree(gru_unroll_naive(cell, x, torch.tensor(lengths)), torch_out)
    out = unroll(cell, x, lengths)
    agree(out, torch_out)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    want = torch.autograd.grad((torch_out * direction).sum(), [x, *gru.parameters()])
    for given_, grad in zip(gradients(out, cell, x), want, strict=True):
        agree(given_, grad)


def test_gradcheck() -> None:
    lengths = [2, 1, 3]
    cell, x = make(lengths, n_inputs=2, hidden=2)
    names = [name for name, _ in cell.named_parameters()]

    class Unroll(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell

        def forward(self, x: Tensor) -> Tensor:
            return unroll(self.cell, x, lengths)

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        by_name = {f"cell.{name}": p for name, p in zip(names, parameters, strict=True)}
        out: Tensor = torch.func.functional_call(Unroll(), by_name, (x,))
        return out

    parameters = [p.detach().clone().requires_grad_() for p in cell.parameters()]
    assert torch.autograd.gradcheck(function, (x, *parameters))


def test_gradients_of_any_layout_come_in() -> None:
    """What follows may permute the hidden states, and then the gradient that arrives is not contiguous."""
    lengths = [2, 4]
    cell, x = make(lengths)
    direction = torch.randn(4, 8, 2, dtype=torch.float64)
    for axes, weight in [((2, 0, 1), direction), ((1, 2, 0), direction.permute(2, 0, 1).contiguous())]:
        given_, want = (
            torch.autograd.grad((out.permute(axes) * weight).sum(), [x, *cell.parameters()])
            for out in (unroll(cell, x, lengths), gru_unroll_naive(cell, x, torch.tensor(lengths)))
        )
        for a, b in zip(given_, want, strict=True):
            agree(a, b)
    out = unroll(cell, x, lengths)
    expanded = torch.autograd.grad(out.sum(), [x, *cell.parameters()])
    naive = gru_unroll_naive(cell, x, torch.tensor(lengths))
    for a, b in zip(expanded, torch.autograd.grad(naive.sum(), [x, *cell.parameters()]), strict=True):
        agree(a, b)


def test_inputs_of_any_layout() -> None:
    lengths = [2, 4]
    cell, x = make(lengths)
    strided = x.detach().permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert not strided.is_contiguous()
    agree(unroll(cell, strided, lengths), unroll(cell, x, lengths))


def test_nothing_is_written_and_a_second_pass_is_the_same() -> None:
    lengths = [3, 1, 2]
    cell, x = make(lengths)
    before = copy.deepcopy(cell.state_dict()) | {"x": x.detach().clone()}
    out = unroll(cell, x, lengths)
    kept = out.detach().clone()
    direction = torch.ones_like(out)
    first = torch.autograd.grad(out, [x, *cell.parameters()], direction, retain_graph=True)
    second = torch.autograd.grad(out, [x, *cell.parameters()], direction)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert (direction == 1).all()
    assert torch.equal(out, kept)
    assert torch.equal(unroll(cell, x, lengths), kept)
    for name, tensor in (cell.state_dict() | {"x": x}).items():
        assert torch.equal(tensor, before[name])


def test_no_episode_reaches_another() -> None:
    lengths = [3, 1, 4]
    cell, x = make(lengths)
    frames = [length + 1 for length in lengths]
    out = torch.split(unroll(cell, x, lengths), frames)
    for e, episode in enumerate(out):
        (gradient,) = torch.autograd.grad(episode.square().sum(), x, retain_graph=True)
        for other, part in enumerate(torch.split(gradient, frames)):
            assert (part != 0).all() if other == e else (part == 0).all()


def test_no_later_frame_reaches_an_earlier_one() -> None:
    cell, x = make([4])
    out = unroll(cell, x, [4])
    for t in range(5):
        (gradient,) = torch.autograd.grad(out[t].square().sum(), x, retain_graph=True)
        assert (gradient[: t + 1] != 0).all()
        assert (gradient[t + 1 :] == 0).all()


def test_a_second_derivative_is_refused() -> None:
    """Rather than wrong."""
    cell, x = make([2])
    (first,) = torch.autograd.grad(unroll(cell, x, [2]).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        torch.autograd.backward(first.sum())


def test_no_grad_and_frozen_parts() -> None:
    cell, x = make([2, 3])
    want = unroll(cell, x, [2, 3]).detach()
    with torch.no_grad():
        out = unroll(cell, x, [2, 3])
    assert not out.requires_grad
    assert torch.equal(out, want)
    cell.weight_hh.requires_grad_(False)
    (gradient,) = torch.autograd.grad(unroll(cell, x, [2, 3]).sum(), x)
    naive = gru_unroll_naive(cell, x, torch.tensor([2, 3]))
    agree(gradient, torch.autograd.grad(naive.sum(), x)[0])
