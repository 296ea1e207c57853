"""Resizing with antialias against Pillow, against arrays that Pillow made, and against itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.antialias import resize_antialias_float
from pipeline.siz import resize_antialias

pytestmark = pytest.mark.unit

SIDES = st.one_of(st.integers(1, 12), st.integers(1, 300), st.integers(1, 900))
ORACLE_SIZES = [
    "512x512_to_224x224",
    "340x380_to_224x224",
    "100x80_to_224x224",
    "640x480_to_64x64",
    "300x300_to_512x512",
    "7x5_to_224x224",
    "512x512_to_1x1",
    "411x333_to_224x224",
]


def pillow(image, shape):
    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def levels_apart(first, second):
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def noise(shape, seed):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@settings(max_examples=100, deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.integers(0, 2**32))
def test_within_one_gray_level_of_pillow(size, target, seed):
    image = noise(size, seed)
    resized = resize_antialias(image[None], target)
    assert resized.shape == (1, *target)
    assert resized.dtype == np.uint8
    assert levels_apart(resized[0], pillow(image, target)) <= 1


@pytest.mark.parametrize("target", [(224, 224), (600, 600), (380, 60), (340, 500)])
def test_equals_pillow_where_it_takes_the_columns_first(target):
    image = noise((340, 380), 1)
    np.testing.assert_array_equal(resize_antialias(image[None], target)[0], pillow(image, target))


def test_pictures_do_not_feel_each_other():
    images = noise((5, 60, 80), 2)
    resized = resize_antialias(images, (17, 23))
    for image, alone in zip(images, resized, strict=True):
        np.testing.assert_array_equal(resize_antialias(image[None], (17, 23))[0], alone)


def test_same_size_is_the_same_picture():
    images = noise((2, 33, 44), 3)
    np.testing.assert_array_equal(resize_antialias(images, (33, 44)), images)
    np.testing.assert_array_equal(resize_antialias_float(images, (33, 44)), images)


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_flat_pictures_stay_flat(level):
    flat = np.full((1, 97, 101), level, np.uint8)
    assert (resize_antialias(flat, (31, 200)) == level).all()


def test_half_the_size_weighs_four_neighbours():
    # The foot of the triangle is four pixels wide: 1/8, 3/8, 3/8, 1/8.
    row = np.array([[[0, 0, 80, 0, 0, 0, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(resize_antialias(row, (1, 4)), [[[11, 30, 0, 0]]])  # 80/7 at the edge


def test_floats_keep_their_fractions_and_their_range():
    pictures = np.linspace(-1000, 400, 64 * 48).reshape(1, 64, 48)
    resized = resize_antialias_float(pictures, (16, 12))
    wanted = np.asarray(
        Image.fromarray(pictures[0].astype(np.float32)).resize((12, 16), Image.Resampling.BILINEAR)
    )
    np.testing.assert_allclose(resized[0], wanted, atol=2e-5 * 1400)
    assert resized.dtype == np.float32


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (np.zeros((4, 4), np.uint8), (2, 2)),
        (np.zeros((1, 0, 4), np.uint8), (2, 2)),
        (np.zeros((1, 4, 4), np.uint8), (2, 0)),
        (np.zeros((1, 4, 4), np.uint8), (2, 2, 2)),
        (np.zeros((1, 4, 4), np.int16), (2, 2)),
    ],
)
def test_refuses_what_are_no_pictures(images, shape):
    with pytest.raises(ValueError, match=r"not (\(|int16)"):
        resize_antialias(images, shape)


@pytest.fixture(scope="module")
def transforms(shared):
    path = shared / "oracle_covid/transforms.npz"
    if not path.is_file():
        pytest.skip("the arrays that Pillow and torchvision made are not here")
    with np.load(path) as arrays:
        yield arrays


@pytest.mark.parametrize("sizes", ORACLE_SIZES)
def test_equals_the_arrays_of_pillow(transforms, sizes):
    image, wanted = transforms[f"resize_{sizes}_input"], transforms[f"resize_{sizes}_expected_u8"]
    np.testing.assert_array_equal(resize_antialias(image[None], wanted.shape)[0], wanted)
    floats = transforms[f"resize_{sizes}_modeF_expected"]
    np.testing.assert_allclose(resize_antialias_float(image[None], wanted.shape)[0], floats, atol=2e-5 * 255)


def test_equals_pillow_9_where_pillow_13_takes_the_rows_first(transforms):
    resized = resize_antialias(transforms["resize_1024x512_to_224x224_input"][None], (224, 224))[0]
    np.testing.assert_array_equal(resized, transforms["resize_1024x512_to_224x224_expected_u8_pillow9"])
    assert levels_apart(resized, transforms["resize_1024x512_to_224x224_expected_u8"]) == 1
