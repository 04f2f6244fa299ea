from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from endmark.episodes import explain_mask, shift_mask, step_mask
from endmark.episodes.masks import REASONS, as_flags
from support.helpers import all_patterns, bits

DTYPES = [
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
    torch.float32,
    torch.float64,
    torch.float16,
]

# filled, terminated, shift_mask, exact mask: DESIGN section 3, to the letter
TABLE = {
    "filled to the brim after the end": ("1111111", "0001000", "111101", "111100"),
    "PyMARL layout, ended at step 3": ("1111100", "0001000", "111100", "111100"),
    "truncated after 4 steps": ("1111100", "0000000", "111110", "111100"),
    "final frame not stored": ("1111000", "0001000", "111100", "111100"),
    "full length, truncated at the limit": ("1111111", "0000000", "111111", "111111"),
    "full length, terminated at the last step": ("1111111", "0000010", "111111", "111111"),
    "nothing filled": ("0000000", "0000000", "000000", "000000"),
}


def naive_step_mask(filled: list[int], terminated: list[int]) -> list[bool]:
    """The rule in words, one step after the other."""
    mask = []
    for t in range(len(filled) - 1):
        no_end_before = all(not terminated[s] for s in range(t))
        all_frames_so_far = all(filled[s] for s in range(t + 1))
        successor_or_end = bool(filled[t + 1] or terminated[t])
        mask.append(no_end_before and all_frames_so_far and successor_or_end)
    return mask


def three_lines(batch: dict[str, Tensor]) -> Tensor:
    """What PyMARL and its descendants run, to the letter."""
    terminated = batch["terminated"][:, :-1].float()
    mask = batch["filled"][:, :-1].float()
    mask[:, 1:] = mask[:, 1:] * (1 - terminated[:, :-1])
    return mask


@pytest.mark.parametrize("case", TABLE)
def test_worked_table(case: str) -> None:
    filled, terminated, shift, exact = TABLE[case]
    assert torch.equal(shift_mask(bits(filled), bits(terminated)), bits(shift, dtype=torch.float32))
    assert torch.equal(step_mask(bits(filled), bits(terminated)), bits(exact, dtype=torch.bool))


@pytest.mark.parametrize("n_steps", range(7))
def test_step_mask_is_the_rule_on_every_pattern(n_steps: int) -> None:
    filled, terminated = all_patterns(n_steps + 1)
    assert len(filled) == 4 ** (n_steps + 1)
    rows = zip(filled[..., 0].tolist(), terminated[..., 0].tolist(), strict=True)
    naive = torch.tensor([naive_step_mask(f, d) for f, d in rows], dtype=torch.bool)
    mask = step_mask(filled, terminated)
    assert mask.shape == (len(filled), n_steps, 1)
    assert torch.equal(mask[..., 0], naive.view(len(filled), n_steps))


@pytest.mark.parametrize("n_steps", range(7))
def test_shift_mask_is_the_three_lines_on_every_pattern(n_steps: int) -> None:
    filled, terminated = all_patterns(n_steps + 1)
    want = three_lines({"filled": filled.clone(), "terminated": terminated.clone()})
    given = shift_mask(filled, terminated)
    assert given.dtype == want.dtype == torch.float32
    assert torch.equal(given, want)


@pytest.mark.parametrize("filled_dtype", DTYPES)
@pytest.mark.parametrize("terminated_dtype", DTYPES)
def test_flags_of_every_dtype_give_the_same_masks(
    filled_dtype: torch.dtype, terminated_dtype: torch.dtype
) -> None:
    filled, terminated = all_patterns(4)
    given = filled.to(filled_dtype), terminated.to(terminated_dtype)
    exact, shift = step_mask(*given), shift_mask(*given)
    assert exact.dtype == torch.bool
    assert shift.dtype == torch.float32
    assert torch.equal(exact, step_mask(filled, terminated))
    assert torch.equal(shift, shift_mask(filled, terminated))
    assert str(explain_mask(*given)) == str(explain_mask(filled, terminated))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", [step_mask, shift_mask, explain_mask])
def test_inputs_are_not_written(function: object, dtype: torch.dtype) -> None:
    filled, terminated = (flags.to(dtype) for flags in all_patterns(4))
    before = filled.clone(), terminated.clone()
    versions = filled._version, terminated._version  # counts writes, also those that change nothing
    assert callable(function)
    function(filled, terminated)
    assert torch.equal(filled, before[0])
    assert torch.equal(terminated, before[1])
    assert (filled._version, terminated._version) == versions


