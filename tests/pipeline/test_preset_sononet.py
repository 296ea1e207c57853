"""The readers of SpaceTime-SonoNet, against arrays that they made."""

import numpy as np
import pytest

from pipeline.gray import truncated_gray
from pipeline.preset_sononet import read_clip, read_picture

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def reader(shared):
    path = shared / "oracle/reader.npz"
    if not path.is_file():
        pytest.skip("the arrays of the original readers are not here")
    with np.load(path) as arrays:
        yield arrays


def test_a_picture_is_exact(reader):
    np.testing.assert_array_equal(read_picture(reader["frames_rgb"][0]), reader["expected_2d"][0])


def test_a_clip_is_exact_but_for_the_last_bits(reader):
    np.testing.assert_allclose(read_clip(reader["frames_rgb"]), reader["expected_3d"][:, 0], atol=1e-6)


def test_the_two_differ_on_the_same_frame(reader):
    frames = reader["frames_rgb"]
    apart = np.abs(read_picture(frames[0]) - read_clip(frames)[0]).max()
    assert 0.004 < apart < 0.007  # the README of the arrays says up to 0.006


def test_gray_of_colours_is_exact(reader):
    colours = np.moveaxis(reader["stage2d_resized_rgb_uint8"], 0, -1)
    np.testing.assert_array_equal(truncated_gray(colours), reader["stage2d_gray_uint8"][0])


def test_a_black_frame_stays_black(reader):
    black = np.zeros((300, 400, 3), np.uint8)
    np.testing.assert_array_equal(read_picture(black), reader["black_frame_expected"][0])
    assert not read_clip(black[None]).any()
