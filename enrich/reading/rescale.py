"""Stored values to rescaled ones (PS3.3 C.11.1): Hounsfield units for CT."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_INT16 = np.iinfo(np.int16)


def is_integral(slope: float, intercept: float) -> bool:
    """Whether every rescaled value is an integer, whatever the stored ones."""
    return slope.is_integer() and intercept.is_integer()


def fits_int16(stored: NDArray[Any], slope: float, intercept: float) -> bool:
    """Whether int16 holds all of ``slope * stored + intercept``; slope and intercept are integers."""
    ends = (slope * float(stored.min()) + intercept, slope * float(stored.max()) + intercept)
    return _INT16.min <= min(ends) and max(ends) <= _INT16.max


def rescale_into(out: NDArray[Any], stored: NDArray[Any], slope: float, intercept: float) -> None:
    """Write ``slope * stored + intercept`` into `out` (j, i), of int16 or float32.

    For int16 the result must fit (`fits_int16`) though steps on the way may not: two's complement
    wraps both ways, so 40000 - 32768 is right even where 40000 is no int16.
    """
    if out.dtype != np.int16:
        out[:] = stored.astype(np.float64) * slope + intercept
        return
    np.copyto(out, stored, casting="unsafe")
    if slope != 1:
        np.multiply(out, _wrapped(slope), out=out)
    if intercept:
        np.add(out, _wrapped(intercept), out=out)


def _wrapped(value: float) -> np.int16:
    return np.int64(value).astype(np.int16)
