"""Values that overwrite a field stay in the domain of its real ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from endmark.audit.draw import Style, draw


def drawn(real: Tensor, style: Style = "random", seed: int = 0, rows: int = 500) -> Tensor:
    like = torch.zeros(rows, *real.shape[1:]).to(real.dtype)
    return draw(like, real, style, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool]
)
@pytest.mark.parametrize("style", ["random", "other random", "zero"])
def test_what_is_drawn_is_like_what_is_there(dtype: torch.dtype, style: Style) -> None:
    real = torch.tensor([0, 1, 3, 4, 4]).to(dtype)
    values, again, other = (drawn(real, style, seed) for seed in (0, 0, 1))
    assert values.dtype == dtype
    assert torch.equal(values, again)
    if style == "zero":
        assert not values.any()
    else:
        flipped = dtype == torch.bool and style == "other random"
        assert torch.equal(values, other) == flipped
        assert {*values.tolist()} == ({1} if flipped else {0, 1} if dtype == torch.bool else {1, 2, 3, 4})


def test_domains() -> None:
    generator = torch.Generator().manual_seed(0)
    flags = drawn((torch.rand(9, 1, generator=generator) < 0.5).float())
    assert {*flags.flatten().tolist()} == {0, 1}
    one_hot = drawn(torch.eye(4))
    assert torch.equal(one_hot.sum(1), torch.ones(500))
    assert {*one_hot.flatten().tolist()} == {0, 1}
    assert (one_hot.sum(0) > 0).all()
    legal = torch.rand(20, 2, 5, generator=generator) < 0.3
    legal[..., 0] |= ~legal.any(-1)
    assert drawn(legal).any(-1).all()  # something is legal in each row, as in the real ones
    assert not drawn(legal).all(-1).all()
    simplex = drawn(torch.randn(9, 3, generator=generator).softmax(1))
    torch.testing.assert_close(simplex.sum(1), torch.ones(500))
    assert (simplex > 0).all()
    mixed = torch.cat([torch.arange(5.0)[:, None], torch.randn(5, 1, generator=generator)], 1)
    values = drawn(mixed)
    assert {*values[:, 0].tolist()} == {1, 2, 3, 4}  # not what is there, 0
    assert mixed[:, 1].min() <= values[:, 1].min() < values[:, 1].max() <= mixed[:, 1].max()
    assert len({*values[:, 1].tolist()}) > 400


def test_fields_that_hold_one_number() -> None:
    assert {*drawn(torch.ones(4)).tolist()} == {0, 1}
    assert {*drawn(torch.zeros(4)).tolist()} == {0, 1}
    assert {*drawn(torch.full((4,), -2.0)).tolist()} == {-2, -1}
    assert {*drawn(torch.full((4,), 7)).tolist()} == {7}  # a code
    assert {*drawn(torch.ones(4).long()).tolist()} == {1}
    varied = drawn(torch.tensor([[0.5, 2.0, 3.0]]))  # one frame alone
    assert 0.5 <= varied.min() < varied.max() <= 3
    assert drawn(torch.zeros(0, 2)).shape == (500, 2)
    assert drawn(torch.tensor([torch.nan, torch.nan])).isfinite().all()
    assert drawn(torch.tensor([torch.nan, 1.5, 2.5])).isfinite().all()


def test_the_two_random_draws_differ_and_nan_is_nan() -> None:
    real = torch.rand(5)
    assert not torch.equal(drawn(real), drawn(real, "other random"))
    assert drawn(real, "nan").isnan().all()
    assert drawn(real, "inf").isinf().all()