def test_the_three_lines_corrupt_a_float32_batch_and_shift_mask_does_not() -> None:
    filled = bits("1111111", dtype=torch.float32)
    terminated = bits("0001000", dtype=torch.float32)
    shift_mask(filled, terminated)
    assert torch.equal(filled, bits("1111111", dtype=torch.float32))
    three_lines({"filled": filled, "terminated": terminated})
    assert torch.equal(filled, bits("1111011", dtype=torch.float32))


def test_the_mask_is_no_view_of_its_inputs() -> None:
    filled, terminated = bits("111", dtype=torch.float32), bits("000", dtype=torch.float32)
    shift_mask(filled, terminated).zero_()
    assert torch.equal(filled, bits("111", dtype=torch.float32))
    flags = bits("111", dtype=torch.bool)
    step_mask(flags, ~flags).zero_()
    as_flags("filled", flags).zero_()
    assert flags.all()


@pytest.mark.parametrize("name", ["filled", "terminated"])
@pytest.mark.parametrize(
    ("dtype", "wrong"),
    [
        (torch.int64, 2),
        (torch.int64, -1),
        (torch.int32, 1 << 20),
        (torch.uint8, 255),
        (torch.float32, 0.5),
        (torch.float32, float("nan")),
        (torch.float64, float("inf")),
        (torch.float16, 1.001),
        (torch.float64, 1 + 1e-15),
    ],
)
@pytest.mark.parametrize("function", [step_mask, shift_mask, explain_mask])
def test_other_values_are_refused_by_row_and_t(
    function: object, name: str, dtype: torch.dtype, wrong: float
) -> None:
    flags = {key: torch.zeros(3, 4, 1, dtype=dtype) for key in ("filled", "terminated")}
    flags[name][1, 2] = wrong
    assert callable(function)
    with pytest.raises(ValueError, match=rf"{name}: row 1, t 2: given .*, want 0 or 1"):
        function(**flags)


def test_wrong_value_in_the_last_column_is_refused() -> None:
    with pytest.raises(ValueError, match="terminated: row 0, t 2: given 7, want 0 or 1"):
        step_mask(bits("110"), bits("000") + 7 * bits("001"))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 2), (2, 0, 1), (2, 3, 1, 1)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    flags = torch.zeros(shape)
    # Without the annotations, which refuse these first while tests run.
    with pytest.raises(ValueError, match=r"want \(B, T\+1, 1\)"):
        inspect.unwrap(step_mask)(flags, flags)


@pytest.mark.parametrize("function", [step_mask, shift_mask])
def test_shapes_must_agree(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match=r"filled has shape \(2, 4, 1\), terminated \(2, 3, 1\)"):
        inspect.unwrap(function)(torch.zeros(2, 4, 1), torch.zeros(2, 3, 1))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", ">i4", "float32", ">f8"])
@pytest.mark.parametrize("function", [step_mask, shift_mask, explain_mask])
def test_arrays_are_taken_as_tensors_are(function: Callable[..., object], dtype: str) -> None:
    filled, terminated = all_patterns(4)
    arrays = [flags.numpy().astype(dtype) for flags in (filled, terminated)]
    for array in arrays:
        array.setflags(write=False)
    given, want = function(*arrays), function(filled, terminated)
    if isinstance(want, Tensor):
        assert isinstance(given, Tensor)
        assert torch.equal(given, want)
    else:
        assert str(given) == str(want)


