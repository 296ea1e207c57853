from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from model.sononet_augment import SonoNetAugmentation, adjust_gamma, divide_by_maximum, flip, resize, rotate

NOTHING = {"flips": 0.0, "gamma": (1.0, 1.0), "factor": (1.0, 1.0), "degrees": (0.0, 0.0)}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def each(*values: float) -> np.ndarray:
    return np.array(values, "float32")


def chain(samples: np.ndarray, horizontal: bool, gamma: float, factor: float, degrees: float) -> np.ndarray:
    """All that is done to a sample, in the order of the original; flipped left to right, or upside down."""
    flipped = flip(samples, np.array([horizontal]), np.array([not horizontal]))
    resized = resize(adjust_gamma(flipped, each(gamma)), each(factor))
    return np.asarray(divide_by_maximum(rotate(resized, each(degrees))))


# --- against the original programs --------------------------------------------------------------

# Their own rotation, in float32, lies within 6.5e-6 of that of OpenCV.
TOLERANCE = 2e-5
OPERATIONS: dict[str, Callable[[np.ndarray], object]] = {
    "gamma_0.7": lambda picture: adjust_gamma(picture, each(0.7)),
    "gamma_1.4": lambda picture: adjust_gamma(picture, each(1.4)),
    "resize_0.8_croppad": lambda picture: resize(picture, each(0.8)),
    "resize_1.2_croppad": lambda picture: resize(picture, each(1.2)),
    "rotate_+10": lambda picture: rotate(picture, each(10)),
    "rotate_-10": lambda picture: rotate(picture, each(-10)),
    "rotate_+3.7": lambda picture: rotate(picture, each(3.7)),
    "hflip": lambda picture: flip(picture, np.array([True]), np.array([False])),
    "vflip": lambda picture: flip(picture, np.array([False]), np.array([True])),
    "maxnorm": divide_by_maximum,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_that_of_the_original(shared: Path, name: str) -> None:
    oracle = np.load(shared / "oracle/augment.npz")
    found = np.asarray(OPERATIONS[name](oracle["input"][..., np.newaxis]))
    np.testing.assert_allclose(found[..., 0], oracle[name], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "draws"), [("A", (True, 0.7, 0.8, 10)), ("B", (False, 1.4, 1.2, -10))])
def test_all_operations_in_a_row_are_those_of_the_original(
    shared: Path, name: str, draws: tuple[bool, float, float, float]
) -> None:
    oracle, reader = np.load(shared / "oracle/augment.npz"), np.load(shared / "oracle/reader.npz")
    picture = reader["stage2d_float_before_max"][..., np.newaxis]
    np.testing.assert_allclose(
        chain(picture, *draws)[..., 0], oracle[f"chain2d_{name}"], rtol=0, atol=TOLERANCE
    )
    window = np.moveaxis(oracle["clip_input"], 1, -1)[np.newaxis]
    found = np.moveaxis(chain(window, *draws)[0], -1, 1)
    np.testing.assert_allclose(found, oracle[f"chain3d_{name}"], rtol=0, atol=TOLERANCE)


# --- against other libraries --------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.0, 1.131, 1.2])
@pytest.mark.parametrize("shape", [(64, 64), (40, 61), (33, 100)])
def test_pictures_are_resized_as_by_pillow(shape: tuple[int, int], factor: float) -> None:
    picture = noise(*shape)
    height, width = (int(factor * size) for size in shape)
    by_pillow = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
    found = np.asarray(resize(picture[np.newaxis, ..., np.newaxis], each(factor)))[0, ..., 0]
    padded = np.pad(by_pillow, max(shape))  # wide enough to look for the cut in
    starts = [max(shape) - place for place in begin(shape, factor)]
    cut = tuple(slice(start, start + size) for start, size in zip(starts, shape, strict=True))
    np.testing.assert_allclose(found, padded[cut], rtol=0, atol=1e-5)


