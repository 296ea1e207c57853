"""One source to its volumes, whatever its type: the whole stack as one, or each picture as one.

Volumes are (depth, height, width) in the recipe's dtype with values in [0, 1] (uint8: 0 to 255); the depth of
a picture is 1. What is particular to a type of source stands in its record, see ``readers``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Problem, SourceError
from pipeline.half import to_half
from pipeline.pictures import picture_values, selected, stack_values
from pipeline.readers import SOURCE_TYPES
from pipeline.readers.reading import Facts, Picture, Reading, Source, Statistics
from pipeline.recipe import Recipe
from pipeline.siz import Float32
from pipeline.statistics import describe

EQUAL = 1e-5  # what the spline's rounding may add to a constant
SAMPLED = 1 << 12  # values of each picture that the statistics of a stack are taken of


@dataclass(frozen=True)
class Conversion:
    """A volume, and the facts and statistics of its source."""

    volume: NDArray[Any]
    facts: Facts
    statistics: Statistics


def convert(source: Source | Path, recipe: Recipe) -> Conversion:
    """Read a source and make the volume of its stack. Raises SourceError if the source cannot be used."""
    source = source if isinstance(source, Source) else Source(source)
    reading = _stack(source, recipe)
    spread = np.ptp(reading.array)
    # One NaN makes the spread NaN: whatever a reader does, nothing of that kind is ever stored.
    if not np.isfinite(spread):
        raise _not_finite(source.path)
    if spread < EQUAL:
        reading.facts["warnings"].append("all values are equal")
    return Conversion(quantise(reading.array, recipe), reading.facts, reading.statistics)


def _stack(source: Source, recipe: Recipe) -> Reading:
    type_ = SOURCE_TYPES[recipe.type]
    if type_.convert is not None and not recipe.by_picture:
        return type_.convert(source, recipe)
    reading = type_.pictures(source, recipe)
    noted = _Noted()
    values = stack_values(map(noted.note, reading.pictures), recipe)
    return Reading(values, reading.facts, noted.statistics())


@dataclass(frozen=True)
class ConvertedPicture:
    """What became of one picture of a stack: a volume, or a problem. See ``readers.reading.Picture``."""

    name: str
    position: int
    file: str
    problem: Problem | None = None


class PictureConversion:
    """The pictures of one source on their way to volumes (1, height, width).

    Facts, statistics, ``pictures`` and ``selected()`` are complete when all volumes have been taken.
    """

    def __init__(self, source: Source, recipe: Recipe) -> None:
        """Raises SourceError if the source cannot be read at all."""
        self._path, self._recipe = source.path, recipe
        self._reading = SOURCE_TYPES[recipe.type].pictures(source, recipe)
        self._noted = _Noted()
        self._compared: list[NDArray[Any]] = []  # as stored, where pictures are selected by their likeness
        self.pictures: list[ConvertedPicture] = []

    @property
    def facts(self) -> Facts:
        """Facts of the stack."""
        return self._reading.facts

    def statistics(self) -> Statistics:
        """Statistics of the stack's values, as stored."""
        return self._noted.statistics()

    def volumes(self) -> Iterator[NDArray[Any]]:
        """The volume of each picture that can be used; the others have a problem in ``pictures``."""
        for picture in self._reading.pictures:
            problem = picture.problem
            if problem is None:
                try:
                    values = self._values(picture)
                except SourceError as error:
                    problem = error.problems[0]
            self.pictures.append(ConvertedPicture(picture.name, picture.position, picture.file, problem))
            if problem is None:
                yield quantise(values[None], self._recipe)

    def _values(self, picture: Picture) -> Float32:
        values = picture_values(picture, self._recipe)
        if not np.isfinite(np.ptp(values)):
            raise _not_finite(self._path / picture.file)
        self._noted.note(picture)
        if self._recipe.select != "all":
            self._compared.append(picture.values)
        return values

    def selected(self) -> list[bool]:
        """For each volume, whether its picture is one to learn single pictures from.

        Raises SourceError if the pictures cannot be compared.
        """
        if self._recipe.select == "all":
            return [picture.problem is None for picture in self.pictures if picture.problem is None]
        try:
            return [bool(chosen) for chosen in selected(self._compared, self._recipe)]
        except ValueError as error:
            remedy = "use `select: all` for pictures of another size or kind"
            raise SourceError.of(self._path, "not-comparable", str(error), remedy) from None


@dataclass
class _Noted:
    """A few values of each picture, for the statistics of a stack."""

    values: list[NDArray[Any]] = field(default_factory=list)
    limits: tuple[float, float] = (0.0, 255.0)

    def note(self, picture: Picture) -> Picture:
        """Take note of a picture, and give it back."""
        if picture.values.size:
            flat = picture.values.reshape(-1)
            self.values.append(flat[:: max(1, flat.size // SAMPLED)].copy())
            self.limits = picture.limits
        return picture

    def statistics(self) -> Statistics:
        return describe(np.concatenate(self.values), self.limits) if self.values else {}


def _not_finite(path: Path) -> SourceError:
    reason = "its values become NaN or infinite on the way to [0, 1]"
    return SourceError.of(path, "non-finite", reason, "check its scaling, and the recipe's window")


def quantise(values: Float32, recipe: Recipe) -> NDArray[Any]:
    """Values in [0, 1] in the recipe's dtype; uint8 holds value x 255, rounded."""
    if recipe.dtype == "float16":
        return to_half(values)
    if recipe.dtype == "uint8":
        values = np.rint(values * np.float32(255))
    quantised: NDArray[Any] = values.astype(recipe.dtype)
    return quantised
