"""SIZ in a TensorFlow graph against SciPy's own zoom in float64."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from model.siz import axis_matrix, zoom

LENGTHS = st.one_of(st.integers(1, 20), st.integers(1, 600))
SHAPE = (7, 20, 12)
SIZES = [(1, 1, 1), (3, 40, 9), (30, 5, 12), SHAPE, (7, 50, 60), (90, 20, 12)]
SIGNATURE = [tf.TensorSpec([None, None, None], tf.float32)]


def reference(values: NDArray[np.float64], shape: tuple[int, ...], order: int) -> NDArray[np.float64]:
    factors = [target / size for target, size in zip(shape, values.shape, strict=True)]
    return ndimage.zoom(values, factors, order=order, mode="nearest")


@settings(max_examples=40, deadline=None)
@given(LENGTHS, LENGTHS, st.integers(0, 5), st.integers(0, 2**32))
def test_an_axis_equals_scipy(size: int, target: int, order: int, seed: int) -> None:
    values = np.random.default_rng(seed).uniform(-1, 1, (size, 3))
    matrix = axis_matrix(tf.constant(size), target, order).numpy()
    assert (matrix.shape, matrix.dtype) == ((target, size), np.float32)
    assert np.abs(matrix @ values - reference(values, (target, 3), order)).max() <= 2e-6


@pytest.mark.parametrize("order", range(6))
def test_one_graph_serves_volumes_of_any_size(order: int) -> None:
    graph = tf.function(lambda volume: zoom(volume, SHAPE, order=order), input_signature=SIGNATURE)
    for size in SIZES:
        values = np.random.default_rng(0).integers(-1000, 400, size).astype(np.float32)
        zoomed = graph(values).numpy()
        assert zoomed.shape == SHAPE
        assert np.abs(zoomed - reference(values.astype(np.float64), SHAPE, order)).max() <= 1e-5 * 1400
    assert graph.experimental_get_tracing_count() == 1


def test_linear_ramp_by_hand() -> None:
    """Order 1, 3 samples to 5: the ends stay, the new ones lie half-way."""
    volume = tf.reshape(tf.constant([0.0, 10.0, 30.0]), (3, 1, 1))
    assert zoom(volume, (5, 1, 1), order=1).numpy().ravel().tolist() == [0, 5, 10, 20, 30]


def test_a_long_clip_needs_little_memory_for_its_matrix() -> None:
    """The matrix of 20,000 frames and its system of equations: 5.6 MB, not 3.2 GB."""
    matrix = axis_matrix(tf.constant(20_000), 70, 3).numpy()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    middle = np.flatnonzero(np.abs(matrix[35]) > 1e-3)
    assert abs(middle.mean() - 35 * 19_999 / 69) < 1
