"""Resizing with antialias inside a TensorFlow graph: the numbers of ``pipeline.antialias``, for any size.

Pictures are float32 (height, width). An axis is resized by one matrix of triangles, made from the size
of the axis at run time, by elementary operations that ONNX has as well.

Source: see ``pipeline.antialias``.
"""

import tensorflow as tf

STEP = 2.0**-22  # of Pillow's weights for gray levels


def resize_antialias(picture: tf.Tensor, shape: tuple[int, int]) -> tf.Tensor:
    """Resize a picture to ``shape`` (height, width), without rounding, in the same units."""
    rows, columns = _matrices(picture, shape, tf.float32)
    return tf.matmul(rows, tf.matmul(picture, columns, transpose_b=True))


def resize_levels(picture: tf.Tensor, shape: tuple[int, int]) -> tf.Tensor:
    """Resize whole gray levels, 0 to 255, to whole gray levels, by Pillow's arithmetic.

    The weights are rounded, and so are the levels after each of the two passes, columns first.
    """
    rows, columns = (tf.floor(matrix / STEP + 0.5) * STEP for matrix in _matrices(picture, shape, tf.float64))
    lines = _halves_up(tf.matmul(tf.cast(picture, tf.float64), columns, transpose_b=True))
    return tf.cast(_halves_up(tf.matmul(rows, lines)), tf.float32)


def triangle_matrix(size: tf.Tensor, target: int, dtype: tf.DType) -> tf.Tensor:
    """One axis from ``size`` (a scalar tensor) to ``target`` pixels: ``dtype`` (target, size).

    float32 weights are float32 from the first step on, since ties are decided by that.
    """
    # The quotient itself is taken in float64, as by the pipeline.
    scale = tf.cast(tf.cast(size, tf.float64) / target, dtype)
    reach = tf.maximum(scale, 1)
    centres = (tf.range(target, dtype=dtype) + 0.5) * scale
    distance = tf.range(tf.cast(size, dtype), dtype=dtype) - centres[:, tf.newaxis] + 0.5
    weights = tf.maximum(tf.constant(0, dtype), 1 - tf.abs(distance * (1 / reach)))
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def _matrices(picture: tf.Tensor, shape: tuple[int, int], dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    size = tf.shape(picture)
    return triangle_matrix(size[0], shape[0], dtype), triangle_matrix(size[1], shape[1], dtype)


def _halves_up(levels: tf.Tensor) -> tf.Tensor:
    return tf.floor(levels + 0.5)
