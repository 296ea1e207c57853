"""SSIM, the structural similarity of two gray pictures; 1 where they are equal, else less.

Pictures are (height, width) uint8, 0 to 255. Means, variances and the covariance are those of a square
window of 7 x 7 pixels, all weighted alike, with n - 1 in the denominator; the result is the mean over all
windows that lie inside the picture. Equals ``skimage.metrics.structural_similarity(first, second,
data_range=255)`` to 1e-6.

Source: Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE
Trans. Image Process. 13(4), 2004, equation 13, with K1 = 0.01 and K2 = 0.03.
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]

WINDOW = 7
PIXELS = WINDOW**2
MARGIN = WINDOW // 2
STRIP = 48  # rows of windows at a time: what is computed of them stays in the processor's cache
# Means and variances are kept as the whole numbers of which they are the (49 x 49)th and the (49 x 48)th
# part. These fit in 29 bits, so nothing is lost where a variance is a small difference of large squares.
LUMINANCE = np.float32((0.01 * 255) ** 2 * PIXELS**2 / 2)
CONTRAST = np.float32((0.03 * 255) ** 2 * PIXELS * (PIXELS - 1) / 2)


@dataclass(frozen=True)
class _Windows:
    """Of each window: the sum, and half of what a picture adds to the two denominators of SSIM."""

    sums: Int32
    luminance: Float32
    contrast: Float32


def consecutive_ssim(frames: Gray) -> NDArray[np.float64]:
    """SSIM of each frame (n, height, width) with the next one, (n - 1,); exactly 1 where they are equal.

    Raises ValueError if frames are not uint8 or smaller than 7 x 7.
    """
    if frames.ndim != 3 or frames.dtype != np.uint8 or min(frames.shape[1:]) < WINDOW:
        reason = f"frames are uint8 (n, height, width) of at least {WINDOW} x {WINDOW}"
        raise ValueError(f"{reason}, not {frames.dtype} {frames.shape}")
    height, width = (side - WINDOW + 1 for side in frames.shape[1:])
    sums = np.zeros(max(0, len(frames) - 1))
    for top in range(0, height, STRIP):
        rows = slice(top, min(top + STRIP, height) + WINDOW - 1)
        described = ((frame, _windows(frame)) for frame in map(np.ascontiguousarray, frames[:, rows]))
        sums += [_similarity_sum(*first, *second) for first, second in pairwise(described)]
    means: NDArray[np.float64] = sums / (height * width)
    return means


def _windows(frame: Gray) -> _Windows:
    sums = _window_sums(frame)
    squares = sums * sums
    variances = _window_sums(_product(frame, frame)) * PIXELS - squares
    return _Windows(sums, _half(_plus(squares, LUMINANCE)), _half(_plus(variances, CONTRAST)))


def _similarity_sum(first: Gray, one: _Windows, second: Gray, other: _Windows) -> float:
    """SSIM of each window, added up."""
    products = one.sums * other.sums
    covariances = _window_sums(_product(first, second)) * PIXELS - products
    similarity = _plus(products, LUMINANCE)
    similarity /= one.luminance + other.luminance
    similarity *= _plus(covariances, CONTRAST)
    similarity /= one.contrast + other.contrast
    return float(similarity[:, MARGIN:-MARGIN].sum(dtype=np.float64))


def _product(first: Gray, second: Gray) -> NDArray[np.uint16]:
    return np.multiply(first, second, dtype=np.uint16)


def _plus(values: Int32, constant: np.float32) -> Float32:
    summed = values.astype(np.float32)
    summed += constant
    return summed


def _half(values: Float32) -> Float32:
    values *= np.float32(0.5)
    return values


def _window_sums(values: NDArray[np.uint8 | np.uint16]) -> Int32:
    """Sums over the windows inside the picture, and over some that reach out at its left and right.

    Those are cut off only in the end: whole rows are contiguous, which makes all sums 3 times as fast.
    """
    sums = cv2.boxFilter(values, cv2.CV_32S, (WINDOW, WINDOW), normalize=False)
    inside: Int32 = np.asarray(sums, np.int32)[MARGIN:-MARGIN]
    return inside
