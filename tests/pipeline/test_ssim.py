"""SSIM against scikit-image, and against the formula of the paper, window by window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from pipeline.ssim import consecutive_ssim

pytestmark = pytest.mark.unit

SIDES = st.one_of(st.integers(7, 20), st.integers(7, 200))


def by_the_formula(first, second):
    """Equation 13, with NumPy's own variances over every window."""
    windows = [
        np.lib.stride_tricks.sliding_window_view(picture.astype(float), (7, 7)).reshape(-1, 49)
        for picture in (first, second)
    ]
    (mean_x, mean_y), (var_x, var_y) = zip(*((w.mean(1), w.var(1, ddof=1)) for w in windows), strict=True)
    covariance = ((windows[0] - mean_x[:, None]) * (windows[1] - mean_y[:, None])).sum(1) / 48
    luminance, contrast = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_x * mean_y + luminance) * (2 * covariance + contrast)
    return (above / ((mean_x**2 + mean_y**2 + luminance) * (var_x + var_y + contrast))).mean()


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(0, 255), st.integers(0, 2**32))
def test_equals_scikit_image(height, width, spread, seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, (height, width))
    second = np.clip(first + rng.integers(-spread, spread + 1, first.shape), 0, 255)
    frames = np.stack([first, second]).astype(np.uint8)
    wanted = structural_similarity(*frames, data_range=255)
    np.testing.assert_allclose(consecutive_ssim(frames), [wanted], atol=1e-7)


def test_equals_the_formula():
    frames = np.random.default_rng(1).integers(0, 256, (3, 70, 31), np.uint8)
    frames[2] = frames[1] // 2 + 20
    wanted = [by_the_formula(frames[0], frames[1]), by_the_formula(frames[1], frames[2])]
    np.testing.assert_allclose(consecutive_ssim(frames), wanted, atol=1e-7)
    assert wanted[1] > 0.5 > 0.1 > abs(wanted[0])


def test_black_and_white_are_as_unlike_as_the_constant_lets_them_be():
    frames = np.zeros((2, 20, 20), np.uint8)
    frames[1] = 255
    assert consecutive_ssim(frames)[0] == pytest.approx(2.55**2 / (255**2 + 2.55**2), abs=1e-9)


@pytest.mark.parametrize("height", [7, 54, 55, 700])
def test_equal_frames_are_exactly_alike(height):
    frame = np.random.default_rng(2).integers(0, 256, (height, 90), np.uint8)
    assert (consecutive_ssim(np.stack([frame] * 4)) == 1).all()


def test_works_on_cuts_of_larger_frames():
    frames = np.random.default_rng(3).integers(0, 256, (3, 80, 90), np.uint8)
    cut = frames[:, 5:60, 11:80]
    np.testing.assert_array_equal(consecutive_ssim(cut), consecutive_ssim(cut.copy()))


def test_one_frame_has_no_pair():
    assert consecutive_ssim(np.zeros((1, 9, 9), np.uint8)).shape == (0,)


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 6, 9), np.uint8), np.zeros((9, 9), np.uint8), np.zeros((2, 9, 9), np.float32)]
)
def test_refuses_what_has_no_windows(frames):
    with pytest.raises(ValueError, match="at least 7 x 7, not"):
        consecutive_ssim(frames)
