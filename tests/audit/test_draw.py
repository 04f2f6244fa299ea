"""Values that overwrite a field look like its real ones."""

from __future__ import annotations

import pytest
import torch

from endmark.audit.draw import Style, draw


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool]
)
@pytest.mark.parametrize("style", ["random", "other random", "zero"])
def test_what_is_drawn_is_like_what_is_there(dtype: torch.dtype, style: Style) -> None:
    real = torch.tensor([0, 1, 3, 4, 4]).to(dtype)
    drawn = [
        draw(torch.zeros(500, 2).to(dtype), real, style, torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    ]
    assert drawn[0].dtype == dtype
    assert torch.equal(drawn[0], drawn[1])
    if style == "zero":
        assert not drawn[0].any()
    else:
        assert not torch.equal(drawn[0], drawn[2])
        if not dtype.is_floating_point:
            assert real.min() <= drawn[0].min() <= drawn[0].max() <= real.max()
        else:
            assert drawn[0].isfinite().all()
            assert drawn[0].abs().min() >= 1  # visibly away from the zeros of padding
            assert drawn[0].abs().max() > real.max()


def test_the_two_random_draws_differ_and_nan_is_nan() -> None:
    like, real = torch.zeros(20), torch.rand(5)
    one, other = (draw(like, real, s, torch.Generator().manual_seed(3)) for s in ("random", "other random"))
    assert not torch.equal(one, other)
    assert draw(like, real, "nan", torch.Generator()).isnan().all()
    assert draw(like, real, "inf", torch.Generator()).isinf().all()
    nothing = draw(
        torch.zeros(3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), "random", torch.Generator()
    )
    assert nothing.shape == (3,)
