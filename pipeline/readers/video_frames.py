"""One decoded frame of a video to an upright array of luma.

Arrays are (height, width) uint8, 0 black to 255 white: rows and columns as the frame is to be shown.

Luma is the decoded Y plane. Where it has the limited range of television, 16 to 235, it is stretched to 0 to
255 and rounded (ITU-R BT.601). Frames that hold no Y plane of 8 bits (RGB, a palette, 10 bits) become blue,
green and red, and these become ``0.299 R + 0.587 G + 0.114 B``.

The display matrix of a file turns frames and may mirror them; angles are taken to the nearest quarter of a
circle. Does not keep colour, resample to square pixels, or join the fields of interlaced video.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from av import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

Sides = tuple[int, int]
Luma = NDArray[np.uint8]
# FFmpeg's pixel formats whose first plane is luma of 8 bits, by their range where the stream names none.
LIMITED_RANGE = frozenset(
    ["yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuva420p", "nv12"]
)
FULL_RANGE = frozenset(["gray", "yuvj420p", "yuvj422p", "yuvj444p", "yuvj440p", "yuvj411p"])
UNNAMED, LIMITED = 0, 1  # of AVColorRange
SAME = np.arange(256, dtype=np.uint8)
STRETCHED = np.rint((np.clip(np.arange(256), 16, 235) - 16) * (255 / 219)).astype(np.uint8)


@dataclass(frozen=True)
class Orientation:
    """How a stored frame is shown: mirrored left to right or not, then ``turns`` quarters clockwise."""

    mirrored: bool = False
    turns: int = 0

    def upright(self, image: Luma) -> Luma:
        """A view of the image (rows, columns[, channels]) as it is to be shown."""
        return np.rot90(image[:, ::-1] if self.mirrored else image, -self.turns)


AS_STORED = Orientation()


def orientation_of(frame: VideoFrame) -> Orientation:
    """The orientation that the display matrix of a frame asks for.

    The matrix sends a point (x, y) to (a x + c y, b x + d y), with x to the right and y downward
    (ISO/IEC 14496-12, 6.2.2).
    """
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # beside data of a newer kind, such as Exif, PyAV 18 tells the angle only
        return Orientation(turns=round(-frame.rotation / 90) % 4)
    if matrix is None:
        return AS_STORED
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    mirrored = a * d - b * c < 0
    x, y = (-a, -b) if mirrored else (a, b)  # where a step to the right leads, after the mirror
    return Orientation(mirrored, round(math.atan2(y, x) / (math.pi / 2)) % 4)


class LumaReader:
    """Turns the frames of one clip into luma, one after the other.

    With ``size`` (rows, columns), each frame is resized in colour before it becomes luma, by ``cv2.resize``
    as it comes: bilinear, without smoothing, the ratio of the sides not kept.
    """

    def __init__(self, size: Sides | None = None) -> None:
        self._size = size
        self._reformatter = VideoReformatter()  # prepared once for all frames
        cv2.setNumThreads(1)  # there is a worker for each core

    def luma(self, frame: VideoFrame, orientation: Orientation) -> Luma:
        """The upright frame as luma (height, width)."""
        if self._size is None and frame.format.name in LIMITED_RANGE | FULL_RANGE:
            return orientation.upright(_luma_plane(frame))
        image = np.ascontiguousarray(orientation.upright(self._colour(frame)))
        if self._size is not None:
            image = np.asarray(cv2.resize(image, self._size[::-1]), np.uint8)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)

    def _colour(self, frame: VideoFrame) -> Luma:
        """Blue, green, red, (rows, columns, 3), bit for bit as OpenCV's own reader gives them."""
        colour = self._reformatter.reformat(
            frame, format="bgr24", interpolation=Interpolation.BICUBIC, threads=1
        )
        return _first_plane(colour, 3).reshape(frame.height, frame.width, 3)


def _luma_plane(frame: VideoFrame) -> Luma:
    """The Y plane (rows, columns) with the full range, as a copy that needs the frame no more."""
    limited = frame.format.name in LIMITED_RANGE
    if frame.color_range != UNNAMED:
        limited = frame.color_range == LIMITED
    return np.asarray(cv2.LUT(_first_plane(frame, 1), STRETCHED if limited else SAME), np.uint8)


def _first_plane(frame: VideoFrame, channels: int) -> Luma:
    """The first plane (rows, columns * channels), without the bytes that fill up its lines; a view."""
    plane = frame.planes[0]
    lines: Luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return lines[: frame.height, : frame.width * channels]
