"""The native kernels that stand for a part of a network: a mixer, several of one input, one output."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from endmark.episodes import NO_ACTION
from endmark.nets import Share
from endmark.ops import greedy, native
from endmark.ops.greedy import greedy_linear
from endmark.ops.linear_chosen import linear_chosen, linear_chosen_naive
from endmark.ops.mixing import monotone_mix, monotone_mix_naive
from endmark.ops.mlps import mlps
from support.actors import make_actor
from support.helpers import make_spec, random_batch, relative_error
from support.native_cases import (
    TOLERANCE,
    dtypes,
    gradients,
    integers,
    layer_of,
    needs_kernels,
    on_every_isa,
    random,
)

ways = pytest.mark.parametrize("has_kernels", [True, False])


def only_with(has_kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_kernels:
        monkeypatch.setattr(native, "native", None)


# The mixer.


@needs_kernels
@on_every_isa
@dtypes
@pytest.mark.parametrize(("n_rows", "agents", "size"), [(1, 1, 1), (5, 3, 2), (300, 8, 32), (257, 2, 19)])
def test_mix(n_rows: int, agents: int, size: int, dtype: torch.dtype) -> None:
    results: list[list[Tensor]] = []
    for kind in (dtype, torch.float64):
        shapes = [(n_rows, agents), (n_rows, agents * size), (n_rows, size), (n_rows, size), (n_rows,)]
        args = [random(*shape, seed=i, dtype=kind).requires_grad_() for i, shape in enumerate(shapes)]
        args[1].data[0, 0] = 0.0  # where the absolute value has no slope
        mixed = monotone_mix_naive(*args) if results else monotone_mix(*args)
        results.append([mixed.detach(), *gradients(mixed, *args)])
    for a, b in zip(*results, strict=True):
        assert relative_error(a, b) < TOLERANCE[dtype]


# Several networks of one input.

Networks = list[list[nn.Linear]]


def networks_of(
    n_inputs: int, sizes: Sequence[Sequence[int]], dtype: torch.dtype, *, quarters: bool = False
) -> Networks:
    """Of each network the numbers of its layers' outputs."""
    networks: Networks = []
    for k, outputs in enumerate(sizes):
        inputs = [n_inputs, *outputs]
        networks.append(
            [
                layer_of(inputs[i], inputs[i + 1], dtype, seed=1 + 9 * k + i, quarters=quarters)
                for i in range(len(outputs))
            ]
        )
    return networks


def parameters_of(networks: Networks) -> list[Tensor]:
    return [parameter for network in networks for layer in network for parameter in layer.parameters()]


def mlps_naive(x: Tensor, networks: Networks, rows: Tensor | None) -> list[Tensor]:
    outputs = []
    for first, *others in networks:
        y = first(x if rows is None else x[rows])
        for layer in others:
            y = layer(torch.relu(y))
        outputs.append(y)
    return outputs


def gradients_of(outputs: Sequence[Tensor], of: Sequence[Tensor]) -> tuple[Tensor, ...]:
    directions = [random(*y.shape, seed=50 + i, dtype=y.dtype).round() for i, y in enumerate(outputs)]
    return torch.autograd.grad(outputs, of, directions)


