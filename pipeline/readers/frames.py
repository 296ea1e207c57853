"""Folders of pictures to gray stacks: a folder is one stack, its pictures are the frames.

Arrays are (depth, height, width): frames in the order of their numbers, rows, columns; uint8 gray levels, or
uint16 as they are stored. All pictures of a stack have one size and one depth of bits. Missing numbers
between frames are a warning.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.frames_tree import FrameOrder, frame_numbers, order_frames
from pipeline.readers.content import files_in
from pipeline.readers.picture_file import (
    SUFFIXES,
    ListedPicture,
    check_like,
    limits_of,
    read_each,
    read_picture,
)
from pipeline.readers.reading import (
    Facts,
    PictureReading,
    Reading,
    Source,
    SourceType,
    Statistics,
    check_size,
)
from pipeline.recipe import FramesRecipe
from pipeline.scale import scale_video, scale_window
from pipeline.statistics import describe

HISTOGRAM = (0.0, 256.0)  # gray levels


def inspect(source: Source) -> Facts:
    """Facts from the names and the first picture. Raises SourceError as ``read``."""
    order = ordered(source.path)
    return _facts(order, read_picture(source.path / order.names[0]))


def read(source: Source, *, keep: range) -> Reading:
    """Read all pictures, and return those whose positions are in ``keep``, with the facts of the stack.

    Raises SourceError with one of the codes no-frames, same-frame, not-a-regular-file, empty-file,
    unreadable, not-a-picture, truncated, unsupported-dtype, format-change, too-large.
    """
    path, contents = source.path, source.contents
    order = ordered(path)
    first = read_picture(path / order.names[0], data=contents.get(order.names[0]))
    facts = _facts(order, first)
    check_size(path, (len(order.names[keep.start : keep.stop : keep.step]), *first.shape))
    frames = []
    for position, name in enumerate(order.names):
        picture = read_picture(path / name, data=contents.get(name))
        check_like(path / name, picture, first)
        if position in keep:
            frames.append(picture)
    return Reading(np.stack(frames), facts)


def ordered(path: Path) -> FrameOrder:
    """The pictures directly in a folder, in their order. Raises SourceError: no-frames, same-frame."""
    names = [file.name for file in files_in(path, SUFFIXES)]
    if not names:
        raise SourceError.of(path, "no-frames", "no picture lies directly in this folder", "put them there")
    return order_frames(names, where=str(path))


def _facts(order: FrameOrder, first: NDArray[Any]) -> Facts:
    shape = [len(order.names), *map(int, first.shape)]
    return {"shape": shape, "dtype": first.dtype.name, **_stack_facts(order)}


def _stack_facts(order: FrameOrder) -> Facts:
    gaps = ", ".join(f"{a} to {b}" if a < b else str(a) for a, b in order.gaps[:5])
    return {
        "format": Path(order.names[0]).suffix.lower().removeprefix("."),
        "warnings": [f"{order.missing} frame numbers are missing: {gaps}"] if order.gaps else [],
    }


# --- the type -----------------------------------------------------------------------------------


def convert(source: Source, recipe: FramesRecipe) -> Reading:
    """Values in [0, 1] at the recipe's shape. Raises SourceError as ``read``, and too-short."""
    path, reading = source.path, read(source, keep=recipe.kept_frames)
    if recipe.frames == "first" and len(reading.array) < recipe.shape[0]:
        reason = f"{len(reading.array)} frames; the recipe takes the first {recipe.shape[0]}"
        raise SourceError.of(path, "too-short", reason, "use `frames: all`, or leave the stack out")
    limits = limits_of(path, reading.array, recipe.window)
    if recipe.window is None:
        values = scale_video(reading.array, recipe)
    else:
        values = scale_window(reading.array, recipe, limits)
    return Reading(values, reading.facts, describe(reading.array, recipe.window or HISTOGRAM))


def pictures(source: Source, recipe: FramesRecipe) -> PictureReading:
    """The pictures of a folder, each called by its number; one that cannot be read says why.

    Raises SourceError with the codes no-frames and same-frame.
    """
    order = ordered(source.path)
    names = frame_numbers(order)
    taken = range(len(names))[:: recipe.kept_frames.step]
    listed = [ListedPicture(names[position], order.names[position], position) for position in taken]
    facts: Facts = {"shape": [len(listed), 0, 0], **_stack_facts(order)}
    return PictureReading(read_each(source, listed, recipe, facts, alike=True), facts)


def examine(source: Source) -> Reading:
    """The first picture, after all were decoded, with the facts of the stack."""
    reading = read(source, keep=range(1))
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
    pictures,
    convert,
    kind="format",
    converter=1,
    doubts=doubts,
    folder=True,
)
