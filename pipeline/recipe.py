"""Recipes: every parameter that decides the bytes of a volume, as frozen objects.

A recipe has one form everywhere: in the catalog, in a store's header, in a run and in an export.
"""

import json
import re
import sys
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo


class Frozen(BaseModel):
    """Strict and immutable: unknown keys and wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Size = Annotated[int, Field(ge=1, le=4096)]


Preset = Literal["viptt-2021"]


Dtype = Literal["float16", "float32", "uint8"]
FRAMES = r"^(all|first|every ([2-9]|[1-9][0-9]{1,3}))$"


def _default(usual: int | str, preset: int | str) -> Any:
    """A default that is another one where the recipe names a preset."""
    return Field(
        default_factory=lambda known: preset if known.get("preset") else usual,
        json_schema_extra={"default": usual},
    )


def _fixed(value: object) -> AfterValidator:
    """The only value there is where the recipe names a preset."""

    def check(given: object, info: ValidationInfo) -> object:
        preset = info.data.get("preset")
        if preset and given != value:
            raise ValueError(f"the preset {preset} stands for {json.dumps(value)} here")
        return given

    return AfterValidator(check)


class Recipe(Frozen):
    """Every parameter that decides the bytes of a volume, whatever its source.

    ``preset`` stands for what the code of a paper did, number for number, see ``docs/fidelity.md``.
    Beside it only ``shape`` and ``dtype`` are free.
    """

    type: ClassVar[str]
    preset: Annotated[
        Preset | None,
        Field(description="what the code of a paper did", exclude_if=lambda preset: preset is None),
    ] = None
    shape: Annotated[tuple[Size, Size, Size], Field(description="depth, height, width of every volume")] = (
        70,
        224,
        224,
    )
    spline_order: Annotated[int, Field(ge=0, le=5), _fixed(1)] = _default(3, 1)
    dtype: Dtype = "float16"

    @property
    def volume_bytes(self) -> int:
        """Bytes of one volume."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def as_json(self) -> dict[str, Any]:
        """The recipe as it stands in a store, a run or an export, with the type of its sources."""
        return {"type": self.type, **self.model_dump(mode="json")}


def _rising(window: tuple[float, float]) -> tuple[float, float]:
    if window[0] >= window[1]:
        raise ValueError("a window goes from its lower to its upper bound")
    with np.errstate(all="ignore"):
        low, high, scale = (np.float32(x) for x in (*window, 1 / (window[1] - window[0])))
    # Volumes are scaled in float32, where NaN and infinity would come of it and be stored.
    if not (low < high and np.isfinite([low, high, scale]).all() and scale > 0):
        raise ValueError("a window's bounds are finite and apart in float32, and so is 1 / their distance")
    return window


class CtRecipe(Recipe):
    """Recipe of a CT scan: ``window`` is the range of Hounsfield units that becomes 0 to 1."""

    type = "nifti"
    dtype: Dtype = _default("float16", "float32")
    window: Annotated[tuple[float, float], AfterValidator(_rising), _fixed((-1000.0, 400.0))] = (
        -1000.0,
        400.0,
    )


def _choice_of_frames(frames: str) -> str:
    if not re.fullmatch(FRAMES, frames):
        raise ValueError("the frames are `all`, `first`, or `every N` with an N from 2 to 9999")
    return frames


class VideoRecipe(Recipe):
    """Recipe of a video: the frames that the spline runs over.

    ``all``; the ``first`` depth frames; or, as in ``every 3``, the frames 0, 3, 6 and so on.
    """

    type = "video"
    dtype: Dtype = _default("float16", "uint8")
    frames: Annotated[
        str,
        AfterValidator(_choice_of_frames),
        Field(json_schema_extra={"pattern": FRAMES}),
        _fixed("first"),
    ] = _default("all", "first")

    @property
    def kept_frames(self) -> range:
        """Numbers of the frames that go into the volume, of a clip without end."""
        if self.frames == "first":
            return range(self.shape[0])
        return range(0, sys.maxsize, 1 if self.frames == "all" else int(self.frames.removeprefix("every ")))


class FramesRecipe(VideoRecipe):
    """Recipe of a folder of frames: a video's, and the ``window`` of 16-bit values that becomes 0 to 1."""

    type = "frames"
    preset: None = None
    dtype: Dtype = "float16"
    window: Annotated[
        tuple[float, float] | None,
        AfterValidator(lambda window: window and _rising(window)),
        Field(exclude_if=lambda window: window is None),
    ] = None
