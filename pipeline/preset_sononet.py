"""What the readers of SpaceTime-SonoNet make of ultrasound frames, number for number.

Frames are (height, width, 3) uint8, red, green, blue; results float32 in [0, 1], each picture divided by its
own maximum. Frames of one picture and frames of a clip are read in different orders of colour, size and
rounding, so that the same frame differs by up to 0.006 between the two.

Source: Guraschi, Interlando, Noceti, Odone, Zini, "SpaceTime-SonoNet", Med. Biol. Eng. Comput., 2026.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.antialias import resize_antialias_float
from pipeline.gray import Float32, divide_by_maximum, truncated_gray

SIZE = (256, 256)


def read_picture(frame: NDArray[np.uint8]) -> Float32:
    """One frame for the two-dimensional networks, (256, 256): resized in colour, rounded, then gray."""
    channels = resize_antialias_float(np.moveaxis(frame, -1, 0), SIZE, columns_first=True)
    colours = np.rint(channels).astype(np.uint8)
    return divide_by_maximum(truncated_gray(np.moveaxis(colours, 0, -1)) / np.float32(255))


def read_clip(frames: NDArray[np.uint8]) -> Float32:
    """The frames (n, height, width, 3) of a clip, (n, 256, 256): gray, then resized without rounding."""
    gray = truncated_gray(frames) / np.float32(255)
    return divide_by_maximum(resize_antialias_float(gray, SIZE, columns_first=True))
