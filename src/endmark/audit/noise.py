"""Pin the noise of a loss that samples: every cell of a batch gets the same, whatever the batch's shape.

Dropout and Gumbel noise fall otherwise on a batch of another shape or order: it cannot be compared then. So
torch's random operations give a fixed number each; those of three or more axes one for each entry of the last
axis, such as an action. This depends on no row, column or number of calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Drawn = Callable[[Any, Any], Any]
"""Pinned numbers in place of an operation, by its arguments; None if it has to run as it is."""


class PinnedNoise(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, torch draws pinned numbers. `missed` is set if it draws in another way, such as `randperm`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.missed = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, or fill its result with pinned numbers."""
        kwargs = dict(kwargs or {})
        name = func._schema.name.removeprefix("aten::")
        if name in _DRAWN and (drawn := _DRAWN[name](args, dict(kwargs))) is not None:
            return drawn
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.missed = True
        return func(*args, **kwargs)


def _uniform(like: Tensor) -> Tensor:
    """Numbers between 0 and 1 of the shape and type of `like`."""
    if like.ndim < 3:
        return torch.full_like(like, 0.5)
    steps = torch.arange(like.shape[-1], device=like.device, dtype=torch.float64)
    spread = (0.5 + 0.6180339887 * steps).frac().clamp(0.02, 0.98)
    return spread.to(like.dtype).expand(like.shape).clone()


def _normal(like: Tensor) -> Tensor:
    wide = like if like.dtype in (torch.float32, torch.float64) else like.float()
    normal: Tensor = 2.0**0.5 * torch.erfinv(2 * _uniform(wide) - 1)
    return normal.to(like.dtype)


def _made(empty: Callable[..., Tensor], fill: Callable[[Tensor], Tensor]) -> Drawn:
    """For `rand` and its like: made by a size, or like another tensor."""

    def draw(args: Any, kwargs: Any) -> Tensor:
        kwargs.pop("generator", None)
        return fill(empty(args[0], **kwargs))

    return draw


def _empty(size: Any, **kwargs: Any) -> Tensor:
    return torch.empty(size, **kwargs)


def _uniform_(args: Any, kwargs: Any) -> Any:
    low = args[1] if len(args) > 1 else kwargs.get("from", 0.0)
    high = args[2] if len(args) > 2 else kwargs.get("to", 1.0)
    return args[0].copy_(low + (high - low) * _uniform(args[0]))


def _normal_(args: Any, kwargs: Any) -> Any:
    mean = args[1] if len(args) > 1 else kwargs.get("mean", 0.0)
    std = args[2] if len(args) > 2 else kwargs.get("std", 1.0)
    return args[0].copy_(mean + std * _normal(args[0]))


def _normal_of(args: Any, kwargs: Any) -> Any:
    mean, std = args[0], args[1] if len(args) > 1 else kwargs.get("std", 1.0)
    like = mean if isinstance(mean, Tensor) else std
    if not isinstance(like, Tensor):
        kwargs.pop("generator", None)
        kwargs.pop("std", None)
        like = torch.empty(args[2], **kwargs)
    return mean + std * _normal(like)


def _exponential_(args: Any, kwargs: Any) -> Any:
    rate = args[1] if len(args) > 1 else kwargs.get("lambd", 1.0)
    return args[0].copy_(-_uniform(args[0]).log() / rate)


def _bernoulli(args: Any, kwargs: Any) -> Any:
    wide = args[0] if args[0].is_floating_point() else args[0].float()
    share = args[1] if len(args) > 1 else kwargs.get("p", wide)
    return (_uniform(wide) < share).to(args[0].dtype)


def _bernoulli_(args: Any, kwargs: Any) -> Any:
    share = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
    return args[0].copy_(_bernoulli((args[0], share), {}))


def _dropout(args: Any, kwargs: Any) -> Any:
    x, share, train = args
    if train is False or share >= 1 or kwargs:
        return None
    kept = _uniform(x) < 1 - share
    return torch.where(kept, x / (1 - share), torch.zeros_like(x)), kept


def _multinomial(args: Any, kwargs: Any) -> Any:
    if args[1] != 1 or kwargs.get("out") is not None:
        return None
    shares = args[0].cumsum(-1) / args[0].sum(-1, keepdim=True)
    return (shares < 0.5).sum(-1, keepdim=True).clamp(max=args[0].shape[-1] - 1)


_DRAWN: dict[str, Drawn] = {
    "rand": _made(_empty, _uniform),
    "randn": _made(_empty, _normal),
    "rand_like": _made(torch.empty_like, _uniform),
    "randn_like": _made(torch.empty_like, _normal),
    "uniform_": _uniform_,
    "normal_": _normal_,
    "normal": _normal_of,
    "exponential_": _exponential_,
    "bernoulli": _bernoulli,
    "bernoulli_": _bernoulli_,
    "native_dropout": _dropout,
    "multinomial": _multinomial,
}
