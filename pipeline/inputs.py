"""What the arguments of a command name: one dataset of the catalog, or files and folders."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.build import Options
from pipeline.build.convert_files import Arrival, Incoming, convert_incoming, list_incoming
from pipeline.build.worker import Result
from pipeline.catalog import load_catalog, select
from pipeline.catalog.schema import Dataset
from pipeline.errors import ConfigError, Problem
from pipeline.readers import recipe_from
from pipeline.recipe import Recipe
from pipeline.sources import Quarantined, write_quarantine
from pipeline.store import Json


def named_dataset(inputs: Sequence[str], catalog: Path, *, split: str | None = None) -> Dataset | None:
    """The dataset that is named; None where all inputs are paths.

    Only a dataset has a ``split``. Raises ConfigError, with all faults, if an input is neither, or if
    one is both: guessing could predict other samples than the user means.
    """
    dataset = _only_dataset(inputs, catalog, certain=split is not None)
    if split and not dataset:
        remedy = "leave `--split` out, or name a dataset"
        raise ConfigError.of("--split", "not-a-dataset", "files have no splits", remedy)
    return dataset


def _only_dataset(inputs: Sequence[str], catalog: Path, *, certain: bool) -> Dataset | None:
    missing = [name for name in inputs if not os.path.exists(name)]  # noqa: PTH110 - Path's may raise
    if len(inputs) > 1:
        reason, remedy = "there is no such file or folder", "correct the path; a dataset is predicted alone"
        if missing:
            raise ConfigError(*(Problem(name, "unknown-input", reason, remedy) for name in missing))
        return None
    (name,) = inputs
    if missing or (certain and _is_dataset(name, catalog)):
        return _dataset(name, catalog)
    if _is_dataset(name, catalog):
        remedy = f"write `./{name}` for the path; for the dataset, run the command in another folder"
        raise ConfigError.of(name, "ambiguous-input", "it is a dataset, and also a path here", remedy)
    return None


def _dataset(name: str, catalog: Path) -> Dataset:
    try:
        (dataset,) = select(load_catalog(catalog), (name,))
    except ConfigError as error:
        first = error.problems[0]
        reason = f"there is no such file or folder; as a dataset: {first.where}: {first.reason}"
        raise ConfigError.of(name, "unknown-input", reason, first.remedy) from None
    return dataset


def _is_dataset(name: str, catalog: Path) -> bool:
    try:
        return name in load_catalog(catalog).datasets
    except ConfigError:  # files can be predicted without a catalog, or beside a faulty one
        return False


# --- files --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewFiles:
    """Files that are in no catalog, to be converted by a recipe; ``bad`` collects those that cannot be."""

    recipe: Recipe
    files: tuple[Incoming, ...]
    bad: list[Quarantined] = field(default_factory=list)

    def volumes(
        self,
        options: Options,
        *,
        report: Callable[[Result], None],
        warn: Callable[[Sequence[Problem]], None],
    ) -> Iterator[Arrival]:
        """Convert the files, and give each as soon as it is its turn. Raises as ``convert_incoming``."""
        for item in convert_incoming(self.files, self.recipe, options, report=report):
            if isinstance(item, Arrival):
                warn(item.warnings)
                yield item
            else:
                self.bad.append(item)

    def refuse(self, source: str, problem: Problem) -> None:
        """Add a source that was converted, and that the prediction cannot use, to the bad ones."""
        self.bad.append(Quarantined(source, problem))


def new_files(inputs: Sequence[str], recipe: Json) -> NewFiles:
    """The files at these paths, and all sources below those that are folders.

    Raises ConfigError if the recipe is not known to this version, or a folder holds no sources.
    """
    known = recipe_from(recipe)
    files, nameless = list_incoming([Path(name) for name in inputs], recipe["type"])
    return NewFiles(known, files, list(nameless))


def write_bad(table: Path | None, bad: Sequence[Quarantined]) -> None:
    """Write the list of bad files beside a table, as ``NAME.quarantine.csv``; nothing without a table."""
    if table:
        write_quarantine(table.with_name(table.name.removesuffix(".csv") + ".quarantine.csv"), bad)
