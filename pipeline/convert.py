"""One source to one volume, whatever its type.

Volumes are (depth, height, width) in the recipe's dtype with values in [0, 1] (uint8: 0 to 255). What
is particular to a type of source stands in its record, see ``readers``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.readers import SOURCE_TYPES
from pipeline.readers.reading import Facts, Statistics
from pipeline.recipe import Recipe
from pipeline.siz import Float32

EQUAL = 1e-5  # what the spline's rounding may add to a constant


@dataclass(frozen=True)
class Conversion:
    """A volume, and the facts and statistics of its source."""

    volume: NDArray[Any]
    facts: Facts
    statistics: Statistics


def convert(path: Path, recipe: Recipe) -> Conversion:
    """Read a source and make its volume. Raises SourceError if the source cannot be used."""
    reading = SOURCE_TYPES[recipe.type].convert(path, recipe)
    spread = np.ptp(reading.array)
    # One NaN makes the spread NaN: whatever a reader does, nothing of that kind is ever stored.
    if not np.isfinite(spread):
        reason = "its values become NaN or infinite on the way to [0, 1]"
        raise SourceError.of(path, "non-finite", reason, "check its scaling, and the recipe's window")
    if spread < EQUAL:
        reading.facts["warnings"].append("all values are equal")
    return Conversion(quantise(reading.array, recipe), reading.facts, reading.statistics)


def quantise(values: Float32, recipe: Recipe) -> NDArray[Any]:
    """Values in [0, 1] in the recipe's dtype; uint8 holds value x 255, rounded."""
    if recipe.dtype == "uint8":
        values = np.rint(values * np.float32(255))
    quantised: NDArray[Any] = values.astype(recipe.dtype)
    return quantised
