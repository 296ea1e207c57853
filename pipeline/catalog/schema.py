"""What may stand in ``data_catalog.yaml``, as frozen objects made once at the border."""

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    PlainValidator,
    PrivateAttr,
    SerializeAsAny,
    Tag,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pipeline.catalog.patterns import check_expression, check_glob
from pipeline.escape import printable
from pipeline.readers import SOURCE_TYPES
from pipeline.readers.reading import SourceType
from pipeline.recipe import Frozen, Recipe

Name = Annotated[str, Field(min_length=1)]


def _expanded(path: Path) -> Path:
    """A path with the variables and the home folder that it names."""

    def value(found: re.Match[str]) -> str:
        name = found["name"] or found["braced"]
        # An empty variable is refused too: `$DATA/raw` must not become `/raw`.
        if name and not os.environ.get(name):
            raise PydanticCustomError("undefined_variable", "${name} has no value", {"name": name})
        return os.environ[name] if name else "$"

    text = re.sub(r"\$(?:(?P<name>[A-Za-z_]\w*)|\{(?P<braced>\w+)\}|\$)", value, str(path), flags=re.ASCII)
    # A value may begin with `~` as well, so variables come first.
    home = os.path.expanduser(text)  # noqa: PTH111 - Path's raises RuntimeError
    if text.startswith("~") and home == text:
        user = text.partition("/")[0]
        raise PydanticCustomError("undefined_variable", "{user} has no home folder", {"user": user})
    return Path(home)


def _local(path: Path) -> Path:
    if printable(str(path)) != str(path):
        raise ValueError("a path holds no NUL or other control character")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:[/:]", str(path)):  # a Path has made one slash of two
        raise PydanticCustomError("not_a_local_file", "an address; only local files are read")
    return path


FilePath = Annotated[Path, AfterValidator(_expanded), AfterValidator(_local)]


DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class TableLabels(Frozen):
    """Labels in a CSV table: its file, and the names of its columns.

    ``sha256`` is a column with the SHA-256 that each source must have; a blank cell asks for nothing.
    ``others`` says what becomes of lines whose label is no class: an error, because it may be a misspelt
    one, or left out and counted, with a warning where it is like a class.
    """

    file: FilePath
    id: Name
    label: Name
    group: Name | None = None
    sha256: Name | None = None
    others: Literal["refuse", "leave-out"] = "refuse"


class PathLabels(Frozen):
    """Label and group read from a source's path by a regular expression with named groups."""

    regex: Annotated[str, AfterValidator(check_expression)]


class PictureLabels(Frozen):
    """A text file with the class of each frame: ``files/STACK/FRAME.txt`` for ``path/STACK/FRAME.png``.

    A folder ``videos`` in a stack's path stands for ``labels``, as in the tree of SpaceTime-SonoNet.
    """

    files: FilePath