def begin(shape: tuple[int, int], factor: float) -> list[int]:
    """Where the resized picture begins: as many pixels before as behind, one more before if they are odd."""
    margins = [size - int(factor * size) for size in shape]
    return [-(-margin // 2) if margin >= 0 else -round(-margin / 2) for margin in margins]


@pytest.mark.parametrize("degrees", [-10.0, -3.3, 0.0, 7.0, 90.0])
@pytest.mark.parametrize("shape", [(40, 40), (31, 48), (64, 20)])
def test_pictures_are_turned_as_by_scipy(shape: tuple[int, int], degrees: float) -> None:
    picture = noise(*shape)
    by_scipy = ndimage.rotate(picture, degrees, reshape=False, order=1, mode="grid-constant")
    found = np.asarray(rotate(picture[np.newaxis, ..., np.newaxis], each(degrees)))[0, ..., 0]
    np.testing.assert_allclose(found, by_scipy, rtol=0, atol=1e-4)


def test_each_picture_is_divided_by_its_own_maximum() -> None:
    windows = noise(2, 5, 8, 9, 1) + 0.1
    windows[1, 2] = 0
    found = np.asarray(divide_by_maximum(windows))
    assert found[1, 2].max() == 0
    maxima = np.delete(found.max(axis=(2, 3, 4)).ravel(), 7)
    np.testing.assert_array_equal(maxima, np.ones(9))
    np.testing.assert_allclose(found[0, 3], windows[0, 3] / windows[0, 3].max(), rtol=1e-6)


# --- laws ---------------------------------------------------------------------------------------


def test_what_is_drawn_as_nothing_changes_nothing() -> None:
    windows, nothing = noise(2, 3, 24, 33, 1), np.array([False, False])
    for found in (
        flip(windows, nothing, nothing),
        adjust_gamma(windows, each(1, 1)),
        resize(windows, each(1, 1)),
        rotate(windows, each(0, 0)),
    ):
        np.testing.assert_allclose(found, windows, rtol=0, atol=1e-6)


def test_each_picture_of_a_window_is_treated_as_it_would_be_alone() -> None:
    windows = noise(2, 3, 24, 33, 1)
    for operation in (
        lambda samples: flip(samples, np.array([True, False]), np.array([False, True])),
        lambda samples: adjust_gamma(samples, each(0.7, 1.4)),
        lambda samples: resize(samples, each(0.85, 1.15)),
        lambda samples: rotate(samples, each(-8, 9)),
        divide_by_maximum,
    ):
        alone = np.stack([np.asarray(operation(windows[:, number])) for number in range(3)], axis=1)
        np.testing.assert_allclose(operation(windows), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shape", [(2, 16, 20, 1), (2, 3, 16, 20, 1)])
def test_shape_and_dtype_stay(shape: tuple[int, ...], dtype: str) -> None:
    samples, no = keras.ops.cast(noise(*shape), dtype), np.array([True, False])
    results = [flip(samples, no, no), adjust_gamma(samples, each(0.7, 1)), divide_by_maximum(samples)]
    for found in [*results, resize(samples, each(0.8, 1.2)), rotate(samples, each(5, 6))]:
        assert tuple(found.shape) == shape
        assert keras.backend.standardize_dtype(found.dtype) == dtype


# --- the layer ----------------------------------------------------------------------------------


def drawn(samples: np.ndarray, *, seed: int = 0, **options: object) -> np.ndarray:
    return np.asarray(SonoNetAugmentation(seed=seed, **{**NOTHING, **options})(samples, training=True))


def test_outside_training_nothing_happens() -> None:
    windows = noise(2, 3, 16, 16, 1)
    np.testing.assert_array_equal(SonoNetAugmentation(seed=0)(windows), windows)


def test_in_training_all_is_done_in_the_order_of_the_original() -> None:
    window, exact = noise(1, 2, 32, 32, 1), {"flips": 1.0, "gamma": (0.8, 0.8), "factor": (1.1, 1.1)}
    found = drawn(window, **exact, degrees=(6.0, 6.0))
    turned = window[:, :, ::-1, ::-1] ** np.float32(0.8)
    np.testing.assert_allclose(
        found, divide_by_maximum(rotate(resize(turned, each(1.1)), each(6))), atol=1e-6
    )


def test_all_pictures_of_a_window_are_drawn_alike_and_no_two_windows() -> None:
    windows = np.repeat(np.repeat(noise(1, 1, 24, 24, 1), 4, axis=1), 6, axis=0)
    found = np.asarray(SonoNetAugmentation(seed=3)(windows, training=True))
    assert np.abs(found - found[:, :1]).max() == 0
    assert len({window.tobytes() for window in found}) == 6


def test_each_flip_is_drawn_for_half_of_the_samples() -> None:
    corner = np.zeros((800, 4, 4, 1), "float32")
    corner[:, 0, 0] = 1
    found = drawn(corner, flips=0.5)[..., 0]
    counts = [int(found[:, row, column].sum()) for row in (0, -1) for column in (0, -1)]
    assert sum(counts) == 800
    assert all(151 <= count <= 249 for count in counts), counts  # 200 each, standard deviation 12


def test_gamma_is_drawn_evenly_from_its_range() -> None:
    picture = np.full((500, 4, 4, 1), 0.5, "float32")
    picture[:, 0, 0] = 1
    found = np.log(drawn(picture, gamma=(0.7, 1.4))[:, 1, 1, 0]) / np.log(0.5)
    assert 0.7 - 1e-5 <= found.min() < 0.72
    assert 1.38 < found.max() <= 1.4 + 1e-5
    assert abs(np.median(found) - 1.05) < 0.05


def test_the_factor_is_drawn_evenly_from_its_range() -> None:
    found = drawn(np.ones((500, 50, 50, 1), "float32"), factor=(0.8, 1.2))
    rows = np.count_nonzero(found[:, :, 25, 0], axis=1)
    assert rows.min() == 40
    assert 200 <= np.count_nonzero(rows < 50) <= 300  # 250, standard deviation 11


def test_the_angle_is_drawn_evenly_from_its_range() -> None:
    down, across = np.meshgrid(np.linspace(0, 1, 21), np.linspace(0, 1, 21), indexing="ij")
    ramp = np.repeat((across + 0 * down)[np.newaxis, ..., np.newaxis].astype("float32"), 500, axis=0)
    found = drawn(ramp, degrees=(-10.0, 10.0))[..., 0]
    slope_down, slope_across = found[:, 12, 10] - found[:, 8, 10], found[:, 10, 12] - found[:, 10, 8]
    angles = np.rad2deg(np.arctan2(-slope_down, slope_across))
    assert -10.01 <= angles.min() < -9.5
    assert 9.5 < angles.max() <= 10.01
    assert abs(np.median(angles)) < 1.5


def test_the_seed_decides_and_each_step_draws_anew() -> None:
    windows = noise(4, 2, 16, 16, 1)
    layer, twin, other = (SonoNetAugmentation(seed=seed) for seed in (1, 1, 2))
    first, second = (np.asarray(layer(windows, training=True)) for _ in range(2))
    np.testing.assert_array_equal(twin(windows, training=True), first)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other(windows, training=True))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(16, 20, 1), (3, 16, 20, 1)])
@pytest.mark.parametrize("compiled", [False, True])
def test_it_runs_in_a_graph_for_batches_of_any_size(shape: tuple[int, ...], compiled: bool) -> None:
    exact = {"flips": 1.0, "gamma": (0.8, 0.8), "factor": (1.1, 1.1), "degrees": (6.0, 6.0)}
    inputs = keras.Input(shape)
    model = keras.Model(inputs, SonoNetAugmentation(seed=5, **exact)(inputs))
    any_size = [tf.TensorSpec((None, *shape))]
    in_graph = tf.function(lambda samples: model(samples, training=True), any_size, jit_compile=compiled)
    for count in (2, 3):
        samples = noise(count, *shape)
        np.testing.assert_allclose(in_graph(samples), drawn(samples, **exact), rtol=0, atol=1e-5)
