"""Which slices of a stack stand for all of them: what SIZ was compared with.

Indices are int64 (depth,), from 0 on, never falling; slices keep their values. Where a stack has fewer than
``depth`` slices, all are taken, and the last is repeated.

Source: Zunair, Rahman, Mohammed, Cohen, "Uniformizing techniques to process CT scans with 3D CNNs for
tuberculosis prediction", PRIME 2020: subset and even slice selection (SSS, ESS), there with a depth of 64.
"""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def subset(slices: int, depth: int) -> Indices:
    """The first quarter of ``depth``, a half from the middle of the stack, and the last quarter.

    With a depth of 64: the first 16, the middle 32 and the last 16. Where it is not a multiple of 4, the
    middle gets the rest. Raises ValueError for a stack or a depth of less than 1.
    """
    _check(slices, depth)
    if slices <= depth:
        return _all_and_last(np.arange(slices), depth)
    quarter = depth // 4
    middle = depth - 2 * quarter
    start = slices // 2 - middle // 2
    ends = np.arange(quarter), np.arange(slices - quarter, slices)
    return np.concatenate([ends[0], np.arange(start, start + middle), ends[1]])


def even(slices: int, depth: int) -> Indices:
    """Every n-th slice from the first on, n = floor(slices / depth), cut to ``depth``.

    Unless ``slices`` is a multiple of ``depth``, the end of the stack is missing: of 127 slices and a depth
    of 64, the last 63. Raises ValueError for a stack or a depth of less than 1.
    """
    _check(slices, depth)
    step = max(1, slices // depth)
    return _all_and_last(np.arange(0, slices, step)[:depth], depth)


def _all_and_last(indices: Indices, depth: int) -> Indices:
    return np.pad(indices, (0, depth - len(indices)), mode="edge")


def _check(slices: int, depth: int) -> None:
    if slices < 1 or depth < 1:
        raise ValueError(f"a stack and a depth have at least one slice, not {slices} and {depth}")