class ListLabels(Frozen):
    """Lists of slices, one for each split: lines ``filename class xmin ymin xmax ymax``, as of COVIDx-CT."""

    train: FilePath | None = None
    val: FilePath | None = None
    test: FilePath | None = None

    @property
    def lists(self) -> dict[str, Path]:
        """The file of each split."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: file for name, file in named.items() if file is not None}


LABELS: dict[str, type[Frozen]] = {
    "table": TableLabels,
    "regex": PathLabels,
    "files": PictureLabels,
    "lists": ListLabels,
}


def _labels_kind(value: object) -> str:
    """Which of ``LABELS`` a mapping is, by the keys that only one of them has."""
    for kind, model in LABELS.items():
        if isinstance(value, model):
            return kind
    keys = set(value) if isinstance(value, dict) else set()
    if keys & {"regex", "files"}:
        return "regex" if "regex" in keys else "files"
    return "lists" if keys & set(ListLabels.model_fields) else "table"


Labels = Annotated[
    Annotated[TableLabels, Tag("table")]
    | Annotated[PathLabels, Tag("regex")]
    | Annotated[PictureLabels, Tag("files")]
    | Annotated[ListLabels, Tag("lists")],
    Discriminator(_labels_kind),
]


class Groups(Frozen):
    """Who is shown in a stack, from SpaceTime-SonoNet's files: the patient of each video.

    ``exams`` is its ``exams.json``; ``infos`` are its ``*-infos.csv``, for folders that have other names than
    the videos' ids.
    """

    exams: FilePath
    infos: tuple[FilePath, ...] = ()


def _class_map(value: object) -> dict[str, str]:
    """A list of names stands for itself; a map goes from the value in the table to the name."""
    if not isinstance(value, list | dict) or not value:
        raise ValueError("give a list of class names, or a map from the label's value to the name")
    # Index = position, so the order in the document is kept.
    names = list(value.values()) if isinstance(value, dict) else value
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError("every class name is a text; put quotes around numbers")
    if not all(printable(text) == text for text in (*value, *names)):
        raise ValueError("a class name holds no control character")
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
    # 0.7 + 0.2 + 0.1 is a little less than 1 in binary.
    if abs(sum(fractions.values()) - 1) > 1e-9:
        raise ValueError(f"fractions add up to {sum(fractions.values()):g} instead of 1")
    return fractions


class SplitPlan(Frozen):
    """How the samples of a store are divided into named parts, or into equal ``folds``."""

    file: FilePath
    fractions: Annotated[dict[DatasetName, Share], Field(min_length=2), AfterValidator(_whole)] = {  # noqa: RUF012
        "train": 0.8,
        "val": 0.2,
    }
    seed: Annotated[int, Field(ge=0)] = 0
    group: Literal["auto", "none"] = "auto"
    method: Literal["auto", "given", "viptt-2021", "sononet-2025"] = "auto"
    folds: Annotated[int, Field(ge=2, le=100)] | None = None


Globs = tuple[Annotated[str, Field(min_length=1), AfterValidator(check_glob)], ...]


class Dataset(Frozen):
    """One entry of the catalog. Each type of source has a model of its own, see ``catalog_model``."""

    name: Annotated[str, Field(exclude=True)] = ""
    type: str
    path: FilePath
    include: Annotated[Globs, Field(description="only these sources; globs below `path`")] = ()
    exclude: Annotated[Globs, Field(description="not these sources; globs below `path`")] = ()
    sample: Annotated[
        Literal["stack", "picture"] | None,
        Field(description="a sample is a whole stack, or one picture of it; the same as in `recipe`"),
    ] = None
    labels: Labels
    groups: Annotated[Groups | None, Field(description="patients of stacks, where `labels` has none")] = None
    classes: Classes
    recipe: SerializeAsAny[Recipe]
    store: FilePath
    split: SplitPlan

    @model_validator(mode="after")
    def _consistent(self) -> "Dataset":
        kind, lists = type(self.labels).__name__, isinstance(self.labels, ListLabels)
        if lists != self.source_type.from_lists:
            wanted = (
                "lists, as in `train: FILE`" if self.source_type.from_lists else "a table, a regex or files"
            )
            raise ValueError(f"type {self.type} has its labels from {wanted}")
        if self.split.method == "given" and not lists:
            raise ValueError(f"`method: given` takes the lists of `labels`, and {kind} has none")
        if self.split.method == "sononet-2025" and not (self.groups and self.groups.infos):
            raise ValueError("`method: sononet-2025` takes centres from `groups`: give its exams and infos")
        if self.sample not in (None, self.recipe.sample):
            raise ValueError(f"`sample: {self.sample}`, but the recipe says {self.recipe.sample}")
        return self

    @property
    def source_type(self) -> SourceType:
        """What the program knows of this type of source."""
        return SOURCE_TYPES[self.type]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""
        return tuple(self.classes.values())

    @property
    def read_files(self) -> dict[str, Path]:
        """The files that the catalog names to be read, by their keys."""
        found = {f"labels.{key}": path for key, path in self.labels if isinstance(path, Path)}
        if self.groups is not None:
            found["groups.exams"] = self.groups.exams
            found |= {f"groups.infos.{place}": path for place, path in enumerate(self.groups.infos)}
        return found

    def located(self, name: str, folder: Path) -> "Dataset":
        """This dataset with its name, and all its paths below a folder unless they are absolute."""
        update = {
            "name": name,
            "path": folder / self.path,
            "store": folder / self.store,
            "labels": _located(self.labels, folder),
            "groups": self.groups and _located(self.groups, folder),
            "split": _located(self.split, folder),
        }
        return self.model_copy(update=update)

    @property
    def quarantine_file(self) -> Path:
        """Where the sources are listed that could not be converted."""
        return self.store.with_name(self.store.name.removesuffix(".zarr") + ".quarantine.csv")

    @property
    def throughput_file(self) -> Path:
        """Where a build says how fast it was: beside what a link to the store leads to."""
        real = Path(os.path.realpath(self.store))
        return real.with_name(real.name.removesuffix(".zarr") + ".build.json")

    @property
    def recipe_json(self) -> dict[str, Any]:
        """The recipe as it stands in the store, with the type of its sources."""
        return self.recipe.as_json()


def _located(part: Frozen, folder: Path) -> Frozen:
    """A part of a dataset with its relative paths below a folder."""

    def absolute(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(map(absolute, value))
        return folder / value if isinstance(value, Path) else value

    return part.model_copy(update={key: absolute(value) for key, value in part})


class Catalog(Frozen):
    """The whole document."""

    version: Literal[1]
    datasets: Annotated[dict[DatasetName, Dataset], Field(min_length=1)]
    _file: Path = PrivateAttr(default=Path())

    @property
    def file(self) -> Path:
        """Where the document was read from."""
        return self._file

    def located(self, file: Path, datasets: dict[str, Dataset]) -> "Catalog":
        """This catalog with where it was read from, and datasets whose paths are absolute."""
        catalog = self.model_copy(update={"datasets": datasets})
        catalog._file = file
        return catalog


@lru_cache
def catalog_model(types: tuple[SourceType, ...]) -> type[Catalog]:
    """The model of a catalog whose datasets may have these types: a dataset's ``type`` chooses its recipe."""
    union: Any = Union[tuple(_dataset_model(source) for source in types)]  # noqa: UP007
    dataset: Any = Annotated[union, Field(discriminator="type")]
    field: Any = Annotated[dict[DatasetName, dataset], Field(min_length=1)]
    return create_model("Catalog", __base__=Catalog, __doc__=Catalog.__doc__, datasets=(field, ...))


def _dataset_model(source: SourceType) -> type[Dataset]:
    type_: Any = Literal[source.name]
    return create_model(
        f"{source.name.capitalize()}Dataset",
        __base__=Dataset,
        __doc__=f"Sources of type {source.name}.",
        type=(type_, ...),
        recipe=(source.recipe, source.recipe()),
    )


def current_model() -> type[Catalog]:
    """The model of a catalog with all types of sources that there are."""
    return catalog_model(tuple(SOURCE_TYPES.values()))


def json_schema() -> dict[str, Any]:
    """JSON Schema of a catalog, for editors."""
    schema = current_model().model_json_schema()
    for definition in schema["$defs"].values():
        if "store" in definition.get("properties", {}):
            definition["properties"].pop("name")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
