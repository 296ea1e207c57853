"""The steps of ViPTT-Net's code of 2021, written out with nibabel, SciPy and OpenCV."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FULL = (70, 224, 224)
Array = NDArray[Any]


def scan_of_2021(
    path: Path, shape: tuple[int, int, int] = FULL, *, turn: Callable[[Array], Array] = np.rot90
) -> Array:
    """Load, window, scale, float32, turn by 90 degrees, zoom, clip, depth first: in that order."""
    img = nib.load(path).get_fdata()
    img[img < -1000] = -1000
    img[img > 400] = 400
    img = ((img + 1000) / 1400).astype("float32")
    img = turn(img)
    depth, height, width = shape
    factors = [1 / (now / then) for now, then in zip(img.shape, (height, width, depth), strict=True)]
    img = ndimage.zoom(img, factors, order=1)
    img[img < 0] = 0
    img[img > 1] = 1
    return np.moveaxis(img, -1, 0)


def turned_by_scipy(img: Array) -> Array:
    return ndimage.rotate(img, 90, reshape=False)


def clip_of_2021(path: Path, count: int = 70, side: int = 224) -> Array:
    """The first frames one after the other, each resized, then grey."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while len(frames) < count:
        done, image = capture.read()
        assert done
        frames.append(cv2.cvtColor(cv2.resize(image, (side, side)), cv2.COLOR_BGR2GRAY))
    return np.array(frames)
