"""SIZ against SciPy's own zoom in float64."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.siz import zoom

pytestmark = pytest.mark.unit

SIZES = st.one_of(st.integers(1, 20), st.integers(1, 150), st.integers(1, 600))
VALUES = 400_000  # of input and of output: SciPy has to keep up


def reference(volume, shape, order):
    factors = [target / size for target, size in zip(shape, volume.shape, strict=True)]
    return ndimage.zoom(volume.astype(np.float64), factors, order=order, mode="nearest")


def draw_shape(data, label):
    shape = []
    for axis in range(3):
        room = VALUES // max(1, int(np.prod(shape)))
        shape.append(min(data.draw(SIZES, label=f"{label} {axis}"), max(1, room)))
    order = data.draw(st.permutations(range(3)), label=f"{label} order")
    return tuple(shape[axis] for axis in order)


def random_volume(shape, dtype, seed):
    generator = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        bounds = np.iinfo(dtype)
        return generator.integers(bounds.min, bounds.max, shape, dtype, endpoint=True)
    return generator.normal(0, 1000, shape).astype(dtype)


@settings(max_examples=80, deadline=None)
@given(
    st.data(),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([np.int16, np.uint8, np.float32]),
    st.integers(0, 2**32),
)
def test_equals_scipy(data, order, dtype, seed):
    shape, target = draw_shape(data, "size"), draw_shape(data, "target")
    volume = random_volume(shape, dtype, seed)
    zoomed = zoom(volume, target, order=order)
    assert zoomed.shape == target
    assert zoomed.dtype == np.float32
    spread = float(volume.max()) - float(volume.min())
    error = np.abs(zoomed - reference(volume, target, order)).max()
    # A constant volume has no range; float32 itself then sets the limit.
    assert error <= 1e-5 * spread + 1e-6 * np.abs(volume.astype(np.float64)).max()


@pytest.mark.parametrize("order", [2, 4, 5])
@pytest.mark.parametrize(("shape", "target"), [((40, 30, 20), (70, 12, 33)), ((300, 4, 3), (7, 9, 1))])
def test_other_orders_equal_scipy(order, shape, target):
    volume = random_volume(shape, np.int16, 1)
    error = np.abs(zoom(volume, target, order=order) - reference(volume, target, order)).max()
    assert error <= 1e-5 * 65535


def by_default_scipy(volume, shape, order):
    factors = [target / size for target, size in zip(shape, volume.shape, strict=True)]
    return ndimage.zoom(volume.astype(np.float64), factors, order=order)


@pytest.mark.parametrize("target", [57, 70, 224])
def test_outside_is_zero_where_scipy_says_that_the_last_sample_lies_outside(target):
    lost = set()  # of target 57, the lost sample is a block of its own
    for size in range(1, 600):
        volume = np.linspace(1, 2, size, dtype=np.float32).reshape(size, 1, 1)
        wanted = by_default_scipy(volume, (target, 1, 1), 1)
        np.testing.assert_allclose(zoom(volume, (target, 1, 1), order=1, mode="constant"), wanted, atol=1e-6)
        assert (wanted[:-1] > 0.9).all()
        lost |= {size} if wanted[-1] == 0 else set()
    assert len(lost) > 10  # of 600


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("target", [(70, 224, 9), (224, 9, 70), (9, 70, 224)])
def test_outside_is_zero_on_every_axis(order, target):
    volume = random_volume(tuple({70: 82, 224: 512}.get(size, 20) for size in target), np.uint8, 6)
    wanted = by_default_scipy(volume, target, order)
    assert [(np.take(wanted, -1, axis) == 0).all() for axis in range(3)] == [size != 9 for size in target]
    error = np.abs(zoom(volume, target, order=order, mode="constant") - wanted).max()
    assert error <= 1e-5 * 255


@pytest.mark.parametrize("order", [0, 1, 3])
def test_long_axis_equals_scipy(order):
    volume = random_volume((5000, 3, 2), np.uint8, 2)
    error = np.abs(zoom(volume, (70, 3, 2), order=order) - reference(volume, (70, 3, 2), order)).max()
    assert error <= 1e-5 * 255


def test_memory_layout_does_not_matter():
    volume = random_volume((30, 40, 50), np.int16, 3)
    flipped = np.asfortranarray(volume)[::-1, ::-1, ::-1]
    expected = zoom(np.ascontiguousarray(flipped), (10, 60, 20))
    np.testing.assert_allclose(zoom(flipped, (10, 60, 20)), expected, atol=1e-6 * 65535)


def test_source_is_left_alone():
    volume = random_volume((20, 20, 20), np.float32, 4)
    before = volume.copy()
    zoom(volume, (20, 20, 20))
    zoom(volume, (20, 7, 9))
    np.testing.assert_array_equal(volume, before)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("target", [(10, 60, 20), (60, 10, 20)])
def test_clip_comes_before_the_zoom(dtype, target):
    volume = random_volume((30, 40, 50), dtype, 5)
    before = volume.copy()
    zoomed = zoom(volume, target, clip=(-1000, 400))
    np.testing.assert_allclose(zoomed, reference(volume.clip(-1000, 400), target, 3), atol=1e-5 * 1400)
    np.testing.assert_array_equal(volume, before)


def test_linear_ramp_by_hand():
    """Order 1, 3 samples to 5: the ends stay, the new ones lie half-way."""
    volume = np.array([0, 10, 30], np.int16).reshape(3, 1, 1)
    assert zoom(volume, (5, 1, 1), order=1).ravel().tolist() == [0, 5, 10, 20, 30]


@pytest.mark.parametrize(
    ("shape", "dtype", "target"),
    [((150, 512, 512), np.int16, (70, 224, 224)), ((300, 240, 320), np.uint8, (70, 224, 224))],
)
def test_memory_is_at_most_three_times_the_volume(shape, dtype, target):
    volume = np.zeros(shape, dtype)
    zoom(volume, target)  # the plan is cached from here on
    tracemalloc.start()
    zoom(volume, target)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 3 * volume.nbytes


@pytest.mark.parametrize(
    ("volume", "shape", "order", "message"),
    [
        (np.zeros((2, 2)), (1, 1, 1), 3, "three axes"),
        (np.zeros((2, 0, 2)), (1, 1, 1), 3, "at least one voxel"),
        (np.zeros((2, 2, 2), complex), (1, 1, 1), 3, "real numbers"),
        (np.zeros((2, 2, 2), bool), (1, 1, 1), 3, "real numbers"),
        (np.zeros((2, 2, 2)), (1, 0, 1), 3, "at least 1"),
        (np.zeros((2, 2, 2)), (1, 1, 1), 6, "0 to 5"),
    ],
)
def test_refuses(volume, shape, order, message):
    with pytest.raises(ValueError, match=message):
        zoom(volume, shape, order=order)


def test_refuses_other_modes():
    with pytest.raises(ValueError, match="nearest, constant, not wrap"):
        zoom(np.zeros((2, 2, 2)), (1, 1, 1), mode="wrap")
