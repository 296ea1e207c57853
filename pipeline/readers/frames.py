"""Folders of pictures to gray stacks: a folder is one stack, its pictures are the frames.

Arrays are (depth, height, width): frames in the order of their numbers, rows, columns; uint8 gray levels, or
uint16 as they are stored. Colours become gray by OpenCV's weights (0.299 R + 0.587 G + 0.114 B, rounded), as
in its videos; an alpha channel is left out. All pictures of a stack have one size and one depth of bits.

A picture is refused if its decoder fails, and also where the decoder would say nothing: a PNG whose chunks
do not have their CRC-32, a JPEG without its end. Missing numbers between frames are a warning.
"""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.frames_tree import FrameOrder, order_frames
from pipeline.readers.content import check_regular_file, files_in
from pipeline.readers.reading import Facts, Reading, SourceType, Statistics, check_size
from pipeline.recipe import FramesRecipe
from pipeline.scale import scale_video, scale_window
from pipeline.statistics import describe

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
PNG, JPEG, JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd9"
CHUNK_BYTES = 12  # of a PNG's chunk beside its data: length, type, CRC-32
HISTOGRAM = (0.0, 256.0)  # gray levels
FETCH = "fetch or export it again"


def inspect(path: Path) -> Facts:
    """Facts from the names and the first picture. Raises SourceError as ``read``."""
    order = _ordered(path)
    first = read_picture(path / order.names[0])
    return _facts(order, first)


def read(path: Path, *, keep: range) -> Reading:
    """Read all pictures, and return those whose positions are in ``keep``, with the facts of the stack.

    Raises SourceError with one of the codes no-frames, same-frame, not-a-regular-file, empty-file,
    unreadable, not-a-picture, truncated, unsupported-dtype, format-change, too-large.
    """
    order = _ordered(path)
    first = read_picture(path / order.names[0])
    facts = _facts(order, first)
    check_size(path, (len(order.names[keep.start : keep.stop : keep.step]), *first.shape))
    frames = [picture for position, picture in enumerate(_like(path, order.names, first)) if position in keep]
    return Reading(np.stack(frames), facts)


def read_picture(path: Path) -> NDArray[Any]:
    """One picture as gray (height, width), uint8 or uint16. Raises SourceError."""
    check_regular_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = str(error.strerror)
        raise SourceError.of(path, "unreadable", reason, "fix its permissions or its disk") from None
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
    return _gray(picture)


def is_whole(data: bytes) -> bool:
    """Whether a PNG has its CRC-32s and its end, and a JPEG its end; other formats always pass."""
    if data.startswith(PNG):
        return _png_is_whole(data)
    return not data.startswith(JPEG) or data.rstrip(b"\0").endswith(JPEG_END)


def _png_is_whole(data: bytes) -> bool:
    place = len(PNG)
    while place + CHUNK_BYTES <= len(data):
        end = place + CHUNK_BYTES + int.from_bytes(data[place : place + 4])
        kind, crc = data[place + 4 : place + 8], data[end - 4 : end]
        if end > len(data) or zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(crc):
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


def _ordered(path: Path) -> FrameOrder:
    names = [file.name for file in files_in(path, SUFFIXES)]
    if not names:
        raise SourceError.of(path, "no-frames", "no picture lies directly in this folder", "put them there")
    return order_frames(names, where=str(path))


def _like(folder: Path, names: Sequence[str], first: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """All pictures. Raises SourceError with code format-change if one is not like the first."""
    for name in names:
        picture = read_picture(folder / name)
        if (picture.shape, picture.dtype) != (first.shape, first.dtype):
            height, width = picture.shape
            reason = f"{height} x {width} {picture.dtype}, the first is {first.shape[0]} x {first.shape[1]} "
            reason += str(first.dtype)
            raise SourceError.of(folder / name, "format-change", reason, "export all in one size")
        yield picture


def _facts(order: FrameOrder, first: NDArray[Any]) -> Facts:
    gaps = ", ".join(f"{a} to {b}" if a < b else str(a) for a, b in order.gaps[:5])
    warnings = [f"{order.missing} frame numbers are missing: {gaps}"] if order.gaps else []
    return {
        "shape": [len(order.names), *map(int, first.shape)],
        "format": Path(order.names[0]).suffix.lower().removeprefix("."),
        "dtype": first.dtype.name,
        "warnings": warnings,
    }


# --- the type -----------------------------------------------------------------------------------


def convert(path: Path, recipe: FramesRecipe) -> Reading:
    """Values in [0, 1] at the recipe's shape. Raises SourceError as ``read``, and too-short."""
    reading = read(path, keep=recipe.kept_frames)
    if recipe.frames == "first" and len(reading.array) < recipe.shape[0]:
        reason = f"{len(reading.array)} frames; the recipe takes the first {recipe.shape[0]}"
        raise SourceError.of(path, "too-short", reason, "use `frames: all`, or leave the stack out")
    if reading.array.dtype != np.uint8 and recipe.window is None:
        remedy = "give the recipe a `window: [lowest, highest]`"
        raise SourceError.of(path, "unsupported-dtype", "pictures of 16 bits without a window", remedy)
    if recipe.window is None:
        values = scale_video(reading.array, recipe)
    else:
        values = scale_window(reading.array, recipe, recipe.window)
    return Reading(values, reading.facts, describe(reading.array, recipe.window or HISTOGRAM))


def examine(path: Path) -> Reading:
    """The first picture, after all were decoded, with the facts of the stack."""
    reading = read(path, keep=range(1))
    return Reading(reading.array, reading.facts, describe(reading.array, HISTOGRAM))


def doubts(statistics: Statistics, facts: Facts) -> list[str]:
    """What makes a stack look like a still picture."""
    return ["one frame only, which is repeated to the depth of the volume"] if facts["shape"][0] == 1 else []


SOURCE = SourceType(
    "frames",
    SUFFIXES,
    FramesRecipe,
    inspect,
    examine,
    convert,
    kind="format",
    converter=1,
    doubts=doubts,
    folder=True,
)
