"""Log-probability and entropy from the layer of the logits, against loops in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from endmark.nets.groups import Share
from endmark.ops import categorical, native, policy_terms
from endmark.ops.native import native as kernels
from endmark.ops.policy_terms import policy_terms_naive
from support.actors import make_actor
from support.helpers import make_spec, random_batch, relative_error
from support.native_cases import (
    TOLERANCE,
    dtypes,
    integers,
    layer_of,
    needs_kernels,
    on_every_isa,
    random,
)

ways = pytest.mark.parametrize("has_kernels", [True, False])


def rows_of(n_rows: int, n_actions: int) -> tuple[Tensor, Tensor]:
    """Legal actions, in some rows none, and an action of each row: none, legal or illegal."""
    legal = integers(n_rows, n_actions, high=2, seed=1).bool()
    legal[::7] = False
    return legal, integers(n_rows, low=-1, high=n_actions, seed=2)


def looped(layer: nn.Linear, x: Tensor, legal: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Row by row, over the legal actions alone."""
    log_probs, entropies = [], []
    for row, action in enumerate(actions.tolist()):
        among = legal[row].nonzero()[:, 0] if legal[row].any() else torch.arange(legal.shape[1])
        log_p = layer(x[row])[among].log_softmax(-1)
        at = among.tolist().index(action) if action in among.tolist() else None
        nothing = x.new_zeros(())
        log_probs.append(nothing if action < 0 else nothing - torch.inf if at is None else log_p[at])
        entropies.append(nothing if action < 0 else -(log_p.exp() * log_p).sum())
    return torch.stack(log_probs), torch.stack(entropies)


def gradients_of(terms: tuple[Tensor, Tensor], x: Tensor, layer: nn.Linear) -> tuple[Tensor, ...]:
    """Of both together. An illegal action, whose log-probability is -inf, gets no gradient here."""
    directions = [random(*term.shape, seed=9 + i, dtype=term.dtype) for i, term in enumerate(terms)]
    directions[0] = torch.where(terms[0].isfinite(), directions[0], 0.0)
    return torch.autograd.grad(terms, [x, *layer.parameters()], directions)


def test_the_naive_terms_are_a_loop() -> None:
    layer, x = layer_of(3, 4, torch.float64), random(30, 3, seed=3).requires_grad_()
    legal, actions = rows_of(30, 4)
    ours, want = policy_terms_naive(layer, x, legal, actions), looped(layer, x, legal, actions)
    for a, b in zip(
        (*ours, *gradients_of(ours, x, layer)), (*want, *gradients_of(want, x, layer)), strict=True
    ):
        torch.testing.assert_close(a, b)


def both(
    n_rows: int, n_inputs: int, n_actions: int, dtype: torch.dtype, scale: float = 1.0
) -> list[list[Tensor]]:
    """Results and gradients of `policy_terms` in this type, and of its naive twin in float64."""
    legal, actions = rows_of(n_rows, n_actions)
    results = []
    for kind, way in ((dtype, policy_terms), (torch.float64, policy_terms_naive)):
        layer = layer_of(n_inputs, n_actions, torch.float32).to(kind)  # the same weights in both
        x = (scale * random(n_rows, n_inputs, seed=3, dtype=torch.float32)).to(kind).requires_grad_()
        terms = way(layer, x, legal, actions)
        results.append([*(term.detach() for term in terms), *gradients_of(terms, x, layer)])
    return results


SHAPES = [(1, 1, 1), (7, 5, 3), (97, 33, 17), (513, 64, 14), (600, 3, 2), (2000, 6, 35)]


@needs_kernels
@on_every_isa
@dtypes
@pytest.mark.parametrize(("n_rows", "n_inputs", "n_actions"), SHAPES)
def test_against_the_naive_terms(n_rows: int, n_inputs: int, n_actions: int, dtype: torch.dtype) -> None:
    ours, want = both(n_rows, n_inputs, n_actions, dtype)
    assert torch.equal(ours[0].isinf(), want[0].isinf())
    for a, b in zip(ours, want, strict=True):
        finite = b.isfinite()
        assert relative_error(a[finite], b[finite]) < 5 * TOLERANCE[dtype]


@needs_kernels
@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 40), st.sampled_from([0.0, 1.0, 30.0]))
def test_of_any_shape_and_certainty(n_rows: int, n_inputs: int, n_actions: int, scale: float) -> None:
    ours, want = both(n_rows, n_inputs, n_actions, torch.float64, scale)
    assert torch.equal(ours[0].isinf(), want[0].isinf())
    for a, b in zip(ours, want, strict=True):
        finite = b.isfinite()
        torch.testing.assert_close(a[finite], b[finite], rtol=1e-11, atol=1e-11)


@ways
@on_every_isa
def test_no_action_is_zero_and_has_no_gradient(monkeypatch: pytest.MonkeyPatch, has_kernels: bool) -> None:
    """Whatever the row holds."""
    if not has_kernels:
        monkeypatch.setattr(native, "native", None)
    layer, x = layer_of(5, 3, torch.float32), random(4, 5, seed=1, dtype=torch.float32)
    x[1], x[3] = torch.nan, torch.inf
    x.requires_grad_()
    terms = policy_terms(layer, x, torch.ones(4, 3, dtype=torch.bool), torch.tensor([2, -1, 0, -7]))
    for term in terms:
        assert term[[1, 3]].tolist() == [0.0, 0.0]
    of_x, *of_parameters = gradients_of(terms, x, layer)
    assert (of_x[[1, 3]] == 0).all()
    assert (of_x[[0, 2]] != 0).all()
    assert all(gradient.isfinite().all() for gradient in of_parameters)


