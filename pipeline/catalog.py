"""``data_catalog.yaml`` as frozen objects, made once at the border.

All faults of a catalog are told at once, each with its line and its path in the document.
"""

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from pipeline.errors import ConfigError, Problem
from pipeline.yaml_nodes import FIX, line_of, plain, read_yaml


class Frozen(BaseModel):
    """Strict and immutable: unknown keys and wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Size = Annotated[int, Field(ge=1, le=4096)]
Name = Annotated[str, Field(min_length=1)]


def _local(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path holds no NUL character")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:[/:]", str(path)):  # a Path has made one slash of two
        raise PydanticCustomError("not_a_local_file", "an address; only local files are read")
    return path


FilePath = Annotated[Path, AfterValidator(_local)]
DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


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


def _rising(window: tuple[float, float]) -> tuple[float, float]:
    if window[0] >= window[1]:
        raise ValueError("a window goes from its lower to its upper bound")
    return window


class CtRecipe(Recipe):
    """Recipe of a CT scan: ``window`` is the range of Hounsfield units that becomes 0 to 1."""

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

    dtype: Dtype = _default("float16", "uint8")
    frames: Annotated[
        str,
        AfterValidator(_choice_of_frames),
        Field(json_schema_extra={"pattern": FRAMES}),
        _fixed("first"),
    ] = _default("all", "first")


class TableLabels(Frozen):
    """Labels in a CSV table: its file, and the names of its columns.

    ``sha256`` is a column with the SHA-256 that each source must have; a blank cell asks for nothing.
    """

    file: FilePath
    id: Name
    label: Name
    group: Name | None = None
    sha256: Name | None = None


def _names_a_label(regex: str) -> str:
    try:
        names = re.compile(regex).groupindex
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if "label" not in names:
        raise ValueError("the expression needs a named group (?P<label>…)")
    return regex


class PathLabels(Frozen):
    """Label and group read from a source's path by a regular expression with named groups."""

    regex: Annotated[str, AfterValidator(_names_a_label)]


def _labels_kind(value: object) -> str:
    return (
        "regex"
        if isinstance(value, PathLabels) or (isinstance(value, dict) and "regex" in value)
        else "table"
    )


Labels = Annotated[
    Annotated[TableLabels, Tag("table")] | Annotated[PathLabels, Tag("regex")], Discriminator(_labels_kind)
]


def _class_map(value: object) -> dict[str, str]:
    """A list of names stands for itself; a map goes from the value in the table to the name."""
    if not isinstance(value, list | dict) or not value:
        raise ValueError("give a list of class names, or a map from the label's value to the name")
    names = list(value.values()) if isinstance(value, dict) else value
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError("every class name is a text; put quotes around numbers")
    if len(set(names)) != len(names):
        raise ValueError("a class is named twice")
    return dict(zip(value, names, strict=True))


Classes = Annotated[
    dict[str, str],
    PlainValidator(
        _class_map,
        json_schema_input_type=Annotated[list[Name], Field(min_length=1)]
        | Annotated[dict[str, Name], Field(min_length=1)],
    ),
    Field(description="index = position"),
]
Share = Annotated[float, Field(gt=0, lt=1)]


def _whole(fractions: dict[str, float]) -> dict[str, float]:
    if abs(sum(fractions.values()) - 1) > 1e-9:
        raise ValueError(f"fractions add up to {sum(fractions.values()):g} instead of 1")
    return fractions


class SplitPlan(Frozen):
    """How the samples of a store are divided into named parts, or into equal ``folds``."""

    file: FilePath
    fractions: Annotated[dict[DatasetName, Share], Field(min_length=2), AfterValidator(_whole)] = {
        "train": 0.8,
        "val": 0.2,
    }
    seed: Annotated[int, Field(ge=0)] = 0
    group: Literal["auto", "none"] = "auto"
    method: Literal["auto", "viptt-2021"] = "auto"
    folds: Annotated[int, Field(ge=2, le=100)] | None = None


class _Dataset(Frozen):
    name: Annotated[str, Field(exclude=True)] = ""
    path: FilePath
    labels: Labels
    classes: Classes
    store: FilePath
    split: SplitPlan

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""
        return tuple(self.classes.values())

    @property
    def quarantine_file(self) -> Path:
        """Where the sources are listed that could not be converted."""
        return self.store.with_name(self.store.name.removesuffix(".zarr") + ".quarantine.csv")

    @property
    def recipe_json(self) -> dict[str, Any]:
        """The recipe as it stands in the store, with the type of its sources."""
        return {"type": self.type, **self.recipe.model_dump(mode="json")}  # type: ignore[attr-defined]


class NiftiDataset(_Dataset):
    """CT scans: one ``.nii`` or ``.nii.gz`` file is one sample."""

    type: Literal["nifti"]
    recipe: CtRecipe = CtRecipe()


class VideoDataset(_Dataset):
    """Videos: one file is one sample."""

    type: Literal["video"]
    recipe: VideoRecipe = VideoRecipe()


RECIPES: Mapping[str, type[CtRecipe | VideoRecipe]] = {"nifti": CtRecipe, "video": VideoRecipe}


def recipe_from(document: Mapping[str, Any]) -> CtRecipe | VideoRecipe:
    """The recipe that stands in a store or a run: ``recipe_json`` read back.

    Raises ConfigError if it is none that this version knows.
    """
    try:
        parameters = {key: value for key, value in document.items() if key != "type"}
        return RECIPES[document["type"]].model_validate_json(json.dumps(parameters))
    except (AttributeError, KeyError, TypeError, ValidationError):
        reason = f"this version cannot follow {json.dumps(document)[:200]}"
        raise ConfigError.of("recipe", "unknown-recipe", reason, "use the version that made it") from None


