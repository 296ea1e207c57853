"""Recipes: every parameter that decides the bytes of a volume, as frozen objects.

A recipe has one form everywhere: in the catalog, in a store's header, in a run and in an export.
"""

import json
import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class Frozen(BaseModel):
    """Strict and immutable: unknown keys and wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Size = Annotated[int, Field(ge=1, le=4096)]


VIPTT, SONONET, COVIDNET = "viptt-2021", "sononet-2025", "covidnet-ct-id-2022"


Dtype = Literal["float16", "float32", "uint8"]


FRAMES = r"^(all|first|every ([2-9]|[1-9][0-9]{1,3}))$"


def _default(usual: Any, presets: Mapping[str, Any], **details: Any) -> Any:
    """A default that is another one where the recipe names one of these presets."""
    return Field(
        default_factory=lambda known: presets.get(known.get("preset"), usual),
        json_schema_extra={"default": usual},
        **details,
    )


def _fixed(presets: Mapping[str, Any]) -> AfterValidator:
    """The only value there is where the recipe names one of these presets."""

    def check(given: object, info: ValidationInfo) -> object:
        preset: str | None = info.data.get("preset")
        if preset is not None and given != presets.get(preset, given):
            raise ValueError(f"the preset {preset} stands for {json.dumps(presets[preset])} here")
        return given

    return AfterValidator(check)


def _choice(usual: str, presets: Mapping[str, Any], text: str) -> Any:
    """A key that is not written where it has its usual value: recipes of older stores do not have it."""
    return _default(usual, presets, description=text, exclude_if=lambda value: value == usual)


def _of_sample(shape: tuple[int, int, int], info: ValidationInfo) -> tuple[int, int, int]:
    if info.data.get("sample") == "picture" and shape[0] != 1:
        raise ValueError(f"a picture's shape is [1, height, width], not {list(shape)}")
    return shape


def _only_for(sample: str) -> AfterValidator:
    """A value other than the usual one makes sense for one kind of sample only."""

    def check(given: str, info: ValidationInfo) -> str:
        if given not in ("all", "siz") and info.data.get("sample") != sample:
            raise ValueError(f"`{given}` needs `sample: {sample}`")
        return given

    return AfterValidator(check)


SAMPLES = {VIPTT: "stack", SONONET: "picture", COVIDNET: "picture"}
CROPS = {VIPTT: "none", SONONET: "none", COVIDNET: (340, 380)}
EXTERIORS = {VIPTT: "keep", SONONET: "keep", COVIDNET: "keep"}
RESIZES = {VIPTT: "siz", SONONET: "antialias", COVIDNET: "antialias"}
NORMALISATIONS = {VIPTT: "none", SONONET: "max", COVIDNET: "none"}
SHAPES = {SONONET: (1, 256, 256), COVIDNET: (1, 224, 224)}


def _usual_shape(known: dict[str, Any]) -> tuple[int, int, int]:
    depth = 1 if known.get("sample") == "picture" else 70
    return SHAPES.get(known.get("preset", ""), (depth, 224, 224))


class Recipe(Frozen):
    """Every parameter that decides the bytes of a volume, whatever its source.

    ``preset`` stands for what the code of a paper did, number for number, see ``docs/fidelity.md``.
    Beside it only ``dtype`` is free, and with viptt-2021 ``shape``.

    A sample is a whole ``stack``, or each ``picture`` of it. Each picture is cut by ``crop``, brought to
    height and width by ``resize``, scaled to [0, 1], and divided by its maximum with ``normalise: max``;
    with ``exterior: exclude``, only the body is left of it before.
    ``depth`` says how a stack comes to its depth, ``select`` which pictures its table calls selected.
    """

    type: ClassVar[str]
    presets: ClassVar[tuple[str, ...]] = ()
    preset: Annotated[
        Literal["viptt-2021", "sononet-2025", "covidnet-ct-id-2022"] | None,
        Field(description="what the code of a paper did", exclude_if=lambda preset: preset is None),
    ] = None
    sample: Annotated[Literal["stack", "picture"], _fixed(SAMPLES)] = _choice(
        "stack", SAMPLES, "a sample is a whole stack, or one picture of it"
    )
    shape: Annotated[tuple[Size, Size, Size], _fixed(SHAPES), AfterValidator(_of_sample)] = Field(
        default_factory=_usual_shape,
        description="depth, height, width of every volume",
        json_schema_extra={"default": [70, 224, 224]},
    )
    spline_order: Annotated[int, Field(ge=0, le=5), _fixed({VIPTT: 1})] = _default(3, {VIPTT: 1})
    dtype: Dtype = _default("float16", {SONONET: "float32", COVIDNET: "float32"})
    crop: Annotated[tuple[Size, Size] | Literal["none", "box", "body"], _fixed(CROPS)] = _choice(
        "none",
        CROPS,
        "what is cut out of each picture: [height, width] of its middle, its box, or the body's",
    )
    exterior: Annotated[Literal["keep", "exclude"], _fixed(EXTERIORS)] = _choice(
        "keep", {}, "exclude gives what lies outside the body the gray of the air, before the crop"
    )
    resize: Annotated[Literal["siz", "antialias"], _fixed(RESIZES)] = _choice(
        "siz", RESIZES, "how a picture comes to its height and width; antialias smooths where it shrinks"
    )
    normalise: Annotated[Literal["none", "max"], _fixed(NORMALISATIONS)] = _choice(
        "none", NORMALISATIONS, "max divides each picture by its maximum"
    )
    depth: Annotated[Literal["siz", "subset", "even"], _only_for("stack")] = _choice(
        "siz", {}, "how a stack comes to its depth: resampled, or by a choice of its slices (SSS, ESS)"
    )
    select: Annotated[Literal["all", "ssim"], _only_for("picture")] = _choice(
        "all", {SONONET: "ssim"}, "which pictures the column `selected` names; all are stored"
    )

    @field_validator("preset")
    @classmethod
    def _preset_of_type(cls, preset: str | None) -> str | None:
        if preset is not None and preset not in cls.presets:
            raise ValueError(f"type {cls.type} has the presets {', '.join(cls.presets)}")
        return preset

    @field_validator("crop")
    @classmethod
    def _crop_of_type(cls, crop: object) -> object:
        if crop == "box" and cls.type != "slices":
            raise ValueError("only listed slices have boxes")
        return crop

    @field_validator("select")
    @classmethod
    def _select_of_type(cls, select: str) -> str:
        if select != "all" and cls.type not in ("video", "frames"):
            raise ValueError(f"`{select}` compares the frames of a clip")
        return select

    @property
    def by_picture(self) -> bool:
        """Whether pictures are cut and resized one by one, also where a sample is a whole stack."""
        usual = {"crop": "none", "exterior": "keep", "resize": "siz", "normalise": "none", "depth": "siz"}
        changed = any(getattr(self, key) != value for key, value in usual.items())
        return self.sample == "picture" or changed

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
    presets = (VIPTT,)
    dtype: Dtype = _default("float16", {VIPTT: "float32"})
    window: Annotated[tuple[float, float], AfterValidator(_rising), _fixed({VIPTT: (-1000.0, 400.0)})] = (
        -1000.0,
        400.0,
    )


def _choice_of_frames(frames: str, info: ValidationInfo) -> str:
    if frames == "first" and info.data.get("sample") == "picture":
        raise ValueError("`first` needs `sample: stack`")
    if not re.fullmatch(FRAMES, frames):
        raise ValueError("the frames are `all`, `first`, or `every N` with an N from 2 to 9999")
    return frames


class VideoRecipe(Recipe):
    """Recipe of a video: the frames that the spline runs over.

    ``all``; the ``first`` depth frames; or, as in ``every 3``, the frames 0, 3, 6 and so on.
    """

    type = "video"
    presets = (VIPTT, SONONET)
    dtype: Dtype = _default("float16", {VIPTT: "uint8", SONONET: "float32"})
    frames: Annotated[
        str,
        AfterValidator(_choice_of_frames),
        Field(json_schema_extra={"pattern": FRAMES}),
        _fixed({VIPTT: "first", SONONET: "all", COVIDNET: "all"}),
    ] = _default("all", {VIPTT: "first"})

    @property
    def kept_frames(self) -> range:
        """Numbers of the frames that go into the volume, of a clip without end."""
        if self.frames == "first":
            return range(self.shape[0])
        return range(0, sys.maxsize, 1 if self.frames == "all" else int(self.frames.removeprefix("every ")))


Window = Annotated[
    tuple[float, float] | None,
    AfterValidator(lambda window: window and _rising(window)),
    Field(exclude_if=lambda window: window is None),
]


class FramesRecipe(VideoRecipe):
    """Recipe of a folder of frames: a video's, and the ``window`` of 16-bit values that becomes 0 to 1."""

    type = "frames"
    presets = (SONONET, COVIDNET)
    dtype: Dtype = _default("float16", {SONONET: "float32", COVIDNET: "float32"})
    window: Window = None


class SlicesRecipe(Recipe):
    """Recipe of listed slices, each in a file of its own; ``crop: box`` cuts what the list says."""

    type = "slices"
    presets = (COVIDNET,)
    sample: Annotated[Literal["stack", "picture"], _fixed(SAMPLES)] = "picture"
    window: Window = None