@needs_kernels
@on_every_isa
@dtypes
def test_nan_stays_in_its_row_and_large_logits_are_no_overflow(dtype: torch.dtype) -> None:
    x = random(200, 5, seed=1, dtype=dtype)
    x[[3, 110], [0, 4]] = torch.nan
    x[7] *= 1e5
    layer, (legal, _) = layer_of(5, 6, dtype), rows_of(200, 6)
    legal[7] = True
    with torch.no_grad():
        for term in policy_terms(layer, x, legal, legal.int().argmax(-1)):
            assert torch.equal(term.isnan(), x.isnan().any(-1))
            assert term[7].isfinite()


@needs_kernels
@on_every_isa
@pytest.mark.usefixtures("threads")
def test_a_row_has_the_same_bits_in_any_company_and_with_any_threads() -> None:
    layer, x = layer_of(7, 6, torch.float32), random(3000, 7, seed=1, dtype=torch.float32).requires_grad_()
    legal, actions = rows_of(3000, 6)

    def results(rows: Tensor) -> list[Tensor]:
        terms = policy_terms(layer, x[rows], legal[rows], actions[rows])
        return [term.detach() for term in terms]

    together = results(torch.arange(3000))
    for seed, n_rows in enumerate([*[1] * 5, 2, 7, 29, 95, 97, 205]):
        rows = integers(n_rows, high=3000, seed=seed)
        for a, b in zip(results(rows), together, strict=True):
            assert torch.equal(a, b[rows])

    def all_of(n_threads: int) -> tuple[Tensor, ...]:
        torch.set_num_threads(n_threads)
        terms = policy_terms(layer, x, legal, actions)
        return *terms, *gradients_of(terms, x, layer)

    for one, three in zip(all_of(1), all_of(3), strict=True):
        assert torch.equal(one, three)


@needs_kernels
@on_every_isa
def test_gradcheck() -> None:
    layer, x = layer_of(3, 4, torch.float64), random(7, 3, seed=1).requires_grad_()
    actions, legal = torch.tensor([3, -1, 0, 0, 2, 1, -1]), integers(7, 4, high=2).bool()
    legal = legal.scatter(1, actions.clamp(min=0)[:, None], True)

    def terms(x: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:  # gradcheck changes the parameters in place
        return policy_terms(layer, x, legal, actions)

    assert torch.autograd.gradcheck(terms, (x, *layer.parameters()))


@ways
@dtypes
@pytest.mark.parametrize("share", ["all", "none"])
@pytest.mark.parametrize("seed", range(2))
def test_the_terms_of_a_head_are_those_of_its_outputs(
    monkeypatch: pytest.MonkeyPatch, has_kernels: bool, seed: int, share: Share, dtype: torch.dtype
) -> None:
    """On ragged batches, with agents that leave."""
    if not has_kernels:
        monkeypatch.setattr(native, "native", None)
    spec = make_spec(obs_dtype=dtype)
    batch = random_batch(seed, n_episodes=8, spec=spec)
    actor = make_actor(spec, share=share, hidden_size=6, dtype=dtype)
    features, actions, steps = actor.agent.features(batch), batch.actions_taken, batch.step_frames
    legal = batch.avail_actions.scatter(-1, batch["actions"].clamp(0, spec.n_actions - 1)[..., None], True)
    terms = actor.head.terms(features, legal, actions)
    log_probs = categorical.log_softmax(actor.head.outputs(features), legal)[steps]
    want = categorical.log_prob(log_probs, batch.steps("actions")), categorical.entropy(log_probs)
    parameters = list(actor.parameters())
    for given_, wanted in zip(terms, want, strict=True):
        torch.testing.assert_close(given_[steps], wanted)
        assert (given_[batch.final_frames] == 0).all()
        sums = torch.where(batch.alive, given_, 0.0).sum(), torch.where(batch.alive[steps], wanted, 0.0).sum()
        ours, others = (torch.autograd.grad(total, parameters, retain_graph=True) for total in sums)
        for a, b in zip(ours, others, strict=True):
            torch.testing.assert_close(a, b)


@needs_kernels
def test_wrong_arguments_are_refused_by_name() -> None:
    def floats(*shape: int) -> Any:
        return np.zeros(shape, np.float32)

    assert kernels is not None
    given_ = {"x": floats(4, 5), "weight": floats(3, 5), "bias": floats(3), "legal": np.ones((4, 3), bool)}
    given_ |= {"taken": np.array([0, -1, 2, -9]), "n_threads": 1}
    rows = {"log_prob": floats(4), "entropy": floats(4), "log_sum": floats(4)}
    grads = {"grad_log_prob": floats(4), "grad_entropy": floats(4), "grad_x": None}
    of = {"entropy": floats(4), "log_sum": floats(4), "grad_weight": floats(3, 5), "grad_bias": floats(3)}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"taken": np.array([0, 3, 0, 0])}, "taken: row 1: given 3, want less than 3"),
        ({"taken": np.array([0, 0, 0])}, r"taken: given shape \(3\), want \(4\)"),
        ({"legal": np.ones((4, 5), bool)}, r"legal: given shape \(4, 5\), want \(4, 3\)"),
        ({"weight": floats(3, 4)}, r"weight: given shape \(3, 4\), want \(3, 5\)"),
        ({"entropy": floats(5)}, r"entropy: given shape \(5\), want \(4\)"),
    ]
    for name, more in (("policy_forward", rows), ("policy_backward", {**grads, **of})):
        function = getattr(kernels, name)
        function(**given_, **more)
        own: list[tuple[dict[str, Any], str]] = [
            ({key: floats(9)}, f"{key}: given shape") for key in rows if key in more
        ]
        for changed, message in [*cases, *own]:
            with pytest.raises(ValueError, match=message):
                function(**{**given_, **more, **changed})
