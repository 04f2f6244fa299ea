"""Numbers that an environment gives, as arrays of a known shape and dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from endmark.envs.contract import LARGEST, fault, first_index, place
from endmark.envs.errors import ContractError
from endmark.wording import shown

FLOAT32 = np.dtype(np.float32)
UINT8 = np.dtype(np.uint8)
BOOL = np.dtype(np.bool_)


def fitted(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> npt.NDArray[Any]:
    """The value as an array of this shape and dtype, of which it may be another kind, such as a list.

    `ContractError` for another shape, for what is no number, and for numbers that the dtype does not hold:
    1e300 in float32, 2 or NaN as a bool. NaN and infinities are numbers here.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:  # sequences of different lengths
        raise fault(where, shown(value), f"numbers of shape {shape}") from error
    if array.dtype.kind not in "biuf":
        raise _no_numbers(array, shape, where)
    if array.shape != shape:
        raise fault(where, f"shape {array.shape}", f"shape {shape}")
    # A cast that overflows would warn, and to keep numpy from it takes longer than to look first.
    if dtype == FLOAT32 and b"\0" not in (np.abs(array) <= LARGEST).tobytes():
        return array.astype(dtype)
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
    lost = np.isfinite(array) & ~np.isfinite(cast) if dtype.kind == "f" else cast != array
    if lost.any():
        index = first_index(lost)
        want = {"b": "0 or 1", "f": f"a number that {dtype} can hold"}.get(
            dtype.kind, f"a whole number that {dtype} can hold"
        )
        raise fault(place(where, index), array[index], want)
    return cast


def _no_numbers(array: npt.NDArray[Any], shape: tuple[int, ...], where: str) -> ContractError:
    """The error for the first thing that is no number."""
    for index, item in np.ndenumerate(array):
        if not isinstance(item, int | float | np.number | np.bool_):
            return fault(place(where, index), shown(item), "a number")
    return fault(where, f"dtype {array.dtype}", f"numbers of shape {shape}")


def fill(row: npt.NDArray[Any], value: Any, shape: tuple[int, ...], where: str) -> None:
    """Write numbers of this shape into a row of as many, flat or of the same shape; see `fitted`."""
    if type(value) is not np.ndarray or value.dtype is not row.dtype or value.shape != shape:
        value = fitted(value, shape, row.dtype, where)
    row[:] = value if len(shape) == 1 else value.reshape(row.shape)
