"""Gray pictures of generated sources: ellipses, float (height, width) in [0, 1], and PNG files of uint8."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ResourceError

Floats = NDArray[np.float64]
SIDE = 64  # pixels, of height and width


def grid() -> tuple[Floats, Floats]:
    """Row and column of every pixel, (height, width) each."""
    down, across = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    return down, across


def ellipse(row: float, column: float, height: float, width: float) -> Floats:
    """An ellipse of 1 on 0 with an edge of about a pixel, by its centre and half axes in pixels."""
    down, across = grid()
    distance = np.hypot((down - row) / height, (across - column) / width)
    return np.asarray(np.clip((1 - distance) * min(height, width) + 0.5, 0, 1), np.float64)


def smooth_noise(coarse: Floats) -> Floats:
    """A few random values, (n, m), as a smooth picture."""
    return np.asarray(cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.float64)


def write_png(path: Path, picture: Floats) -> None:
    """Write values, clipped to [0, 1], as a gray picture. Raises ResourceError if that is not possible."""
    _, encoded = cv2.imencode(".png", np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        remedy = "check the disk and its permissions"
        raise ResourceError.of(path, "cannot-write", str(error.strerror), remedy) from error
