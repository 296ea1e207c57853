"""The layers that a list of settings names: for pictures and windows, drawn once for a sample."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest

from model.augment import RandomRotation
from model.augmentation import augmentation_layers
from model.settings import Settings
from model.slice_augment import RandomSlices, SliceAugmentation
from pipeline.errors import ConfigError

PICTURE, WINDOW = (20, 24, 1), (5, 20, 24, 1)
LISTS: dict[str, list[Mapping[str, Any]]] = {
    "ultrasound": [{"ultrasound": {}}],
    "slices": [{"slices": {"rotation": 30, "shift": 15, "probability": 1}}],
    "rotations": [{"rotations": {"angles": [10, 20]}}],
    "of Keras": [{"RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2}}, {"RandomFlip": {}}],
    "blurred": [{"RandomGaussianBlur": {"sigma": 1.0}}],
    "both": [{"RandomFlip": {"mode": "vertical"}}, {"slices": {}}],
}


def changed(
    layers: list[Mapping[str, Any]], samples: np.ndarray, *, seed: int = 0, training: bool = True
) -> np.ndarray:
    found: Any = keras.ops.convert_to_tensor(samples)
    for layer in augmentation_layers(Settings(augmentation=tuple(layers), seed=seed), samples.shape[1:]):
        found = layer(found, training=training)
    return np.asarray(found)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("shape", [PICTURE, WINDOW], ids=["pictures", "windows"])
def test_samples_change_in_training_alone(name: str, shape: tuple[int, ...]) -> None:
    samples = noise(6, *shape)
    found = changed(LISTS[name], samples)
    assert found.shape == samples.shape
    assert not np.array_equal(found, samples)
    np.testing.assert_array_equal(found, changed(LISTS[name], samples))
    np.testing.assert_array_equal(changed(LISTS[name], samples, training=False), samples)


@pytest.mark.parametrize("name", LISTS)
def test_the_pictures_of_a_window_are_treated_alike(name: str) -> None:
    pictures = noise(6, *PICTURE)
    windows = np.repeat(pictures[:, None], 5, axis=1)
    found = changed(LISTS[name], windows)
    np.testing.assert_allclose(found, np.repeat(found[:, :1], 5, axis=1), atol=1e-5)


def test_layers_of_one_kind_draw_by_seeds_of_their_own() -> None:
    """With the same draws, the second flip would undo the first."""
    samples = noise(32, *PICTURE)
    found = changed([{"RandomFlip": {"mode": "horizontal"}}] * 2, samples)
    assert not np.array_equal(found, samples)


@pytest.mark.parametrize("name", LISTS)
def test_half_precision_changes_nothing_but_digits(name: str) -> None:
    windows = noise(4, *WINDOW)
    expected = changed(LISTS[name], windows)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        found = changed(LISTS[name], windows)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_a_seed_decides() -> None:
    samples, flips = noise(16, *PICTURE), LISTS["of Keras"]
    assert not np.array_equal(changed(flips, samples, seed=0), changed(flips, samples, seed=1))


def test_slices_are_those_of_the_layer_itself() -> None:
    samples, given = noise(6, *PICTURE), {"rotation": 30.0, "probability": 1.0}
    layer = RandomSlices(SliceAugmentation(**given), seed=1000)
    expected = np.asarray(layer(samples, training=True))
    np.testing.assert_array_equal(changed([{"slices": given}], samples), expected)


def test_a_picture_is_rotated_as_a_volume_of_one_slice() -> None:
    pictures = noise(6, *PICTURE)
    rotation = RandomRotation(20, 24, angles=[10, 20], seed=1000)
    expected = np.asarray(rotation(pictures[:, None], training=True))[:, 0]
    np.testing.assert_array_equal(changed(LISTS["rotations"], pictures), expected)


def test_the_list_is_applied_in_its_order() -> None:
    """Brightness is cut off above: after it, contrast finds other values than before it."""
    samples = noise(8, *PICTURE)
    bright = {"RandomBrightness": {"factor": [0.5, 0.5], "value_range": [0, 1]}}
    contrast = {"RandomContrast": {"factor": [0.9, 0.9], "value_range": [0, 1]}}
    assert not np.allclose(changed([bright, contrast], samples), changed([contrast, bright], samples))


@pytest.mark.parametrize(("name", "close"), [("RandomFlop", "RandomFlip"), ("ultrasond", "ultrasound")])
def test_a_misspelt_layer(name: str, close: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown-name: there is no '{name}' → did you mean `{close}`"):
        list(augmentation_layers(Settings(augmentation=({name: {}},)), PICTURE))
