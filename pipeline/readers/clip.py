"""Videos as a type of source: which frames of a clip are taken, and how they become a volume.

The frames of a clip that is too large to be held are zoomed in height and width while they are decoded, and
in depth at the end; SIZ is linear and separable, so the result differs by rounding only.
"""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.readers import video
from pipeline.readers.reading import Facts, Picture, PictureReading, Reading, Source, SourceType, Statistics
from pipeline.recipe import VideoRecipe
from pipeline.scale import scale_video
from pipeline.siz import Float32, zoom
from pipeline.statistics import describe

HISTOGRAM = (0.0, 256.0)  # gray levels


def convert(source: Source, recipe: VideoRecipe) -> Reading:
    """Values in [0, 1] at the recipe's shape. Raises SourceError as ``video.read``, and too-short."""
    reading = read_clip(source.path, recipe)
    return Reading(scale_video(reading.array, recipe), reading.facts, describe(reading.array, HISTOGRAM))


def read_clip(path: Path, recipe: VideoRecipe) -> Reading:
    """The frames that a recipe asks for, luma 0 to 255; of a long clip, at the recipe's height and width.

    Raises SourceError as ``video.read``, and with code too-short for fewer than the first frames.
    """

    def zoom_within_frames(frames: NDArray[Any]) -> Float32:
        return zoom(frames, (len(frames), *recipe.shape[1:]), order=recipe.spline_order)

    size = None if recipe.preset is None else recipe.shape[1:]
    reading = video.read(path, keep=recipe.kept_frames, size=size, shrink=zoom_within_frames)
    if recipe.frames == "first" and len(reading.array) < recipe.shape[0]:
        reason = f"{len(reading.array)} frames; the recipe takes the first {recipe.shape[0]}"
        remedy = "leave the clip out" if recipe.preset else "use `frames: all`, or leave the clip out"
        raise SourceError.of(path, "too-short", reason, remedy)
    return reading


def pictures(source: Source, recipe: VideoRecipe) -> PictureReading:
    """The frames that a recipe asks for, luma; each is called by its number in the clip, from 0 on.

    Raises SourceError as ``video.read``.
    """
    reading = video.read(source.path, keep=recipe.kept_frames)
    frames = enumerate(zip(recipe.kept_frames, reading.array, strict=False))
    taken = (Picture(str(number), position, frame) for position, (number, frame) in frames)
    return PictureReading(taken, reading.facts)


def examine(source: Source) -> Reading:
    """The first frame, after all were decoded; with the facts of the clip, however long it is."""
    reading = video.read(source.path, keep=range(1))
    return Reading(reading.array, reading.facts, describe(reading.array, HISTOGRAM))


def doubts(statistics: Statistics, facts: Facts) -> list[str]:
    """What makes a clip look like a still picture."""
    return ["one frame only, which is repeated to the depth of the volume"] if facts["shape"][0] == 1 else []


SOURCE = SourceType(
    "video",
    video.SUFFIXES,
    VideoRecipe,
    lambda source: video.inspect(source.path),
    examine,
    pictures,
    convert,
    kind="codec",
    converter=2,
    doubts=doubts,
)
