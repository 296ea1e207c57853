"""What COVIDNet-CT-Identification makes of CT slices before its networks see them, number for number.

Slices are (height, width) uint8, or (height, width, 3) as JPEG files are read; results are float32
(224, 224) in [0, 1], or standardised.

Source: the notebook ``covid_training.ipynb`` of AbdullahMakhdoom/COVIDNet-CT-Identification, 2022.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.antialias import resize_antialias
from pipeline.crop import centre_crop
from pipeline.gray import Float32, rounded_gray

CROP = (340, 380)
SIZE = (224, 224)


def read_slice(picture: NDArray[np.uint8]) -> Float32:
    """The middle of a slice, 340 rows of 380 pixels, resized with antialias, then gray, divided by 255."""
    middle = centre_crop(picture, CROP)
    if middle.ndim == 2:
        gray = resize_antialias(middle[None], SIZE)[0]
    else:
        gray = rounded_gray(np.moveaxis(resize_antialias(np.moveaxis(middle, -1, 0), SIZE), 0, -1))
    scaled: Float32 = gray / np.float32(255)
    return scaled


def standardise(pictures: Float32, mean: float, deviation: float) -> Float32:
    """Values less the mean of the train part, divided by its standard deviation."""
    standard: Float32 = (pictures - np.float32(mean)) / np.float32(deviation)
    return standard
