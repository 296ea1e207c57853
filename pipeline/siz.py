"""SIZ, spline interpolated zoom: one separable spline resampling of all three axes to a fixed shape.

Volumes are (depth, height, width), any real dtype; results are float32. The first and the last
sample of an axis stay where they are (``align_corners``), and samples outside repeat the edge, or
are 0 with ``mode="constant"``. That is SciPy's own default, and not without effect: where its
arithmetic puts the last sample a hair outside, the whole last slice, row or column is 0. From 512
to 224 it does.

Zooming is linear, so each axis is one matrix, and a spline's influence fades by a factor of 3.7 per
sample (order 3), so the matrix is a narrow band. Its entries are SciPy's own answers to unit
impulses, hence boundaries are SciPy's.

Does not smooth before shrinking (SciPy does not either; ``resize_antialias`` does), clip the spline's
overshoot, or treat non-finite values: one NaN spreads along its row, column and depth.

Source: M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Process. Mag.
16(6), 1999; ``scipy.ndimage.zoom``; for volumes of CT, Zunair et al., "Uniformizing techniques to
process CT scans with 3D CNNs for tuberculosis prediction", PRIME 2020.
"""

from functools import lru_cache
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.antialias import resize_antialias as resize_antialias
from pipeline.banded import Block, multiply_columns, multiply_rows

Float32 = NDArray[np.float32]
Clip = tuple[float, float] | None
Mode = Literal["nearest", "constant"]

BLOCK_ROWS = (8, 8, 16)  # of each axis, measured: narrow wastes less of the band, wide suits the processor
PLANES = 4
COMB = 128  # impulses this far apart do not feel each other: order 5 fades by 0.43 a sample
NEGLIGIBLE = 1e-6  # of an impulse; all that three axes drop is under 1e-5 of the range
STRIP_VALUES = 1 << 20


def zoom(
    volume: ArrayLike,
    shape: tuple[int, int, int],
    *,
    order: int = 3,
    mode: Mode = "nearest",
    clip: Clip = None,
) -> Float32:
    """Resample a volume to ``shape`` (depth, height, width) with a spline of ``order`` 0 to 5.

    Equals ``scipy.ndimage.zoom(volume, factors, order=order, mode=mode)`` on float64 input, with
    ``factors[i] = shape[i] / volume.shape[i]``, to 1e-5 of the range of the values. With ``clip``, the
    values are limited to this range first, slice by slice, without a copy of the volume.

    Takes whatever NumPy makes an array of: nested lists, arrays of Zarr or Dask, tensors in main memory.
    Raises ValueError if the volume is not three-dimensional, has no voxels, or is complex, or if
    ``shape``, ``order`` or ``mode`` is out of bounds.

    Examples:
        >>> zoom([[[0.0, 1.0]], [[2.0, 3.0]]], (3, 1, 2), order=1).tolist()
        [[[0.0, 1.0]], [[1.0, 2.0]], [[2.0, 3.0]]]
    """
    volume = np.asarray(volume)
    _check(volume, shape, order, mode)
    if order == 0 and mode == "nearest":
        return _zoom_nearest(volume, shape, clip)
    sizes = zip(volume.shape, shape, BLOCK_ROWS, strict=True)
    plan = [axis_blocks(size, target, order, mode, rows) for size, target, rows in sizes]
    if volume.shape[1:] == shape[1:]:
        return _zoom_depth(volume, shape[0], plan[0], clip)
    if _depth_shrinks_most(volume.shape, shape):
        return _zoom_planes(_zoom_depth(volume, shape[0], plan[0], clip), shape, plan, None)
    return _zoom_depth(_zoom_planes(volume, shape, plan, clip), shape[0], plan[0], None)


@lru_cache(maxsize=64)
def axis_blocks(size: int, target: int, order: int, mode: Mode, rows: int) -> tuple[Block, ...]:
    """The zoom of one axis from ``size`` to ``target`` samples, as blocks of ``rows`` of a banded matrix."""
    response = _impulse_responses(size, target, order, mode)
    edges = [*range(0, target, rows), target]
    return tuple(_block(response, size, first, last) for first, last in pairwise(edges))


def _check(volume: NDArray[np.generic], shape: tuple[int, int, int], order: int, mode: str) -> None:
    if volume.ndim != 3 or volume.size == 0:
        raise ValueError(f"a volume has three axes and at least one voxel, not shape {volume.shape}")
    if np.issubdtype(volume.dtype, np.complexfloating) or not np.issubdtype(volume.dtype, np.number):
        raise ValueError(f"a volume holds real numbers, not {volume.dtype}")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"the target shape is three sizes of at least 1, not {shape}")
    if order not in range(6):
        raise ValueError(f"the order of a spline is 0 to 5, not {order}")
    if mode not in get_args(Mode):
        raise ValueError(f"the mode is one of {', '.join(get_args(Mode))}, not {mode}")


