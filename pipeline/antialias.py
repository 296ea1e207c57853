"""Resizing of pictures with a triangle filter that grows as they shrink, so that nothing is skipped.

Pictures are (n, height, width), one gray value or one colour channel each; (height, width) is the target
size. uint8 gives uint8, by the arithmetic of Pillow's ``BILINEAR``: weights of 22 bits after the point,
columns first, and a rounding to whole gray levels after each of the two passes. Other values give
float32 without rounding, as torchvision's ``antialias=True`` does, and Pillow's mode ``F`` to 2e-5 of the
range of the values.

Pixels are squares: the centre of pixel ``i`` lies at ``i + 0.5``, and outside a picture there is nothing.
An axis that grows is interpolated linearly.

Pillow 13 takes the rows first where a tall picture shrinks; its results are then up to one gray level
away from ours, which equal those of Pillow 9.

Source: Pillow's documentation, "Filters"; K. Turkowski, "Filters for common resampling tasks", Graphics
Gems, 1990.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.banded import Block, Float, multiply_columns, multiply_rows

BLOCK_ROWS = 16
STEP = 2.0**-22  # of Pillow's weights for uint8; float64 holds their sums with 255 gray levels exactly


def resize_antialias(images: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize uint8 pictures (n, height, width) to ``shape`` (height, width), gray levels 0 to 255.

    Equals ``PIL.Image.resize((shape[1], shape[0]), BILINEAR)`` of each picture, but for the order of the
    two passes (see above). Raises ValueError if the pictures are not uint8 (n, height, width) with at
    least one pixel each, or the target has no pixels.

    Examples:
        >>> resize_antialias(np.full((1, 8, 8), 7, np.uint8), (2, 2)).tolist()
        [[[7, 7], [7, 7]]]
    """
    _check(images, shape)
    if images.dtype != np.uint8:
        raise ValueError(f"gray levels are uint8, not {images.dtype}")
    resized = np.empty((len(images), *shape), np.uint8)
    columns, rows = _plan(images, shape, quantised=True)
    values = np.empty(images.shape[1:])
    lines, rounded = np.empty((images.shape[1], shape[1])), np.empty(shape)
    for image, out in zip(images, resized, strict=True):
        np.copyto(values, image)
        multiply_columns(columns, values, lines)
        multiply_rows(rows, _round(lines), rounded)
        np.copyto(out, _round(rounded), casting="unsafe")
    return resized


def resize_antialias_float(
    images: NDArray[np.generic], shape: tuple[int, int], *, columns_first: bool = False
) -> NDArray[np.float32]:
    """Resize pictures of any real values (n, height, width) to float32 of ``shape``, in the same units.

    torchvision resamples ``columns_first``. That is slower, and matters where results are rounded to gray
    levels: it decides ties. Raises ValueError if there are not three axes with at least one pixel a
    picture, or the target has no pixels.
    """
    _check(images, shape)
    resized = np.empty((len(images), *shape), np.float32)
    columns, rows = _plan(images, shape, quantised=False)
    for image, out in zip(images, resized, strict=True):
        if columns_first:
            lines = np.empty((len(image), shape[1]), np.float32)
            multiply_columns(columns, image.astype(np.float32), lines)
            multiply_rows(rows, lines, out)
        else:
            multiply_columns(columns, _rows_of(image, rows, shape[0]), out)
    return resized


def _rows_of(image: NDArray[np.generic], blocks: Iterable[Block], height: int) -> NDArray[np.float32]:
    """The rows resampled: (height, width). The whole picture as float32 would not stay in the cache."""
    out = np.empty((height, image.shape[1]), np.float32)
    for block in blocks:
        np.matmul(block.weights, image[block.inputs].astype(np.float32), out=out[block.out])
    return out


@lru_cache(maxsize=64)
def triangle_blocks(size: int, target: int, *, quantised: bool) -> tuple[Block, ...]:
    """One axis from ``size`` to ``target`` pixels as blocks of a banded matrix.

    ``quantised`` weights are multiples of STEP, held as float64. The others are float32 from the first step
    on, as torchvision computes them: it decides ties where its results are rounded.
    """
    real = np.dtype(np.float64 if quantised else np.float32)
    scale = float(real.type(size / target))
    reach = max(scale, 1.0)  # half the foot of the triangle, in input pixels
    centres: Float = (np.arange(target) + 0.5).astype(real) * scale
    blocks = []
    for first, last in pairwise([*range(0, target, BLOCK_ROWS), target]):
        low = max(0, int(centres[first] - reach + 0.5))
        high = min(size, int(centres[last - 1] + reach + 0.5))
        distance = np.arange(low, high).astype(real) - centres[first:last, None] + 0.5
        weights: Float = np.maximum(0.0, 1.0 - np.abs(distance * (1.0 / reach)))
        weights /= weights.sum(axis=1, keepdims=True)
        kept = _round(weights / STEP) * STEP if quantised else weights
        blocks.append(Block(slice(first, last), slice(low, high), kept))
    return tuple(blocks)


def _plan(
    images: NDArray[np.generic], shape: tuple[int, int], *, quantised: bool
) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
    """The blocks of the columns and of the rows."""
    _, height, width = images.shape
    return (
        triangle_blocks(width, shape[1], quantised=quantised),
        triangle_blocks(height, shape[0], quantised=quantised),
    )


def _check(images: NDArray[np.generic], shape: tuple[int, int]) -> None:
    if images.ndim != 3 or min(images.shape[1:]) < 1:
        raise ValueError(f"pictures are (n, height, width) with at least one pixel, not {images.shape}")
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"the target is a height and a width of at least 1, not {shape}")


def _round(values: Float) -> Float:
    """Round to whole numbers in place, halves up, as integer arithmetic does; values are not negative."""
    values += 0.5
    return np.floor(values, out=values)
