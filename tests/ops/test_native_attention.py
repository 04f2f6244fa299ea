"""The native attention on every instruction set that this processor has, against the loop in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from endmark.episodes import ragged
from endmark.ops import native, ragged_attention, ragged_attention_naive
from support.helpers import relative_error
from support.native_cases import TOLERANCE, dtypes, gradients, needs_kernels, on_every_isa, random

SHAPES = {
    "one frame": ([0], 1, 1, 2, 5),
    "one step": ([1], 1, 2, 6, 5),
    "blocks": ([23, 24, 25, 47, 48, 70], 2, 1, 16, 1000),
    "blocks and a window": ([23, 24, 70], 2, 2, 8, 30),
    "a short window": ([40, 3], 3, 2, 4, 2),
    "only itself": ([9, 30], 2, 1, 10, 1),
    "the usual size": ([12, 3, 40], 8, 4, 16, 128),
    "a wide head": ([30, 5], 1, 1, 70, 20),
    "ragged": ([1, 9, 2, 0, 5, 1, 30, 7], 5, 3, 6, 8),
}


def attend(qkv: Tensor, lengths: list[int], heads: int, window: int) -> Tensor:
    return ragged_attention(qkv, ragged.TimeMajor(torch.tensor(lengths)), heads=heads, window=window)


def assert_right(
    lengths: list[int], agents: int, heads: int, size: int, window: int, dtype: torch.dtype
) -> None:
    results: list[tuple[Tensor, ...]] = []
    for kind in (dtype, torch.float64):
        shape = sum(lengths) + len(lengths), agents, 3 * heads * size
        qkv = random(*shape, seed=5, dtype=kind).requires_grad_()
        if not results:
            out = attend(qkv, lengths, heads, window)
        else:
            out = ragged_attention_naive(qkv, torch.tensor(lengths), heads=heads, window=window)
        results.append((out, *gradients(out, qkv)))
    for given_, want in zip(*results, strict=True):
        assert relative_error(given_, want) < 2 * TOLERANCE[dtype]


@needs_kernels
@on_every_isa
@dtypes
@pytest.mark.parametrize(("lengths", "agents", "heads", "size", "window"), SHAPES.values(), ids=SHAPES)
def test_it_is_the_loop(
    lengths: list[int], agents: int, heads: int, size: int, window: int, dtype: torch.dtype
) -> None:
    assert_right(lengths, agents, heads, size, window, dtype)


@needs_kernels
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 20),
    st.integers(1, 40),
    st.sampled_from(list(TOLERANCE)),
)
def test_any_shape(
    lengths: list[int], agents: int, heads: int, half: int, window: int, dtype: torch.dtype
) -> None:
    assert_right(lengths, agents, heads, 2 * half, window, dtype)


@needs_kernels
@on_every_isa
@pytest.mark.usefixtures("threads")
def test_threads_and_company_change_no_bit() -> None:
    lengths = [30, 4, 17, 50]
    qkv = random(105, 3, 48, seed=1, dtype=torch.float32).requires_grad_()
    torch.set_num_threads(1)
    want = attend(qkv, lengths, 2, 20)
    (slope,) = gradients(want, qkv)
    torch.set_num_threads(3)
    out = attend(qkv, lengths, 2, 20)
    assert torch.equal(out, want)
    assert torch.equal(gradients(out, qkv)[0], slope)
    assert torch.equal(attend(qkv[36:54], [17], 2, 20), want[36:54])
    with torch.no_grad():
        assert torch.equal(attend(qkv, lengths, 2, 20), want)


@needs_kernels
@on_every_isa
@dtypes
@pytest.mark.parametrize("factor", [1.0, 30.0, 1000.0])
def test_scores_that_are_far_apart(factor: float, dtype: torch.dtype) -> None:
    """No exponential overflows, and none of those that vanish is a number that means nothing."""
    qkv = (factor * random(31, 2, 24, seed=2)).to(dtype)
    out = attend(qkv, [30], 2, 100)
    want = ragged_attention_naive(qkv.double(), torch.tensor([30]), heads=2, window=100)
    assert out.isfinite().all()
    assert relative_error(out, want) < (1e-4 if dtype == torch.float32 else 1e-9)


@needs_kernels
@pytest.mark.parametrize("way", ["native", "grouped"])
@pytest.mark.parametrize("window", [2, 100])
def test_the_way_through_torch(way: str, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways are the loop, where episodes of several lengths go together and apart."""
    if way == "grouped":
        monkeypatch.setattr("endmark.ops.attention.usable", lambda *_: False)
    assert_right([9, 8, 8, 2, 5, 0, 9, 3], 2, 2, 4, window, torch.float64)


@needs_kernels
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lengths": [3, 3]}, r"qkv: given 7 frames, want sum\(lengths \+ 1\) = 8"),
        ({"lengths": [-1, 6]}, r"lengths: episode 0: given -1, want 0 or more"),
        ({"n_heads": 5}, r"qkv: given 24 numbers a row for 5 heads, want 3 x heads x an even number"),
        ({"n_heads": 8}, r"qkv: given 24 numbers a row for 8 heads, want 3 x heads x an even number"),
        ({"n_heads": 0}, r"qkv: given 24 numbers a row for 0 heads, want 3 x heads x an even number"),
        ({"window": 0}, r"window: given 0, want 1 or more"),
        ({"cos": (3, 2)}, r"cos: given shape \(3, 2\), want \(5, 2\)"),
        ({"sin": (5, 4)}, r"sin: given shape \(5, 4\), want \(5, 2\)"),
        ({"out": (7, 1, 24)}, r"out: given shape \(7, 1, 24\), want \(7, 1, 8\)"),
        ({"saved": (7, 1, 3, 2)}, r"saved: given shape \(7, 1, 3, 2\), want \(7, 1, 2, 2\)"),
        ({"grad": (7, 1, 3)}, r"grad: given shape \(7, 1, 3\), want \(7, 1, 8\)"),
        ({"grad_qkv": (7, 1, 3)}, r"grad_qkv: given shape \(7, 1, 3\), want \(7, 1, 24\)"),
    ],
)
def test_a_wrong_shape_is_named(changed: dict[str, object], words: str) -> None:
    shapes = {"cos": (5, 2), "sin": (5, 2), "out": (7, 1, 8), "saved": (7, 1, 2, 2)}
    shapes |= {"grad": (7, 1, 8), "grad_qkv": (7, 1, 24)}
    arrays = {
        name: torch.zeros(changed.get(name, shape)).numpy()  # type: ignore[call-overload]
        for name, shape in shapes.items()
    }
    options = {"n_heads": 2, "window": 3} | {k: v for k, v in changed.items() if k in ("n_heads", "window")}
    lengths = torch.tensor(changed.get("lengths", [1, 4])).numpy()
    qkv = torch.zeros(7, 1, 24).numpy()
    common = qkv, lengths, options["n_heads"], options["window"], arrays["cos"], arrays["sin"]
    kernels = native.native
    assert kernels is not None
    with pytest.raises(ValueError, match=words):
        kernels.attention_backward(
            *common, arrays["out"], arrays["saved"], arrays["grad"], arrays["grad_qkv"], 1
        )
    if not changed.keys() & {"grad", "grad_qkv"}:
        with pytest.raises(ValueError, match=words):
            kernels.attention_forward(*common, arrays["out"], arrays["saved"], 1)