def _impulse_responses(size: int, target: int, order: int, mode: Mode) -> NDArray[np.float64]:
    """SciPy's zoom of combs of unit impulses, shape (target, min(size, COMB)).

    Column ``j`` answers for every input row ``i`` with ``i % COMB == j``; an output row feels the
    nearest of them only.
    """
    comb = np.zeros((size, min(size, COMB)))
    comb[np.arange(size), np.arange(size) % COMB] = 1.0
    if size == target:
        return comb
    response: NDArray[np.float64] = ndimage.zoom(comb, (target / size, 1), order=order, mode=mode)
    return response


def _block(response: NDArray[np.float64], size: int, first: int, last: int) -> Block:
    """Cut rows ``first`` to ``last`` out of the band, and drop input rows whose weights are negligible."""
    scale = (size - 1) / max(1, len(response) - 1)
    centre = np.rint(np.arange(first, last) * scale).astype(int)
    low = max(0, int(centre[0]) - COMB // 2)
    high = min(size, int(centre[-1]) + COMB // 2)
    inputs = np.arange(low, high)
    near = np.abs(inputs - centre[:, None]) < COMB // 2
    weights = np.where(near, response[first:last][:, inputs % COMB], 0.0)
    used = np.flatnonzero((np.abs(weights) > NEGLIGIBLE).any(axis=0))
    start, stop = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
    kept = np.ascontiguousarray(weights[:, start:stop], np.float32)
    return Block(slice(first, last), slice(low + start, low + stop), kept)


def _depth_shrinks_most(size: tuple[int, ...], shape: tuple[int, int, int]) -> bool:
    """Whether zooming the depth first leaves the smaller intermediate."""
    return shape[0] * size[1] * size[2] < size[0] * shape[1] * shape[2]


def _zoom_planes(
    volume: NDArray[np.generic], shape: tuple[int, int, int], plan: list[tuple[Block, ...]], clip: Clip
) -> Float32:
    """Zoom height, then width, a few slices at a time, so that they stay in the processor's cache."""
    depth, height, width = volume.shape
    values = np.empty((PLANES, height, width), np.float32)
    rows = np.empty((PLANES, shape[1], width), np.float32)
    result = np.empty((depth, *shape[1:]), np.float32)
    for first in range(0, depth, PLANES):
        out = result[first : first + PLANES]
        part = _load(volume[first : first + PLANES], clip, values[: len(out)])
        multiply_rows(plan[1], part, rows[: len(out)])
        multiply_columns(plan[2], rows[: len(out)].reshape(-1, width), out.reshape(-1, shape[2]))
    return result


def _zoom_depth(volume: NDArray[np.generic], depth: int, blocks: tuple[Block, ...], clip: Clip) -> Float32:
    """Zoom the depth, in strips of rows, so that only a strip of the input is held as float32."""
    slices, height, width = volume.shape
    result = np.empty((depth, height, width), np.float32)
    if slices == depth:
        return _load(volume, clip, result)
    if volume.dtype == np.float32 and volume.flags.c_contiguous and clip is None:
        multiply_rows(blocks, volume.reshape(slices, -1).view(np.float32), result.reshape(depth, -1))
        return result
    step = max(1, STRIP_VALUES // (slices * width))
    buffer = np.empty(slices * min(step, height) * width, np.float32)
    for top in range(0, height, step):
        part = volume[:, top : top + step]
        strip = _load(part, clip, buffer[: part.size].reshape(part.shape))
        zoomed = np.empty((depth, part.shape[1] * width), np.float32)
        multiply_rows(blocks, strip.reshape(slices, -1), zoomed)
        result[:, top : top + step] = zoomed.reshape(depth, -1, width)
    return result


def _zoom_nearest(volume: NDArray[np.generic], shape: tuple[int, int, int], clip: Clip) -> Float32:
    """Order 0 picks samples; SciPy says which."""
    picks = [
        ndimage.zoom(np.arange(size, dtype=np.float64), target / size, order=0, mode="nearest").astype(int)
        for size, target in zip(volume.shape, shape, strict=True)
    ]
    return _load(volume[np.ix_(*picks)], clip, np.empty(shape, np.float32))


def _load(part: NDArray[np.generic], clip: Clip, out: Float32) -> Float32:
    """Fill ``out`` with the clipped values of a part; one buffer for all parts saves the system's time."""
    with np.errstate(over="ignore"):  # what is too large for float32 is infinite, until it is clipped
        np.copyto(out, part, casting="unsafe")
    if clip is not None:
        np.clip(out, np.float32(clip[0]), np.float32(clip[1]), out=out)
    return out
