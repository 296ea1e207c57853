"""Colours to gray, and gray to [0, 1], as the libraries of the papers did it.

Colour pictures are (..., 3) uint8, red, green, blue; gray ones (...) uint8, 0 to 255. All use the weights
of ITU-R BT.601; they differ in precision and in rounding.
"""

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Float32 = NDArray[np.float32]

WEIGHTS = (0.2989, 0.587, 0.114)  # torchvision's: their sum is below 1
FIXED_WEIGHTS = (19595, 38470, 7471)  # Pillow's, in 2 ** -16


def truncated_gray(colours: Gray) -> Gray:
    """Torchvision's ``Grayscale`` of uint8: the fraction is cut off, so that gray v comes out as v - 1."""
    gray: Gray = gray_values(colours).astype(np.uint8)
    return gray


def gray_values(colours: NDArray[np.generic]) -> Float32:
    """Torchvision's ``Grayscale`` of float32: (..., 3) in any units to (...) in the same."""
    red, green, blue = (colours[..., channel].astype(np.float32) for channel in range(3))
    gray: Float32 = red * WEIGHTS[0] + green * WEIGHTS[1] + blue * WEIGHTS[2]
    return gray


def rounded_gray(colours: Gray) -> Gray:
    """Pillow's ``convert("L")``: rounded, so that gray stays what it is."""
    fixed = colours.astype(np.uint32) @ np.array(FIXED_WEIGHTS, np.uint32)
    gray: Gray = ((fixed + (1 << 15)) >> 16).astype(np.uint8)
    return gray


def divide_by_maximum(pictures: NDArray[np.generic]) -> Float32:
    """Each picture (..., height, width) of values from 0 on, divided by its own maximum; black stays 0."""
    values = pictures.astype(np.float32)
    highest = values.max(axis=(-2, -1), keepdims=True)
    divided: Float32 = np.divide(values, highest, out=np.zeros_like(values), where=highest > 0)
    return divided
