"""Rotation of volumes about their axial axis, in the graph and on the device of the model.

Arrays in, arrays out: volumes are float ``(B, depth, height, width, 1)``; every slice of a volume is
turned by the same angle in the plane of its rows and columns; pixels from outside are 0. The
result is that of ``scipy.ndimage.rotate(order=1, reshape=False)``. Angles are in degrees.

The angles are a fixed list (paper, section 2.4). So NumPy computes once, in float64, where each pixel
comes from; the graph holds four lookups and their weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from model.settings import ANGLES


@dataclass(frozen=True)
class Lookup:
    """Per angle and pixel of a slice, the four pixels it is made of: ``(angles, pixels, 4)``.

    ``sources`` are int32 positions in the flattened slice, ``weights`` float32, all 0 where the
    pixel comes from outside.
    """

    sources: NDArray[np.int32]
    weights: NDArray[np.float32]


def lookup(height: int, width: int, *, angles: Sequence[float] = ANGLES) -> Lookup:
    """Compute where each pixel of a slice of ``height`` times ``width`` comes from, per angle."""
    each = [_bilinear(height, width, angle) for angle in angles]
    sources, weights = zip(*each, strict=True)
    return Lookup(np.stack(sources).astype(np.int32), np.stack(weights).astype(np.float32))


def _bilinear(height: int, width: int, angle: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Sources and weights ``(pixels, 4)`` of one angle, about the centre of the slice."""
    row, column = _origins(height, width, angle)
    inside = (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1)
    # Clipped so that the four neighbours exist; a pixel on the last row is its own lower neighbour.
    top = np.clip(np.floor(row), 0, max(0, height - 2)).astype(np.int64)
    left = np.clip(np.floor(column), 0, max(0, width - 2)).astype(np.int64)
    down, right = row - top, column - left
    bottom, beside = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    sources = [top * width + left, top * width + beside, bottom * width + left, bottom * width + beside]
    # Bilinear interpolation: the nearer a neighbour, the larger its weight; the four add up to 1.
    weights = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    return np.stack(sources, axis=-1), np.stack(weights, axis=-1) * inside[:, np.newaxis]


def _origins(height: int, width: int, angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fractional row and column that each pixel of a turned slice comes from."""
    # Quarter turns are exact: a rounded sine would push the border outside.
    quarter = round(angle / 90)
    rest = np.deg2rad(angle - 90 * quarter)
    turn = complex(np.cos(rest), np.sin(rest)) * (1, 1j, -1, -1j)[quarter % 4]
    row, column = np.indices((height, width)).reshape(2, -1) - np.array(
        [[(height - 1) / 2], [(width - 1) / 2]]
    )
    return (
        turn.real * row + turn.imag * column + (height - 1) / 2,
        -turn.imag * row + turn.real * column + (width - 1) / 2,
    )


def rotate(volumes: Any, which: Any, table: Lookup) -> Any:
    """Turn volume ``i`` of a batch by angle number ``which[i]`` of the table.

    ``volumes`` float ``(B, d, h, w, 1)``, ``which`` integers ``(B,)``; gives ``volumes``' shape and dtype.
    """
    sources = ops.take(ops.convert_to_tensor(table.sources), which, axis=0)
    weights = ops.take(ops.convert_to_tensor(table.weights), which, axis=0)
    return look_up(volumes, sources, weights)


def look_up(volumes: Any, sources: Any, weights: Any) -> Any:
    """Make each pixel of each volume out of four others, the same ones in all its slices.

    ``volumes`` float ``(B, d, h, w, 1)``; ``sources`` and ``weights`` ``(B, pixels, 4)``, as in a ``Lookup``.
    Gives ``volumes``' shape and dtype.
    """
    _, depth, height, width, _ = volumes.shape
    pixels = height * width
    # (B·pixels, d): one lookup moves the same pixel of all slices
    columns = ops.transpose(ops.reshape(volumes, (-1, depth, pixels)), (0, 2, 1))
    flat = ops.reshape(columns, (-1, depth))
    first = ops.arange(ops.shape(volumes)[0], dtype="int32") * pixels  # where each volume starts
    sources = sources + first[:, None, None]
    weights = ops.cast(weights, volumes.dtype)
    # One corner after the other: gathering all four at once would need four times the memory.
    turned = 0
    for corner in range(4):
        found = ops.take(flat, ops.reshape(sources[..., corner], (-1,)), axis=0)
        turned = turned + found * ops.reshape(weights[..., corner], (-1, 1))
    slices = ops.transpose(ops.reshape(turned, (-1, pixels, depth)), (0, 2, 1))
    return ops.reshape(slices, (-1, depth, height, width, 1))


class RandomRotation(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """In training, turn each volume by a random angle of the list; otherwise, leave it as it is."""

    def __init__(self, height: int, width: int, *, angles: Sequence[float] = ANGLES, seed: int) -> None:
        super().__init__(name="rotation")
        self.table = lookup(height, width, angles=angles)
        self.seeds = keras.random.SeedGenerator(seed)

    def call(self, volumes: Any, training: bool = False) -> Any:
        """Rotate ``volumes``, float (B, [d,] h, w, 1), if ``training``; the shape stays the same."""
        if not training:
            return volumes
        if len(volumes.shape) == 4:  # pictures: volumes of depth 1
            return self.call(volumes[:, None], training=True)[:, 0]
        drawn = keras.random.randint((ops.shape(volumes)[0],), 0, len(self.table.sources), seed=self.seeds)
        return rotate(volumes, drawn, self.table)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape stays the same."""
        return shape
