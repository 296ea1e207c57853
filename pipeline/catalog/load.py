"""Read a catalog, and select datasets from it."""

import json
from pathlib import Path

from pydantic import ValidationError

from pipeline.catalog.faults import catalog_problems, suggestion
from pipeline.catalog.schema import Catalog, Dataset, TableLabels, current_model
from pipeline.catalog.yaml_nodes import plain, read_yaml
from pipeline.errors import ConfigError, Problem


def load_catalog(file: Path) -> Catalog:
    """Read a catalog; relative paths become relative to the catalog's folder.

    Raises ConfigError with every fault found.
    """
    root = read_yaml(file)
    try:
        catalog = current_model().model_validate_json(json.dumps(plain(root)))
    except ValidationError as error:
        raise ConfigError(*catalog_problems(file, root, error)) from None
    folder = file.absolute().parent
    located = {name: _located(dataset, name, folder) for name, dataset in catalog.datasets.items()}
    _check_outputs(file, list(located.values()))
    return catalog.model_copy(update={"datasets": located})


def _check_outputs(file: Path, datasets: list[Dataset]) -> None:
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


def select(catalog: Catalog, names: tuple[str, ...]) -> tuple[Dataset, ...]:
    """The datasets with these names; none means all. Raises ConfigError for names not there."""
    known = list(catalog.datasets)
    unknown = [
        Problem(name, "unknown-dataset", "the catalog has no dataset of this name", suggestion(name, known))
        for name in names
        if name not in known
    ]
    if unknown:
        raise ConfigError(*unknown)
    return tuple(catalog.datasets[name] for name in names or known)


def _located(dataset: Dataset, name: str, folder: Path) -> Dataset:
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
