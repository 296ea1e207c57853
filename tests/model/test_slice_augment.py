"""The deterministic parts beside the original's own outputs; what is drawn, by counting."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from model.slice_augment import (
    PRESETS,
    RandomSlices,
    SliceAugmentation,
    brightened,
    crop,
    flip,
    moved,
    rotation,
    shear,
)
from pipeline.errors import ConfigError

Array = NDArray[np.float32]


def one(value: float) -> Array:
    return np.array([value], "float32")


def applied(image: Array, mapping: object) -> Array:
    found: Array = np.asarray(moved(image[np.newaxis, ..., np.newaxis].astype("float32"), mapping))[0, ..., 0]
    return found


@pytest.fixture(scope="module")
def oracle(shared: Path) -> dict[str, NDArray]:
    with np.load(shared / "oracle_covid/augment.npz") as file:
        return {name: file[name] for name in file.files if not name.startswith("eval")}


def turned_in_three_steps(image: Array, box: NDArray, degrees: float) -> Array:
    """As the original: the box to the centre, the rotation, and back, each rounded down."""
    height, width = image.shape
    right, down = (width / 2 - (box[0] + box[2]) / 2, height / 2 - (box[1] + box[3]) / 2)
    steps = (
        crop(one(-right), one(-down), one(width - right), one(height - down), height, width),
        rotation(one(degrees), height, width),
        crop(one(right), one(down), one(width + right), one(height + down), height, width),
    )
    for step in steps:
        image = np.floor(applied(image, step))
    return image


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("degrees", [12, -15, 7.3])
def test_rotation_is_the_originals(number: int, degrees: float, oracle: dict[str, NDArray]) -> None:
    found = turned_in_three_steps(oracle[f"img{number}"], oracle[f"box{number}"], degrees)
    apart = np.abs(found - oracle[f"rotate_img{number}_{degrees:+}deg_out"])
    assert apart.max() <= 1
    assert (apart > 0).sum() <= 60  # of 262 144 pixels; NumPy alone is apart in up to 52


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("amount", [0.2, -0.13])
def test_shear_is_the_originals(number: int, amount: float, oracle: dict[str, NDArray]) -> None:
    for axis, mapping in (("x", shear(one(amount), one(0))), ("y", shear(one(0), one(amount)))):
        found = np.floor(applied(oracle[f"img{number}"], mapping))
        np.testing.assert_array_equal(found, oracle[f"shear{axis}_img{number}_{amount:+}_out"])


def test_gray_levels_are_the_originals(oracle: dict[str, NDArray]) -> None:
    levels = np.arange(256, dtype="float32").reshape(1, 1, 256, 1)
    for (shift, scale), expected in zip(oracle["shiftscale_params"], oracle["shiftscale_lut"], strict=True):
        found = np.floor(np.asarray(brightened(levels, one(shift), one(scale), top=255.0)))
        np.testing.assert_array_equal(found.ravel(), expected)


def test_a_whole_chain_is_the_originals(oracle: dict[str, NDArray]) -> None:
    """Chain C: turned by 7.3 degrees, cut to the box, mirrored."""
    image, (left, top, right, bottom) = oracle["img0"], oracle["chainC_box"]
    cut = turned_in_three_steps(image, oracle["box0"], 7.3)[top:bottom, left:right]
    found = applied(cut, flip(one(1), one(0), *cut.shape))
    apart = np.abs(found - oracle["chainC_out"])
    assert apart.max() <= 1
    assert (apart > 0).sum() <= 60


# --- mappings by themselves -----------------------------------------------------------------------


def smooth(height: int, width: int, seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).random((height, width))
    return ndimage.gaussian_filter(noise, 3).astype("float32")


@pytest.mark.parametrize("size", [(32, 32), (33, 48)])
def test_flips_are_those_of_numpy(size: tuple[int, int]) -> None:
    image = smooth(*size)
    np.testing.assert_allclose(applied(image, flip(one(1), one(0), *size)), image[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(applied(image, flip(one(0), one(1), *size)), image[::-1], atol=1e-5)
    height, width = size
    whole = crop(one(0), one(0), one(width), one(height), height, width)
    np.testing.assert_array_equal(applied(image, whole), image)


def test_rotation_is_that_of_scipy() -> None:
    image = smooth(40, 56)
    expected = ndimage.rotate(image, 25, reshape=False, order=1)
    found = applied(image, rotation(one(25), 40, 56))
    inside = ndimage.rotate(np.ones_like(image), 25, reshape=False, order=1) > 0.999
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)


def test_a_crop_fills_the_frame_with_the_box() -> None:
    image = smooth(40, 60)
    box = image[10:30, 15:45]
    found = applied(image, crop(one(15), one(10), one(45), one(30), 40, 60))
    expected = np.asarray(keras.ops.image.resize(box[..., None], (40, 60), interpolation="bilinear"))[..., 0]
    # At its border, a resized box knows nothing of what lies around it; the crop does.
    np.testing.assert_allclose(found[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-4)


# --- what is drawn --------------------------------------------------------------------------------


def drawn(settings: SliceAugmentation, image: Array, count: int, seed: int = 1) -> Array:
    batch = np.repeat(image[np.newaxis, ..., np.newaxis], count, axis=0)
    found: Array = np.asarray(RandomSlices(settings, seed=seed)(batch, training=True))[..., 0]
    return found


def test_outside_training_nothing_happens() -> None:
    batch = smooth(32, 32)[np.newaxis, ..., np.newaxis]
    np.testing.assert_array_equal(RandomSlices(PRESETS["covidnet-ct"], seed=0)(batch), batch)


def test_flips_are_drawn_as_often_as_asked_for() -> None:
    image = smooth(32, 32)
    found = drawn(SliceAugmentation(flip_left_right=0.5, flip_up_down=0.25), image, 400)
    forms = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
    nearest = [int(np.argmin([np.abs(form - item).max() for form in forms])) for item in found]
    assert max(np.abs(forms[form] - item).max() for form, item in zip(nearest, found, strict=True)) < 1e-5
    counts = np.bincount(nearest, minlength=4)
    np.testing.assert_allclose(counts, [150, 150, 50, 50], atol=40)  # standard deviation below 10


def test_angles_stay_within_their_range_and_fill_it() -> None:
    """A bar to the right of the centre: where its end lies tells the angle, counter-clockwise."""
    image = np.zeros((65, 65), "float32")
    image[32, 40:60] = 1
    found = drawn(SliceAugmentation(0.0, rotation=30.0, probability=1.0), image, 300)
    rows, columns = np.indices(image.shape)
    heavy = found.sum(axis=(1, 2))
    y, x = (found * (rows - 32)).sum(axis=(1, 2)) / heavy, (found * (columns - 32)).sum(axis=(1, 2)) / heavy
    angles = np.degrees(np.arctan2(-y, x))
    assert angles.min() > -30.5
    assert angles.max() < 30.5
    np.testing.assert_allclose(np.percentile(angles, (10, 50, 90)), (-24, 0, 24), atol=6)


def test_half_of_the_pictures_get_other_gray_levels() -> None:
    image = np.full((8, 8), 0.5, "float32")
    found = drawn(SliceAugmentation(0.0, shift=15.0, scale=0.15), image, 400)[:, 4, 4]
    assert 150 < (np.abs(found - 0.5) < 1e-6).sum() < 250
    assert 0.85 * (0.5 - 15 / 255) - 1e-6 <= found.min() < 0.42
    assert 0.58 < found.max() <= 1.15 * (0.5 + 15 / 255) + 1e-6


@pytest.mark.parametrize("change", ["jitter", "shear"])
def test_the_frame_is_moved_and_stays_within_reach(change: str) -> None:
    image = smooth(48, 48)
    found = drawn(SliceAugmentation(0.0, **{change: 0.1}), image, 60)
    same = [np.abs(item - image).max() < 1e-5 for item in found]
    assert 15 <= sum(same) <= 45
    for item in found:  # the centre hardly moves: by half of what two sides do at most
        around = image[24 - 6 : 24 + 7, 24 - 6 : 24 + 7]
        assert around.min() - 1e-3 <= item[24, 24] <= around.max() + 1e-3


def test_the_seed_decides_and_each_step_draws_anew() -> None:
    image = smooth(32, 32)
    settings = PRESETS["covidnet-ct"]
    np.testing.assert_array_equal(drawn(settings, image, 5), drawn(settings, image, 5))
    assert np.abs(drawn(settings, image, 5) - drawn(settings, image, 5, seed=2)).max() > 0.01
    layer, batch = RandomSlices(settings, seed=1), image[np.newaxis, ..., np.newaxis]
    first, second = layer(batch, training=True), layer(batch, training=True)
    assert np.abs(np.asarray(first) - np.asarray(second)).max() > 0


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_shape_and_dtype_stay(dtype: str) -> None:
    batch = keras.ops.cast(smooth(32, 40)[np.newaxis, ..., np.newaxis], dtype)
    layer = RandomSlices(PRESETS["covidnet-ct-id-2022"], seed=0)
    layer.dtype_policy = keras.DTypePolicy("mixed_float16" if dtype == "float16" else "float32")
    found = layer(batch, training=True)
    assert found.shape == (1, 32, 40, 1)
    assert keras.backend.standardize_dtype(found.dtype) == dtype


def test_it_trains_inside_a_network_with_any_number_of_pictures() -> None:
    stages = [RandomSlices(PRESETS["covidnet-ct"], seed=0), keras.layers.Flatten(), keras.layers.Dense(2)]
    net = keras.Sequential([keras.Input((16, 16, 1)), *stages])
    net.compile("sgd", "mse")
    pictures = np.random.default_rng(0).random((5, 16, 16, 1), dtype=np.float32)
    history = net.fit(pictures, np.zeros((5, 2)), batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize(("name", "value"), [("rotation", 181.0), ("jitter", 0.5), ("flip_up_down", -0.1)])
def test_what_cannot_be_drawn_is_refused(name: str, value: float, refusal: Callable[..., tuple]) -> None:
    (problem,) = refusal(ConfigError, lambda: SliceAugmentation(**{name: value}))
    assert problem.where == f"augmentation.{name}"
