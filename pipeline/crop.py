"""Where a picture is cut, and what of a CT slice lies outside the body.

Pictures are (height, width); boxes are (xmin, ymin, xmax, ymax), half-open: ``picture[ymin:ymax,
xmin:xmax]``, as in COVIDx-CT's lists. The body is found in uint8 slices (windowed, air darker than tissue).
Crops are views of the picture where nothing has to be added around it.

Source of body and exterior: H. Gunraj, L. Wang, A. Wong, "COVIDNet-CT", Frontiers in Medicine 7, 2020, and
the code that came with it, equal to it pixel by pixel; N. Otsu, "A threshold selection method from
gray-level histograms", IEEE Trans. Syst. Man Cybern. 9(1), 1979. Centre: torchvision's ``CenterCrop``.
"""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
Pixel = TypeVar("Pixel", bound=np.generic)
Gray = NDArray[np.uint8]

SMOOTHING = (5, 5)  # pixels, of the Gaussian before the threshold
ERODED = (7, 7)  # pixels, by which the table and the body come apart


def centre_crop(picture: NDArray[Pixel], shape: tuple[int, int]) -> NDArray[Pixel]:
    """Cut (or pad with 0) the first two axes to ``shape`` (height, width), around the middle.

    Where the excess is odd, half of it is rounded to the even number; where the deficit is odd, the
    larger half is added at the bottom and at the right. Raises ValueError if ``shape`` has no pixels.
    """
    if min(shape) < 1:
        raise ValueError(f"a crop has at least one pixel, not {shape}")
    missing = [max(0, want - have) for want, have in zip(shape, picture.shape, strict=False)]
    if any(missing):
        widths = [(lack // 2, (lack + 1) // 2) for lack in missing]
        picture = np.pad(picture, widths + [(0, 0)] * (picture.ndim - 2))
    top, left = (round((have - want) / 2) for want, have in zip(shape, picture.shape, strict=False))
    return picture[top : top + shape[0], left : left + shape[1]]


def box_crop(picture: NDArray[Pixel], box: Box) -> NDArray[Pixel]:
    """Cut the first two axes to a box. Raises ValueError if it is empty or reaches out of the picture."""
    xmin, ymin, xmax, ymax = box
    height, width = picture.shape[:2]
    if not (0 <= xmin < xmax <= width and 0 <= ymin < ymax <= height):
        raise ValueError(f"the box {box} is empty or reaches out of a picture of {height} x {width}")
    return picture[ymin:ymax, xmin:xmax]


def body_box(image: Gray) -> Box:
    """The box of the body in a slice (height, width), after the table was eroded from it.

    Raises ValueError if the slice is not uint8 (height, width), or no body is left in it: all black, or
    nothing larger than about 8 x 8 pixels.

    Examples:
        >>> slice_ = np.zeros((64, 64), np.uint8)
        >>> slice_[16:48, 12:52] = 200
        >>> body_box(slice_)
        (15, 19, 49, 45)
    """
    eroded = cv2.erode(_brighter_than_otsu(image), np.ones(ERODED, np.uint8))
    xmin, ymin, width, height = cv2.boundingRect(_largest_outline(np.asarray(eroded, np.uint8)))
    return xmin, ymin, xmin + width, ymin + height


def exclude_exterior(image: Gray) -> Gray:
    """A copy of a slice (height, width) in which table, clothes and cables have the gray of the air.

    Outside the body's outline, all but black pixels get the mean of those of them that are darker than
    Otsu's threshold, without its fraction; black stays black, as outside the circle of reconstruction.
    Where nothing outside is dark, they become black. Raises ValueError as ``body_box`` does.
    """
    bright = _brighter_than_otsu(image)
    body = cv2.drawContours(np.zeros_like(image), [_largest_outline(bright)], 0, 1, cv2.FILLED)
    outside = (body == 0) & (image > 0)
    dark = image[outside & (bright == 0)]
    result = image.copy()
    result[outside] = int(dark.mean()) if dark.size else 0
    return result


def _brighter_than_otsu(image: Gray) -> Gray:
    """1 where the smoothed slice is above Otsu's threshold of its pixels that are not black, else 0."""
    if image.ndim != 2 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"a slice is uint8 (height, width), not {image.dtype} {image.shape}")
    smooth = cv2.GaussianBlur(image, SMOOTHING, 0)
    shown = smooth[smooth > 0]
    if shown.size == 0:
        raise ValueError("the slice is black: there is no body in it")
    threshold, _ = cv2.threshold(shown, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return (smooth > threshold).astype(np.uint8)


def _largest_outline(bright: Gray) -> NDArray[np.int32]:
    """The outline (points, 1, 2) as (x, y) that encloses most pixels, holes included."""
    outlines, _ = cv2.findContours(bright, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        raise ValueError("no body is left of the slice where its bright parts are eroded")
    largest: NDArray[np.int32] = np.asarray(max(outlines, key=cv2.contourArea), np.int32)
    return largest
