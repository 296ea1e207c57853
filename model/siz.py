"""SIZ inside a TensorFlow graph: the numbers of ``pipeline.siz.zoom``, for sizes known only at run time.

Volumes are float32 (depth, height, width). The zoom of an axis is one matrix, made in float64 from the
size of the axis: a spline's coefficients solve a tridiagonal system for each pole of the spline, and an
output sample is a narrow band of B-spline weights times these coefficients.

The inverse of such a system is known in closed form: powers of the pole. So only the rows under the
band are computed, as many as there are output samples, and only by elementary operations, which
ONNX has as well as TensorFlow.

As SciPy does for ``mode="nearest"``, the edge is repeated ``PAD`` times and reflected from there on.

Source: M. Unser, A. Aldroubi, M. Eden, "B-spline signal processing", IEEE Trans. Signal Process.
41(2), 1993, part I, section III (systems and poles); C. de Boor's recursion for the weights.
"""

import math

import tensorflow as tf

PAD = 12
# Roots inside the unit circle of the sampled B-spline of each order; 0 leaves samples as they are.
POLES: dict[int, tuple[float, ...]] = {
    0: (0.0,),
    1: (0.0,),
    2: (math.sqrt(8) - 3,),
    3: (math.sqrt(3) - 2,),
    4: (
        math.sqrt(664 - math.sqrt(438976)) + math.sqrt(304) - 19,
        math.sqrt(664 + math.sqrt(438976)) - math.sqrt(304) - 19,
    ),
    5: (
        math.sqrt(67.5 - math.sqrt(4436.25)) + math.sqrt(26.25) - 6.5,
        math.sqrt(67.5 + math.sqrt(4436.25)) - math.sqrt(26.25) - 6.5,
    ),
}


def zoom(volume: tf.Tensor, shape: tuple[int, int, int], *, order: int) -> tf.Tensor:
    """Resample float32 (d, h, w) of any size to ``shape`` with a spline of ``order`` 0 to 5.

    Depth is resampled first, so that no intermediate array has more than ``shape[0]`` slices.
    """
    size = tf.shape(volume)
    depth, height, width = (axis_matrix(size[axis], shape[axis], order) for axis in range(3))
    volume = tf.einsum("ai,ijk->ajk", depth, volume)
    volume = tf.einsum("ajk,ck->ajc", volume, width)
    return tf.einsum("bj,ajc->abc", height, volume)


def axis_matrix(size: tf.Tensor, target: int, order: int) -> tf.Tensor:
    """The zoom of one axis from ``size`` (a scalar tensor) samples: float32 (target, size)."""
    size = tf.cast(size, tf.float64)
    position = tf.range(target, dtype=tf.float64) * ((size - 1) / max(1, target - 1))
    # B-splines of even order are centred between samples, those of odd order on them.
    shifted = position + (0.0 if order % 2 else 0.5)
    # The first of the order + 1 coefficients that an output sample depends on.
    first = tf.floor(shifted) - order // 2 + PAD
    weights = _bspline_weights(shifted - tf.floor(shifted), order)
    rows = [
        weight[:, tf.newaxis] * _inverse_rows(first + step, size + 2 * PAD, order)
        for step, weight in enumerate(weights)
    ]
    return tf.cast(_fold(tf.add_n(rows), tf.cast(size, tf.int32)), tf.float32)


def _bspline_weights(fraction: tf.Tensor, order: int) -> list[tf.Tensor]:
    """The ``order + 1`` B-splines that are not zero at a point, left to right; ``fraction`` in [0, 1)."""
    # The recursion starts with the one B-spline of order 0, which is 1.
    weights = [tf.ones_like(fraction)]
    for n in range(1, order + 1):
        beside = [0.0, *weights, 0.0]
        weights = [
            ((fraction + n - m) * beside[m] + (1 + m - fraction) * beside[m + 1]) / n for m in range(n + 1)
        ]
    return weights


def _inverse_rows(rows: tf.Tensor, size: tf.Tensor, order: int) -> tf.Tensor:
    """Rows of the matrix that makes coefficients of ``size`` samples, float64 (rows, size).

    For a pole z, ``(-z c[k-1] + (1 + z²) c[k] - z c[k+1]) / (1 - z)² = f[k]`` with ``c[-1] = c[0]``,
    ``c[size] = c[size-1]`` has the solution ``c[k] = (1 - z) / (1 + z) Σ_j f[j] z^|k - j|``, where f is
    reflected at its ends; beyond the first reflection nothing is left. Two systems, one after the
    other, are a sum of both: partial fractions.
    """
    row, column = rows[:, tf.newaxis], tf.range(size, dtype=tf.float64)
    distances = (tf.abs(row - column), row + column + 1, 2 * size - 1 - row - column)
    total = tf.zeros_like(distances[0])
    for pole in POLES[order]:
        others = (other for other in POLES[order] if other != pole)
        share = math.prod((1 - y) ** 2 / (1 + y * y - y * (pole + 1 / pole)) for y in others)
        gain = share * (1 - pole) / (1 + pole)
        base = tf.constant(pole, tf.float64)
        total += gain * tf.add_n([base**distance for distance in distances])
    return total


def _fold(rows: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Add the columns of the repeated edges, (n, PAD + size + PAD), to those of the edges: (n, size)."""
    first = tf.reduce_sum(rows[:, :PAD], axis=1, keepdims=True)
    last = tf.reduce_sum(rows[:, PAD + size :], axis=1, keepdims=True)
    column = tf.range(size)
    at_first, at_last = tf.cast(column == 0, rows.dtype), tf.cast(column == size - 1, rows.dtype)
    return rows[:, PAD : PAD + size] + first * at_first + last * at_last
