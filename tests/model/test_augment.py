import keras
import numpy as np
import pytest
from scipy import ndimage

from model import preset_2021
from model.augment import RandomRotation, lookup, rotate
from model.settings import ANGLES


def volumes(count: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *shape, 1), dtype=np.float32)


def by_scipy(volume: np.ndarray, angle: float) -> np.ndarray:
    return ndimage.rotate(volume[..., 0], angle, axes=(1, 2), reshape=False, order=1)[..., np.newaxis]


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 33, 47), (1, 64, 20), (2, 1, 5)])
@pytest.mark.parametrize("angle", [*ANGLES, 90.0, 180.0, -90.0, 37.5])
def test_it_is_the_rotation_of_scipy(shape: tuple[int, int, int], angle: float) -> None:
    batch = volumes(2, shape)
    found = np.asarray(
        rotate(keras.ops.convert_to_tensor(batch), np.array([0, 0]), lookup(*shape[1:], angles=[angle]))
    )
    expected = np.stack([by_scipy(volume, angle) for volume in batch])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_it_is_the_rotation_of_scipy_at_full_size() -> None:
    batch = volumes(len(ANGLES), (2, 224, 224))
    found = rotate(keras.ops.convert_to_tensor(batch), np.arange(len(ANGLES)), lookup(224, 224))
    expected = np.stack([by_scipy(volume, angle) for volume, angle in zip(batch, ANGLES, strict=True)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_each_volume_of_a_batch_has_its_own_angle_and_all_its_slices_share_it() -> None:
    one = volumes(1, (1, 32, 32))
    batch = np.repeat(np.repeat(one, 3, axis=0), 4, axis=1)
    found = np.asarray(rotate(keras.ops.convert_to_tensor(batch), np.array([0, 3, 6]), lookup(32, 32)))
    for turned, angle in zip(found, (-20, 0, 20), strict=True):
        for plane in turned:
            np.testing.assert_allclose(plane, by_scipy(one[0], angle)[0], atol=1e-5)


def test_outside_training_nothing_happens() -> None:
    batch = volumes(2, (2, 32, 32))
    np.testing.assert_array_equal(RandomRotation(32, 32, seed=0)(batch), batch)


def test_the_code_of_2021_left_a_quarter_as_it_was_and_drew_the_rest_evenly() -> None:
    drawn = angles_drawn(RandomRotation(32, 32, angles=preset_2021.ANGLES, seed=1), 800)
    counts = {angle: drawn.count(angle) for angle in ANGLES}
    assert 164 <= counts.pop(0.0) <= 236  # 200, standard deviation 12
    assert all(72 <= count <= 128 for count in counts.values()), counts  # 100 each, standard deviation 9


def angles_drawn(layer: RandomRotation, count: int) -> list[float]:
    batch = np.repeat(volumes(1, (1, 32, 32)), count, axis=0)
    known = np.asarray(rotate(keras.ops.convert_to_tensor(batch[:7]), np.arange(7), lookup(32, 32)))
    return [
        ANGLES[int(np.abs(known - turned).sum(axis=(1, 2, 3, 4)).argmin())]
        for turned in layer(batch, training=True)
    ]


def test_in_training_every_angle_is_drawn_as_often() -> None:
    drawn = angles_drawn(RandomRotation(32, 32, seed=1), 700)
    counts = [drawn.count(angle) for angle in ANGLES]
    assert all(70 <= count <= 130 for count in counts), counts  # 100 each, standard deviation 9


def test_the_seed_decides_and_each_step_draws_anew() -> None:
    layer, twin, other = (RandomRotation(32, 32, seed=seed) for seed in (1, 1, 2))
    first, second = angles_drawn(layer, 20), angles_drawn(layer, 20)
    assert first == angles_drawn(twin, 20)
    assert first != second
    assert first != angles_drawn(other, 20)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_dtype_stays(dtype: str) -> None:
    batch = keras.ops.cast(volumes(2, (2, 32, 32)), dtype)
    assert keras.backend.standardize_dtype(rotate(batch, np.array([1, 2]), lookup(32, 32)).dtype) == dtype
