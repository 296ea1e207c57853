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
    method: Literal["auto", "viptt-2021"] = "auto"
    folds: Annotated[int, Field(ge=2, le=100)] | None = None


Globs = tuple[Annotated[str, Field(min_length=1), AfterValidator(check_glob)], ...]


class Dataset(Frozen):
    """One entry of the catalog. Each type of source has a model of its own, see ``catalog_model``."""

    name: Annotated[str, Field(exclude=True)] = ""
    type: str
    path: FilePath
    include: Annotated[Globs, Field(description="only these sources; globs below `path`")] = ()
    exclude: Annotated[Globs, Field(description="not these sources; globs below `path`")] = ()
    labels: Labels
    classes: Classes
    recipe: SerializeAsAny[Recipe]
    store: FilePath
    split: SplitPlan

    @property
    def source_type(self) -> SourceType:
        """What the program knows of this type of source."""
        return SOURCE_TYPES[self.type]

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
        return self.recipe.as_json()


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