Dataset = Annotated[NiftiDataset | VideoDataset, Field(discriminator="type")]


class Catalog(Frozen):
    """The whole document."""

    version: Literal[1]
    datasets: Annotated[dict[DatasetName, Dataset], Field(min_length=1)]


def load_catalog(file: Path) -> Catalog:
    """Read a catalog; relative paths become relative to the catalog's folder.

    Raises ConfigError with every fault found.
    """
    root = read_yaml(file)
    try:
        catalog = Catalog.model_validate_json(json.dumps(plain(root)))
    except ValidationError as error:
        raise ConfigError(*_problems(file, root, error)) from None
    folder = file.absolute().parent
    located = {name: _located(dataset, name, folder) for name, dataset in catalog.datasets.items()}
    _check_outputs(file, list(located.values()))
    return catalog.model_copy(update={"datasets": located})


def _check_outputs(file: Path, datasets: list[NiftiDataset | VideoDataset]) -> None:
    """Refuse two datasets that would write over each other."""
    owners: dict[Path, str] = {}
    problems = []
    for dataset in datasets:
        for key, path in (("store", dataset.store), ("split.file", dataset.split.file)):
            owner = owners.setdefault(path.resolve(), f"{dataset.name}.{key}")
            if owner != f"{dataset.name}.{key}":
                reason = f"{path} is also {owner}"
                where = f"{file} (datasets.{dataset.name}.{key})"
                problems.append(Problem(where, "shared-output", reason, "give each a path of its own"))
    if problems:
        raise ConfigError(*problems)


def json_schema() -> dict[str, Any]:
    """JSON Schema of a catalog, for editors."""
    schema = Catalog.model_json_schema()
    for definition in ("NiftiDataset", "VideoDataset"):
        schema["$defs"][definition]["properties"].pop("name")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def select(catalog: Catalog, names: tuple[str, ...]) -> tuple[NiftiDataset | VideoDataset, ...]:
    """The datasets with these names; none means all. Raises ConfigError for names not there."""
    known = list(catalog.datasets)
    unknown = [
        Problem(name, "unknown-dataset", "the catalog has no dataset of this name", _suggestion(name, known))
        for name in names
        if name not in known
    ]
    if unknown:
        raise ConfigError(*unknown)
    return tuple(catalog.datasets[name] for name in names or known)


def _located(dataset: NiftiDataset | VideoDataset, name: str, folder: Path) -> NiftiDataset | VideoDataset:
    labels = dataset.labels
    if isinstance(labels, TableLabels):
        labels = labels.model_copy(update={"file": folder / labels.file})
    update = {
        "name": name,
        "path": folder / dataset.path,
        "store": folder / dataset.store,
        "labels": labels,
        "split": dataset.split.model_copy(update={"file": folder / dataset.split.file}),
    }
    return dataset.model_copy(update=update)


def _problems(file: Path, root: Any, error: ValidationError) -> list[Problem]:
    faults = error.errors(include_url=False)
    # A default that depends on another key is only missing where there is another fault.
    told = [fault for fault in faults if fault["type"] != "default_factory_not_called"]
    return [_problem(file, root, fault) for fault in told]


def _problem(file: Path, root: Any, fault: Any) -> Problem:
    location = _document_path(fault["loc"])
    where = f"{file}:{line_of(root, location)} ({'.'.join(map(str, location)) or 'document'})"
    match fault["type"]:
        case "extra_forbidden":
            known = _known_keys(fault["loc"])
            return Problem(
                where,
                "unknown-key",
                f"there is no key `{location[-1]}` here",
                _suggestion(location[-1], known),
            )
        case "missing":
            last = fault["loc"][-1]
            return Problem(
                where,
                "missing-key",
                f"`{last}` is missing" if isinstance(last, str) else "too few values",
                FIX,
            )
        case "union_tag_invalid" | "union_tag_not_found":
            remedy = f"use one of {fault['ctx'].get('expected_tags', 'nifti, video')}"
            return Problem(where, "unknown-type", "the type of the sources is missing or not known", remedy)
        case "not_a_local_file":
            remedy = "fetch it, and give its path on this machine"
            return Problem(where, "not-a-local-file", f"{fault['input']} is {fault['msg']}", remedy)
        case _:
            given = json.dumps(fault["input"], default=str, ensure_ascii=False)
            reason = f"{fault['msg'].removeprefix('Value error, ')}, not {given[:80]}"
            return Problem(where, "bad-value", reason, FIX)


def _document_path(loc: tuple[Any, ...]) -> list[str | int]:
    """pydantic's location without the names of union members, which do not stand in the document.

    They follow a dataset's name, and its ``labels``.
    """
    members = {2, 4} if loc[3:4] == ("labels",) else {2}
    return [step for position, step in enumerate(loc) if position not in members and step != "[key]"]


def _known_keys(loc: tuple[Any, ...]) -> list[str]:
    """Keys that the object at the parent of this location understands."""
    parents: dict[object, type[BaseModel]] = {
        "recipe": VideoRecipe if "video" in loc[2:3] else CtRecipe,
        "split": SplitPlan,
        "table": TableLabels,
        "regex": PathLabels,
        "video": VideoDataset,
        "nifti": NiftiDataset,
    }
    model = parents[loc[-2]] if len(loc) > 1 else Catalog
    return [name for name in model.model_fields if name != "name"]


def _suggestion(name: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"use one of: {', '.join(known)}"
