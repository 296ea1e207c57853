"""What the values of a source look like: range, a small histogram, how many different ones there are.

Arrays are of any real dtype, before any window; the statistics are JSON values. They serve warnings and
reports, and decide nothing about a volume.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 32
SAMPLED = 1 << 18  # values that the histogram is taken of, evenly spread over the whole array
FEW = 64  # different values or fewer are told one by one


def describe(array: NDArray[Any], limits: tuple[float, float]) -> dict[str, Any]:
    """Range, histogram and number of different values of a source's array.

    ``min`` and ``max`` are of all finite values. ``histogram`` counts about 2**18 of them in 32 equal bins
    between ``limits``, in the source's unit; values beyond fall into the first and the last. ``different``
    is the number of different values among these, or null if there are more than 64.
    """
    flat = array.reshape(-1) if array.flags.c_contiguous else array.ravel(order="K")
    values = flat[:: max(1, flat.size // SAMPLED)]
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    low, high = limits
    within = np.clip(values, low, high).astype(np.float32)  # first, for float32 ends where float64 goes on
    bins = np.clip((within - low) * np.float32(BINS / (high - low)), 0, BINS - 1)
    counts = np.bincount(bins.astype(np.intp), minlength=BINS)
    different = int(np.unique(values).size)
    smallest, largest = _range(flat)
    return {
        "min": smallest,
        "max": largest,
        "limits": [low, high],
        "histogram": counts.tolist(),
        "different": different if different <= FEW else None,
    }


def _range(flat: NDArray[Any]) -> tuple[float, float]:
    if flat.dtype.kind in "iu":
        return float(flat.min()), float(flat.max())
    smallest, largest = float(np.fmin.reduce(flat)), float(np.fmax.reduce(flat))  # past NaN
    if np.isfinite([smallest, largest]).all():
        return smallest, largest
    finite = flat[np.isfinite(flat)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