@pytest.mark.parametrize("array", [np.array([["a"]]), np.array([[None]]), np.zeros((1, 2, 1), np.longdouble)])
def test_arrays_of_anything_but_numbers_are_refused(array: Any) -> None:
    with pytest.raises(TypeError, match=f"filled: given an array of {array.dtype}, want numbers"):
        as_flags("filled", array)


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="filled: given list, want a tensor or an array"):
        as_flags("filled", [[1]])


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_poison_behind_the_mask_reaches_neither_loss_nor_gradient(poison: float) -> None:
    filled, terminated = (bits(*rows) for rows in zip(*[row[:2] for row in TABLE.values()], strict=True))
    mask = step_mask(filled, terminated)
    weight = torch.randn(3, dtype=torch.float64, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(*mask.shape[:2], 3, dtype=torch.float64, generator=generator)

    def by_where(x: Tensor) -> Tensor:
        td_error = (torch.where(mask, x, 0.0) @ weight).sin()  # sin(0) = 0 where nothing is real
        return td_error.square().sum() / mask.sum()

    def by_index(x: Tensor) -> Tensor:
        return (x[mask[..., 0]] @ weight).sin().square().mean()

    losses = []
    for loss_of in (by_where, by_index):
        x = clean.clone().requires_grad_()
        want = loss_of(x)
        want_x, want_weight = torch.autograd.grad(want, [x, weight])
        assert want_weight.abs().min() > 0
        x = torch.where(mask, clean, poison).requires_grad_()
        loss = loss_of(x)
        grad_x, grad_weight = torch.autograd.grad(loss, [x, weight])
        assert torch.equal(loss, want)
        assert torch.equal(grad_weight, want_weight)
        assert torch.equal(grad_x, want_x)
        assert (grad_x[~mask[..., 0]] == 0).all()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_what_masking_must_not_be() -> None:
    """Multiplying loses the loss; selecting after a network that was fed NaN loses the gradient."""
    mask = step_mask(bits("1110"), bits("0000"))[0, :, 0]
    x = torch.tensor([1.0, 2.0, float("nan")])
    weight = torch.ones((), requires_grad=True)
    assert ((x * weight) * mask).sum().isnan()
    late = torch.where(mask, x * weight, 0.0).sum()
    assert late.isfinite()
    assert torch.autograd.grad(late, weight)[0].isnan()
    early = (torch.where(mask, x, 0.0) * weight).sum()
    assert torch.autograd.grad(early, weight)[0] == 3


def test_a_loss_over_td_errors_is_masked_by_where() -> None:
    """When the poison is itself what comes in, as with a stored log-prob or reward, `where` is enough."""
    mask = step_mask(bits("1111100"), bits("0001000"))
    td_error = torch.arange(1.0, 7.0).view(1, 6, 1)
    td_error[~mask] = float("nan")
    td_error.requires_grad_()
    loss = torch.where(mask, td_error, 0.0).square().sum()
    (gradient,) = torch.autograd.grad(loss, td_error)
    assert loss == 1 + 4 + 9 + 16
    assert gradient.flatten().tolist() == [2, 4, 6, 8, 0, 0]


@pytest.mark.parametrize(
    ("filled", "terminated", "reasons"),
    [
        ("1111111", "0001000", {5: "stale"}),
        ("1111100", "0001000", {}),
        ("1111100", "0000000", {4: "phantom"}),
        ("1111000", "0001000", {}),
        ("1111111", "0000000", {}),
        ("1111111", "0000010", {}),
        ("0000000", "0000000", {}),
        ("1111111", "0100010", {3: "second", 4: "second", 5: "second"}),
        ("1110110", "0000000", {2: "phantom", 4: "gap", 5: "gap"}),
        ("1000000", "0000000", {0: "phantom"}),
        ("0110000", "0000000", {1: "gap", 2: "gap"}),
    ],
)
def test_explain_mask_names_the_reason(filled: str, terminated: str, reasons: dict[int, str]) -> None:
    explanation = explain_mask(bits(filled), bits(terminated))
    assert {d.t: d.reason for d in explanation.differences} == reasons
    assert all(d.row == 0 for d in explanation.differences)


@pytest.mark.parametrize("n_steps", range(6))
def test_explain_mask_on_every_pattern(n_steps: int) -> None:
    filled, terminated = all_patterns(n_steps + 1)
    explanation = explain_mask(filled, terminated)
    exact, shift = step_mask(filled, terminated)[..., 0], shift_mask(filled, terminated)[..., 0].bool()
    assert torch.equal(explanation.exact, exact)
    assert torch.equal(explanation.shift, shift)
    assert torch.equal(explanation.filled, filled[..., 0].bool())
    assert torch.equal(explanation.terminated, terminated[..., 0].bool())
    assert not (exact & ~shift).any()  # the shift never counts too little
    places = [(d.row, d.t) for d in explanation.differences]
    assert places == [(row, t) for row, t in (exact != shift).nonzero().tolist()]
    for d in explanation.differences:
        frames, ends = filled[d.row, :, 0].tolist(), terminated[d.row, :, 0].tolist()
        ended_before = any(ends[: d.t])
        assert {
            "stale": ended_before and not any(ends[d.t :]),
            "second": ended_before and any(ends[d.t :]),
            "phantom": all(frames[: d.t + 1]) and not ended_before and not frames[d.t + 1] and not ends[d.t],
            "gap": not all(frames[: d.t]) and not ended_before,
        }[d.reason], str(d)


def test_explain_mask_for_people() -> None:
    explanation = explain_mask(bits("1111111", "1111100"), bits("0001000", "0000000"))
    assert str(explanation).splitlines() == [
        "row 0",
        "  filled      1111111",
        "  terminated  0001000",
        "  shift_mask  111101",
        "  exact mask  111100",
        f"  step 5: {REASONS['stale']}",
        "row 1",
        "  filled      1111100",
        "  terminated  0000000",
        "  shift_mask  111110",
        "  exact mask  111100",
        f"  step 4: {REASONS['phantom']}",
    ]
    assert str(explanation.differences[1]) == f"row 1, step 4: {REASONS['phantom']}"
