"""Where the slices or frames of a volume lie in its source: number, and millimetres along the axis.

SIZ keeps both ends: of a volume of ``depth`` pictures made of a source of ``n``, picture i (from 0) lies at
i (n - 1) / (depth - 1). Other ways to the depth of a recipe have no such rule, and no places are told then.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FRAMES = ("video", "frames")  # types whose stacks are over time
# Axes of a scan come from its affine; in the values of the code of 2021 they do not.
SCAN, ENDS = "nifti", ("inferior", "superior")


@dataclass(frozen=True)
class DepthAxis:
    """The depth of a volume: what its pictures are called, and where they lie.

    ``pictures`` are those of the source, ``spacing`` is in mm, ``ends`` name the first and the last; each is
    None where it is not known.
    """

    word: str
    depth: int
    pictures: int | None = None
    spacing: float | None = None
    ends: tuple[str, str] | None = None

    @property
    def scale(self) -> float | None:
        """Pictures of the source for one of the volume; None where there is no rule."""
        if self.pictures is None or self.depth < 2:
            return None
        return (self.pictures - 1) / (self.depth - 1)

    def place(self, index: int) -> str:
        """One picture in words: ``slice 3 of 70; source slice 5.3 of 150, 12.9 mm from the inferior end``."""
        told = f"{self.word} {index + 1} of {self.depth}"
        if self.scale is None:
            return told
        along = index * self.scale
        told += f"; source {self.word} {along + 1:.4g} of {self.pictures}"
        if self.spacing is None or self.ends is None:
            return told
        return f"{told}, {along * self.spacing:.4g} mm from the {self.ends[0]} end"


def depth_axis(recipe: Mapping[str, Any], facts: str, depth: int) -> DepthAxis:
    """The axis of a volume by the recipe that made it, and the JSON text of what its reader found."""
    kind, found = recipe.get("type"), json.loads(facts)
    word = "frame" if kind in FRAMES else "slice"
    if recipe.get("preset") is not None:
        return DepthAxis(word, depth)
    ends = ENDS if kind == SCAN else None
    shape, spacing = found.get("shape", ()), found.get("spacing_mm", ())
    every = recipe.get("depth", "siz") == "siz" and recipe.get("frames", "all") == "all"
    if not every or len(shape) != 3:
        return DepthAxis(word, depth, ends=ends)
    return DepthAxis(word, depth, int(shape[0]), float(spacing[0]) if spacing else None, ends)
