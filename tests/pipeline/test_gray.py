"""Gray against Pillow, and against numbers written out."""

import numpy as np
import pytest
from PIL import Image

from pipeline.gray import divide_by_maximum, rounded_gray, truncated_gray

pytestmark = pytest.mark.unit

LEVELS = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def test_rounded_gray_is_pillows():
    colours = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    np.testing.assert_array_equal(rounded_gray(colours), np.asarray(Image.fromarray(colours).convert("L")))
    np.testing.assert_array_equal(rounded_gray(LEVELS), np.arange(256))


def test_truncated_gray_loses_a_level():
    np.testing.assert_array_equal(truncated_gray(LEVELS), [0, *range(255)])


def test_truncated_gray_of_the_pure_colours():
    # 255 times 0.2989, 0.587 and 0.114: 76.2, 149.7, 29.1
    np.testing.assert_array_equal(truncated_gray(np.diag([255, 255, 255]).astype(np.uint8)), [76, 149, 29])


def test_each_picture_has_its_own_maximum():
    pictures = np.array([[[0, 5], [10, 20]], [[0, 0], [0, 0]], [[3, 3], [3, 3]]], np.uint8)
    wanted = [[[0, 0.25], [0.5, 1]], [[0, 0], [0, 0]], [[1, 1], [1, 1]]]
    divided = divide_by_maximum(pictures)
    np.testing.assert_array_equal(divided, wanted)
    assert divided.dtype == np.float32
    assert pictures.max() == 20