def mlps_both(
    n_rows: int,
    n_inputs: int,
    sizes: Sequence[Sequence[int]],
    rows: Tensor | None,
    dtype: torch.dtype,
    *,
    exact: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and gradients of all parameters: by the kernels in `dtype`, and by torch in float64.

    exact: of numbers with which nothing is rounded.
    """
    results: list[list[Tensor]] = []
    for kind in (dtype, torch.float64):
        networks = networks_of(n_inputs, sizes, kind, quarters=exact)
        x = random(n_rows, n_inputs, seed=3, dtype=kind)
        x = x.round() if exact else x
        outputs = mlps_naive(x, networks, rows) if results else mlps(x, networks, rows)
        results.append([*outputs, *gradients_of(outputs, parameters_of(networks))])
        if len(results) == 1:
            with torch.no_grad():  # which writes fewer layers out
                for a, b in zip(mlps(x, networks, rows), outputs, strict=True):
                    assert torch.equal(a, b)
    return results[0], results[1]


MLPS = {
    "one row": (1, 5, [[3]]),
    "one number": (50, 1, [[1], [7, 1]]),
    "QMIX's": (300, 48, [[64, 256], [32], [64, 32], [32, 1]]),
    "no whole vectors": (97, 33, [[17, 3, 5], [2]]),
    "many rows": (1000, 6, [[19, 5], [3]]),
    "wide, narrow, wide": (200, 9, [[70, 1, 40, 3], [70]]),
    "all the same": (192, 16, [[16, 16]] * 5),
}


@needs_kernels
@on_every_isa
@dtypes
@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize(("n_rows", "n_inputs", "sizes"), MLPS.values(), ids=MLPS)
def test_mlps(n_rows: int, n_inputs: int, sizes: list[list[int]], indexed: bool, dtype: torch.dtype) -> None:
    rows = integers(n_rows + 5, high=n_rows) if indexed else None  # in no order, some several times
    for a, b in zip(*mlps_both(n_rows, n_inputs, sizes, rows, dtype), strict=True):
        assert relative_error(a, b) < TOLERANCE[dtype]


@needs_kernels
@given(
    st.integers(1, 250),
    st.integers(1, 40),
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=3), min_size=1, max_size=4),
    st.integers(0, 250),
    st.sampled_from(list(TOLERANCE)),
)
def test_mlps_of_any_shape(
    n_rows: int, n_inputs: int, sizes: list[list[int]], n_index: int, dtype: torch.dtype
) -> None:
    rows = integers(n_index, high=n_rows) if n_index else None
    for a, b in zip(*mlps_both(n_rows, n_inputs, sizes, rows, dtype, exact=True), strict=True):
        assert relative_error(a, b) == 0


@ways
@pytest.mark.parametrize("of_x", [True, False])
@pytest.mark.parametrize("rows", [None, [5, 0, 0, 3]])
def test_mlps_by_every_way(
    monkeypatch: pytest.MonkeyPatch, has_kernels: bool, of_x: bool, rows: list[int] | None
) -> None:
    """One after the other where the input has a gradient, and without kernels; whatever the strides of x."""
    only_with(has_kernels, monkeypatch)
    networks, index = (
        networks_of(4, [[5, 3], [2]], torch.float64),
        None if rows is None else torch.tensor(rows),
    )
    x = random(4, 6, seed=3).t().requires_grad_(of_x)
    parameters = [*parameters_of(networks), *([x] if of_x else [])]
    outputs, want = mlps(x, networks, index), mlps_naive(x, networks, index)
    torch.testing.assert_close(list(outputs), want)
    for a, b in zip(gradients_of(outputs, parameters), gradients_of(want, parameters), strict=True):
        torch.testing.assert_close(a, b)


@needs_kernels
@on_every_isa
def test_mlps_gradcheck() -> None:
    networks, x = networks_of(3, [[4, 2], [1], [3, 2, 2]], torch.float64), random(7, 3, seed=1)
    rows = torch.tensor([6, 2, 2, 0])

    def outputs(*_: Tensor) -> tuple[Tensor, ...]:  # gradcheck changes the parameters in place
        return mlps(x, networks, rows)

    assert torch.autograd.gradcheck(outputs, parameters_of(networks))


@needs_kernels
@on_every_isa
def test_an_output_that_nobody_reads_has_no_gradient() -> None:
    networks, x = networks_of(3, [[4, 2], [5]], torch.float64), random(200, 3, seed=1)
    (of_second,) = gradients_of(mlps(x, networks)[1:], [networks[1][0].weight])
    (want,) = gradients_of(mlps_naive(x, networks, None)[1:], [networks[1][0].weight])
    assert relative_error(of_second, want) < TOLERANCE[torch.float64]
    for gradient in torch.autograd.grad(mlps(x, networks)[1].sum(), parameters_of(networks[:1])):
        assert (gradient == 0).all()


@needs_kernels
@on_every_isa
def test_no_rows_have_no_gradient() -> None:
    networks, layer = networks_of(3, [[4, 2], [5]], torch.float32), layer_of(3, 2, torch.float32)
    x, none = random(6, 3, seed=1, dtype=torch.float32), torch.zeros(0, dtype=torch.int64)
    outputs = mlps(x, networks, none)
    assert [y.shape for y in outputs] == [(0, 2), (0, 5)]
    chosen = linear_chosen(layer, x[:0], none)
    assert chosen.shape == (0,)
    assert greedy_linear(layer, x[:0], torch.zeros(0, 2, dtype=torch.bool)).shape == (0,)
    for gradient in (
        *gradients_of(outputs, parameters_of(networks)),
        *torch.autograd.grad(chosen.sum(), list(layer.parameters())),
    ):
        assert (gradient == 0).all()


@needs_kernels
@on_every_isa
def test_a_row_has_the_same_bits_in_any_company() -> None:
    """Alone, and wherever it falls in a tile or a block."""
    x, choice = random(600, 7, seed=1, dtype=torch.float32), integers(600, low=-1, high=6)
    networks, layer = networks_of(7, [[19, 5], [3]], torch.float32), layer_of(7, 6, torch.float32)
    legal = integers(600, 6, high=2).bool()

    @torch.no_grad()
    def results(rows: Tensor) -> tuple[Tensor, ...]:
        chosen, best = linear_chosen(layer, x[rows], choice[rows]), greedy_linear(layer, x[rows], legal[rows])
        return *mlps(x, networks, rows), *mlps(x[rows], networks), chosen, best

    together = results(torch.arange(600))
    for seed, n_rows in enumerate([*[1] * 9, *range(2, 30), 95, 97, 205]):
        rows = integers(n_rows, high=600, seed=seed)
        for a, b in zip(results(rows), together, strict=True):
            assert torch.equal(a, b[rows])


@needs_kernels
@on_every_isa
@dtypes
def test_nan_stays_in_its_row(dtype: torch.dtype) -> None:
    x = random(200, 5, seed=1, dtype=dtype)
    x[[3, 110], [0, 4]] = torch.nan
    networks, layer = networks_of(5, [[19, 4], [3]], dtype), layer_of(5, 6, dtype)
    rows = integers(230, high=200)
    touched = x.isnan().any(-1)
    assert touched[rows].any()
    with torch.no_grad():
        for y in mlps(x, networks, rows):
            assert torch.equal(y.isnan().any(-1), touched[rows])
            assert torch.equal(y.isnan().all(-1), touched[rows])
        assert torch.equal(linear_chosen(layer, x, integers(200, high=6)).isnan(), touched)
        legal = torch.ones(200, 6, dtype=torch.bool)
        choice, clean = greedy_linear(layer, x, legal), greedy_linear(layer, x.nan_to_num(0), legal)
    assert (choice[touched] == 0).all()  # all values are NaN there, and the first is taken
    assert torch.equal(choice[~touched], clean[~touched])


# One output of each row.


def test_the_naive_choice_is_a_loop() -> None:
    layer, x, choice = layer_of(3, 4, torch.float64), random(9, 3, seed=1), integers(9, low=-2, high=4)
    want = [x.new_zeros(()) if c < 0 else layer(x[i])[c] for i, c in enumerate(choice.tolist())]
    torch.testing.assert_close(linear_chosen_naive(layer, x, choice), torch.stack(want))


CHOSEN = [(1, 1, 1), (7, 5, 3), (97, 33, 17), (513, 64, 14), (600, 3, 2), (5000, 6, 5)]


def chosen_both(
    n_rows: int, n_inputs: int, n_outputs: int, dtype: torch.dtype, *, exact: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    choice = integers(n_rows, low=-1, high=n_outputs)
    results: list[list[Tensor]] = []
    for kind in (dtype, torch.float64):
        layer = layer_of(n_inputs, n_outputs, kind, quarters=exact)
        x = random(n_rows, n_inputs, seed=3, dtype=kind)
        x = (x.round() if exact else x).requires_grad_()
        way = linear_chosen_naive if results else linear_chosen
        y = way(layer, x, choice)
        results.append([y.detach(), *gradients_of([y], [x, *layer.parameters()])])
    return results[0], results[1]


@needs_kernels
@on_every_isa
@dtypes
@pytest.mark.parametrize(("n_rows", "n_inputs", "n_outputs"), CHOSEN)
def test_chosen(n_rows: int, n_inputs: int, n_outputs: int, dtype: torch.dtype) -> None:
    for a, b in zip(*chosen_both(n_rows, n_inputs, n_outputs, dtype), strict=True):
        assert relative_error(a, b) < TOLERANCE[dtype]


@needs_kernels
@given(st.integers(1, 300), st.integers(1, 70), st.integers(1, 20), st.sampled_from(list(TOLERANCE)))
def test_chosen_of_any_shape(n_rows: int, n_inputs: int, n_outputs: int, dtype: torch.dtype) -> None:
    for a, b in zip(*chosen_both(n_rows, n_inputs, n_outputs, dtype, exact=True), strict=True):
        assert relative_error(a, b) == 0


@ways
@on_every_isa
def test_no_choice_is_zero_and_has_no_gradient(monkeypatch: pytest.MonkeyPatch, has_kernels: bool) -> None:
    """Whatever the row holds."""
    only_with(has_kernels, monkeypatch)
    layer, x = layer_of(5, 3, torch.float32), random(4, 5, seed=1, dtype=torch.float32)
    x[1], x[3] = torch.nan, torch.inf
    x.requires_grad_()
    y = linear_chosen(layer, x, torch.tensor([2, -1, 0, -7]))
    assert y[[1, 3]].tolist() == [0.0, 0.0]
    of_x, *of_parameters = gradients(y, x, *layer.parameters())
    assert (of_x[[1, 3]] == 0).all()
    assert (of_x[[0, 2]] != 0).all()
    for gradient in of_parameters:
        assert gradient.isfinite().all()
        assert (gradient[1] == 0).all()
    y = linear_chosen(layer, x, torch.full((4,), -1))
    for gradient in (y, *gradients(y, x, *layer.parameters())):
        assert (gradient == 0).all()


@ways
def test_chosen_by_every_way(monkeypatch: pytest.MonkeyPatch, has_kernels: bool) -> None:
    """Rows of more than one axis, and of any strides."""
    only_with(has_kernels, monkeypatch)
    layer, choice = layer_of(5, 3, torch.float64), integers(3, 4, low=-1, high=3).t()
    x = random(3, 4, 5, seed=1).transpose(0, 1).requires_grad_()
    y = linear_chosen(layer, x, choice)
    want = torch.where(choice < 0, 0, layer(x).gather(-1, choice.clamp(min=0)[..., None])[..., 0])
    torch.testing.assert_close(y, want)
    parameters = x, *layer.parameters()
    for a, b in zip(gradients(y, *parameters), gradients(want, *parameters), strict=True):
        torch.testing.assert_close(a, b)


@needs_kernels
@on_every_isa
def test_chosen_gradcheck() -> None:
    layer, x = layer_of(3, 4, torch.float64), random(7, 3, seed=1).requires_grad_()
    choice = torch.tensor([3, -1, 0, 0, 2, 1, -1])

    def chosen(x: Tensor, *_: Tensor) -> Tensor:  # gradcheck changes the parameters in place
        return linear_chosen(layer, x, choice)

    assert torch.autograd.gradcheck(chosen, (x, *layer.parameters()))


# The agent, which is made of these.


@ways
@dtypes
@pytest.mark.parametrize("share", ["all", "none"])
@pytest.mark.parametrize("seed", range(3))
def test_the_value_of_an_action_is_the_agents_value(
    monkeypatch: pytest.MonkeyPatch, has_kernels: bool, seed: int, share: Share, dtype: torch.dtype
) -> None:
    only_with(has_kernels, monkeypatch)
    spec = make_spec(obs_dtype=dtype)
    batch = random_batch(seed, n_episodes=8, spec=spec)
    actor = make_actor(spec, share=share, hidden_size=6, dtype=dtype)
    actions = integers(batch.n_frames, spec.n_agents, low=NO_ACTION, high=spec.n_actions, seed=seed)
    features, values = actor.agent.features(batch), actor(batch)
    of_actions = actor.head.chosen(features, actions)
    want = torch.where(actions == NO_ACTION, 0.0, values.gather(-1, actions.clamp(min=0)[..., None])[..., 0])
    torch.testing.assert_close(of_actions, want)
    parameters = list(actor.parameters())
    for a, b in zip(gradients(of_actions, *parameters), gradients(want, *parameters), strict=True):
        torch.testing.assert_close(a, b)
    legal = batch["avail_actions"]
    assert torch.equal(actor.head.greedy(features, legal), greedy(values.detach(), legal))
