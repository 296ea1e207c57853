"""Pictures in files of their own, one gray or colour picture each.

A picture is gray (height, width), uint8 or uint16 as it is stored. Colours become gray by OpenCV's weights
(0.299 R + 0.587 G + 0.114 B, rounded), as in its videos; an alpha channel is left out.

A picture is refused if its decoder fails, and also where the decoder would say nothing: a PNG whose chunks
do not have their CRC-32, a JPEG without its end.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.readers.content import check_regular_file, read_file
from pipeline.readers.reading import NOTHING, Facts, Picture, Source
from pipeline.recipe import FramesRecipe, SlicesRecipe

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
PNG, JPEG, JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd9"
CHUNK_BYTES = 12  # of a PNG's chunk beside its data: length, type, CRC-32
HEAD, CRC = struct.Struct(">I4s"), struct.Struct(">I")
LEVELS = (0.0, 255.0)  # of 8 bits: what becomes 0 and 1
FETCH = "fetch or export it again"


def read_picture(path: Path, *, colour: bool = False, data: bytes | None = None) -> NDArray[Any]:
    """One picture as gray (height, width), uint8 or uint16. Raises SourceError.

    With ``colour``, a picture that has colours is red, green, blue, (height, width, 3). ``data`` are the
    bytes of the file, where they have been read already.
    """
    if data is None:
        check_regular_file(path)
        data = read_file(path)
    if not is_whole(data):
        raise SourceError.of(path, "truncated", "it is cut short, or its bytes have changed", FETCH)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise SourceError.of(path, "not-a-picture", str(error.err), FETCH) from None
    if picture is None:
        raise SourceError.of(path, "not-a-picture", "OpenCV cannot decode it", FETCH)
    if picture.dtype not in (np.uint8, np.uint16):
        reason = f"pixels of type {picture.dtype}"
        raise SourceError.of(path, "unsupported-dtype", reason, "convert it to 8 or 16 bits")
    return _colour(picture) if colour and picture.ndim == 3 else _gray(picture)


def is_whole(data: bytes) -> bool:
    """Whether a PNG has its CRC-32s and its end, and a JPEG its end; other formats always pass."""
    if data.startswith(PNG):
        return _png_is_whole(data)
    return not data.startswith(JPEG) or data.rstrip(b"\0").endswith(JPEG_END)


def _png_is_whole(data: bytes) -> bool:
    place, length, view = len(PNG), len(data), memoryview(data)
    while place + CHUNK_BYTES <= length:
        size, kind = HEAD.unpack_from(data, place)
        end = place + CHUNK_BYTES + size
        if end > length or crc32(view[place + 4 : end - 4]) != CRC.unpack_from(data, end - 4)[0]:
            return False
        if kind == b"IEND":
            return True
        place = end
    return False


def _gray(picture: NDArray[Any]) -> NDArray[Any]:
    if picture.ndim == 2:
        return picture
    channels = picture.shape[2]
    if channels == 1:
        return picture[..., 0]
    code = cv2.COLOR_BGRA2GRAY if channels == 4 else cv2.COLOR_BGR2GRAY
    return np.asarray(cv2.cvtColor(picture, code))


def _colour(picture: NDArray[Any]) -> NDArray[Any]:
    if picture.shape[2] == 1:
        return picture[..., 0]
    return np.asarray(
        cv2.cvtColor(picture, cv2.COLOR_BGRA2RGB if picture.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    )


def check_like(path: Path, picture: NDArray[Any], first: NDArray[Any]) -> None:
    """Raises SourceError with code format-change if a picture is not like the first of its stack."""
    if (picture.shape, picture.dtype) != (first.shape, first.dtype):
        (height, width), (first_height, first_width) = picture.shape[:2], first.shape[:2]
        reason = (
            f"{height} x {width} {picture.dtype}, the first is {first_height} x {first_width} {first.dtype}"
        )
        raise SourceError.of(path, "format-change", reason, "export all in one size")


def limits_of(path: Path, values: NDArray[Any], window: tuple[float, float] | None) -> tuple[float, float]:
    """The values that become 0 and 1. Raises SourceError for 16 bits without a window."""
    if window is None and values.dtype != np.uint8:
        remedy = "give the recipe a `window: [lowest, highest]`"
        raise SourceError.of(path, "unsupported-dtype", "pictures of 16 bits without a window", remedy)
    return window or LEVELS


# --- pictures of a stack ------------------------------------------------------------------------


@dataclass(frozen=True)
class ListedPicture:
    """A picture to read: its name in the stack, its file below the folder, its position, and its box."""

    name: str
    file: str
    position: int
    box: tuple[int, int, int, int] | None = None


def read_each(
    source: Source,
    listed: Iterable[ListedPicture],
    recipe: FramesRecipe | SlicesRecipe,
    facts: Facts,
    *,
    alike: bool,
) -> Iterator[Picture]:
    """Read pictures one after the other. Those that are bad, or ``alike`` and unlike the first, say why.

    ``facts["shape"]`` gets the largest height and width.
    """
    first: NDArray[Any] | None = None
    for item in listed:
        path = source.path / item.file
        try:
            data = source.contents.get(item.file)
            values = read_picture(path, colour=recipe.preset is not None, data=data)
            first = values if first is None else first
            if alike:
                check_like(path, values, first)
            limits = limits_of(path, values, recipe.window)
        except SourceError as error:
            bad = Picture(item.name, item.position, NOTHING, file=item.file, problem=error.problems[0])
            yield bad
            continue
        facts["shape"][1:] = map(max, facts["shape"][1:], values.shape)
        yield Picture(item.name, item.position, values, limits, item.file, item.box)
