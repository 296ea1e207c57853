"""Read a catalog, and select datasets from it."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.catalog.faults import catalog_problems
from pipeline.catalog.places import check_places
from pipeline.catalog.schema import Catalog, Dataset, current_model
from pipeline.errors import Code, ConfigError, Problem
from pipeline.nearest import suggestion
from pipeline.yaml_nodes import line_of, plain, read_yaml


def load_catalog(file: Path) -> Catalog:
    """Read a catalog; relative paths become relative to the catalog's folder.

    Raises ConfigError with every fault found.
    """
    root = read_yaml(file)
    try:
        # Through JSON, where pydantic's strict mode takes a list for a tuple and a text for a path.
        catalog = current_model().model_validate_json(json.dumps(_with_samples(plain(root))))
    except ValidationError as error:
        raise ConfigError(*catalog_problems(file, root, error)) from None
    file = file.absolute()
    located = {name: dataset.located(name, file.parent) for name, dataset in catalog.datasets.items()}
    catalog = catalog.located(file, located)
    # Only now: places can be compared when all paths are absolute.
    check_places(catalog, _places_in_document(file, root, catalog))
    return catalog


def _with_samples(document: Any) -> Any:
    """The document with each dataset's ``sample`` in its recipe, too: it decides the bytes of volumes."""
    datasets = document.get("datasets") if isinstance(document, dict) else None
    for dataset in datasets.values() if isinstance(datasets, dict) else ():
        if isinstance(dataset, dict) and dataset.get("sample") is not None:
            recipe = dataset.setdefault("recipe", {})
            if isinstance(recipe, dict):
                recipe.setdefault("sample", dataset["sample"])
    return document


def _places_in_document(file: Path, root: Any, catalog: Catalog) -> dict[str, str]:
    """Line and path in the document of each key that names an output."""
    paths = [(name, *key) for name in catalog.datasets for key in (("store",), ("split", "file"))]
    return {
        ".".join(path): f"{file}:{line_of(root, ['datasets', *path])} (datasets.{'.'.join(path)})"
        for path in paths
    }


def select(catalog: Catalog, names: tuple[str, ...]) -> tuple[Dataset, ...]:
    """The datasets with these names; none means all. Raises ConfigError for names not there."""
    known = list(catalog.datasets)
    unknown = [
        Problem(
            name, Code.UNKNOWN_DATASET, "the catalog has no dataset of this name", suggestion(name, known)
        )
        for name in names
        if name not in known
    ]
    if unknown:
        raise ConfigError(*unknown)
    return tuple(catalog.datasets[name] for name in names or known)
