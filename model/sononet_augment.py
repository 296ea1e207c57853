"""Augmentation of ultrasound, in the graph and on the device of the model, as SpaceTime-SonoNet has it.

Arrays in, arrays out: samples are pictures, float ``(B, height, width, 1)``, or windows, float
``(B, length, height, width, 1)``, with values in [0, 1]. What is done to a sample is told by one number
of ``(B,)``, so that all pictures of a window are treated alike: else, motion would be lost in flicker.
Shape and dtype stay. The deterministic functions come first, the layer that draws comes last.
"""

import math
from typing import Any

import keras
from keras import ops

from model.augment import look_up


def flip(samples: Any, horizontal: Any, vertical: Any) -> Any:
    """Swap left and right where ``horizontal`` is true, top and bottom where ``vertical`` is: bool (B,)."""
    samples = ops.where(_beside(horizontal, samples), ops.flip(samples, axis=-2), samples)
    return ops.where(_beside(vertical, samples), ops.flip(samples, axis=-3), samples)


def adjust_gamma(samples: Any, gamma: Any) -> Any:
    """Raise values to the power of ``gamma``, float (B,): above 1, what is dark gets darker."""
    return ops.clip(ops.power(samples, _beside(ops.cast(gamma, samples.dtype), samples)), 0, 1)


def resize(samples: Any, factor: Any) -> Any:
    """Make each picture ``factor`` times as large, float (B,), then crop it to its size, or pad it with 0.

    Bilinear; what is made smaller is smoothed first, as Pillow and torchvision's ``antialias`` do. As
    all is linear and the axes are independent, it is one matrix for the rows and one for the columns.
    """
    *_, height, width, _ = samples.shape
    rows, columns = _resampling(height, factor), _resampling(width, factor)
    if len(samples.shape) == 5:
        rows, columns = rows[:, None], columns[:, None]
    seen = ops.cast(samples[..., 0], "float32")
    resized = ops.matmul(ops.matmul(rows, seen), ops.swapaxes(columns, -1, -2))
    return ops.cast(resized[..., None], samples.dtype)


def rotate(samples: Any, degrees: Any) -> Any:
    """Turn each picture about its centre, counter-clockwise by ``degrees``, float (B,).

    Bilinear; beyond the border, all is 0.
    """
    *_, height, width, _ = samples.shape
    sources, weights = _bilinear(height, width, ops.cast(degrees, "float32"))
    windows = ops.reshape(samples, (-1, _length(samples), height, width, 1))
    return ops.reshape(look_up(windows, sources, weights), ops.shape(samples))


def divide_by_maximum(samples: Any) -> Any:
    """Scale each picture so that its largest value is 1; one that is 0 everywhere stays so."""
    return ops.divide_no_nan(samples, ops.max(samples, axis=(-3, -2), keepdims=True))


class SonoNetAugmentation(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """In training, flip, adjust gamma, resize, rotate and divide by the maximum, as drawn for each sample.

    ``flips`` is the probability of each of the two flips; of ``gamma``, ``factor`` and ``degrees``, the
    ends of the range that is drawn from evenly. Elsewhere, samples are left as they are.
    """

    def __init__(
        self,
        *,
        seed: int,
        flips: float = 0.5,
        gamma: tuple[float, float] = (0.7, 1.4),
        factor: tuple[float, float] = (0.8, 1.2),
        degrees: tuple[float, float] = (-10.0, 10.0),
    ) -> None:
        super().__init__(name="augmentation", dtype="float32")
        self.flips, self.gamma, self.factor, self.degrees = flips, gamma, factor, degrees
        self.seeds = keras.random.SeedGenerator(seed)

    def call(self, samples: Any, training: bool = False) -> Any:
        """``samples`` float (B, [length,] h, w, 1) in [0, 1]; the same shape comes out."""
        if not training:
            return samples
        count = ops.shape(samples)[0]
        horizontal, vertical = (self._drawn(count, (0.0, 1.0)) < self.flips for _ in range(2))
        samples = flip(samples, horizontal, vertical)
        samples = adjust_gamma(samples, self._drawn(count, self.gamma))
        samples = resize(samples, self._drawn(count, self.factor))
        samples = rotate(samples, self._drawn(count, self.degrees))
        return divide_by_maximum(samples)

    def _drawn(self, count: Any, ends: tuple[float, float]) -> Any:
        return keras.random.uniform((count,), *ends, seed=self.seeds)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """As it came in."""
        return shape


def _length(samples: Any) -> int:
    return int(samples.shape[1]) if len(samples.shape) == 5 else 1


def _beside(values: Any, samples: Any) -> Any:
    """(B,) to (B, 1, …), to go with each value of a sample."""
    return ops.reshape(values, (-1, *[1] * (len(samples.shape) - 1)))


def _resampling(size: int, factor: Any) -> Any:
    """Matrices (B, size, size): from an axis to the same axis resized, then cropped or padded."""
    scaled = ops.floor(ops.cast(factor, "float32") * size)[:, None, None]
    resized = ops.arange(size, dtype="float32")[:, None] - _offset(scaled, size)
    ratio = size / scaled
    # Each resized pixel is a mean of those below it, weighted by a triangle about its centre.
    distance = (resized + 0.5) * ratio - (ops.arange(size, dtype="float32") + 0.5)
    weights = ops.maximum(1 - ops.abs(distance) / ops.maximum(ratio, 1), 0)
    weights = ops.divide_no_nan(weights, ops.sum(weights, axis=-1, keepdims=True))
    return ops.where((resized >= 0) & (resized < scaled), weights, 0)


def _offset(scaled: Any, size: int) -> Any:
    """Where a resized axis begins in one of ``size``: below 0 if it is cropped.

    What cannot be halved goes where the original puts it: padded, before; cropped, to the even side.
    """
    return ops.where(scaled <= size, ops.ceil((size - scaled) / 2), -ops.round((scaled - size) / 2))


def _bilinear(height: int, width: int, degrees: Any) -> tuple[Any, Any]:
    """Sources int32 and weights float32 (B, pixels, 4) of turned pictures, for ``look_up``."""
    radians = degrees[:, None] * (math.pi / 180)
    across, down = ops.meshgrid(_centred(width), _centred(height))
    down, across = ops.reshape(down, (-1,)), ops.reshape(across, (-1,))
    row = ops.cos(radians) * down + ops.sin(radians) * across + (height - 1) / 2
    column = ops.cos(radians) * across - ops.sin(radians) * down + (width - 1) / 2
    corners = [(ops.floor(row) + i, ops.floor(column) + j) for i in (0, 1) for j in (0, 1)]
    weights, sources = [], []
    for at_row, at_column in corners:
        inside = (at_row >= 0) & (at_row < height) & (at_column >= 0) & (at_column < width)
        weight = (1 - ops.abs(row - at_row)) * (1 - ops.abs(column - at_column))
        weights.append(ops.where(inside, weight, 0))
        sources.append(ops.where(inside, at_row * width + at_column, 0))
    return ops.cast(ops.stack(sources, axis=-1), "int32"), ops.stack(weights, axis=-1)


def _centred(size: int) -> Any:
    return ops.arange(size, dtype="float32") - (size - 1) / 2
