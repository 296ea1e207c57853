"""Write a commented catalog for a folder, and where no label was found a label table to be filled in.

Nothing that is there is ever overwritten.
"""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.catalog import load_catalog
from pipeline.catalog.schema import Dataset, current_model
from pipeline.errors import Code, ConfigError, ResourceError, SourceError
from pipeline.guess.inventory import Inventory, take_inventory
from pipeline.guess.labels import Guess, by_folder, by_name
from pipeline.guess.tables import by_table, unused_tables
from pipeline.guess.text import catalog_text
from pipeline.readers import frames
from pipeline.readers.reading import Source
from pipeline.sources import Listing, list_samples

EXAMPLE_CLASSES = ("first class", "second class")
SHOWN_CLASSES = 8
FIRST_PICTURES = 100
TABLE_COLUMNS = {"id": "FileName", "label": "Label", "group": "Group"}


@dataclass(frozen=True)
class Draft:
    """What was written, and what was guessed. ``table`` is the label table to fill in, if there is one."""

    catalog: Path
    dataset: str
    type: str
    labels: dict[str, str]
    classes: tuple[str, ...]
    counts: dict[str, int]
    table: Path | None
    lines: tuple[str, ...] = ()


def write_catalog(folder: Path, catalog: Path) -> Draft:
    """Write ``catalog`` for the sources in ``folder``.

    Raises ConfigError if the folder holds no sources or one of the files is there already, ResourceError if
    it cannot be written.
    """
    _require_new(catalog)
    inventory = take_inventory(folder)
    name = _dataset_name(folder)
    table = catalog.with_name(f"{name}.labels.csv")
    guess, listing, refused = _choose(inventory, name)
    if listing is None:
        _require_new(table)
        guess = _to_fill_in(table)
    text = catalog_text(inventory, guess, catalog, name=name, window=_window(inventory))
    _write_checked(catalog, text)
    if listing is None:
        _write_new(table, _skeleton(inventory))
    lines = _lines(inventory, guess, listing, catalog, refused)
    counts = Counter(guess.classes[sample.label] for sample in listing.samples) if listing else {}
    return Draft(
        catalog=catalog,
        dataset=name,
        type=inventory.source_type.name,
        labels=guess.labels,
        classes=guess.classes,
        counts={label: counts.get(label, 0) for label in guess.classes} if listing else {},
        table=None if listing else table,
        lines=tuple(lines),
    )


def as_json(draft: Draft) -> dict[str, Any]:
    """What was written and guessed, for scripts."""
    return {
        "catalog": str(draft.catalog),
        "dataset": draft.dataset,
        "type": draft.type,
        "labels": draft.labels,
        "classes": draft.counts or dict.fromkeys(draft.classes),
        "table": None if draft.table is None else str(draft.table),
    }


# --- choosing -----------------------------------------------------------------------------------


def _choose(inventory: Inventory, name: str) -> tuple[Guess, Listing | None, list[str]]:
    """The first guess by which the sources can be listed; why better ones were not taken."""
    refused: list[str] = []
    guess = Guess({}, (), "")
    for guess in (*by_table(inventory), *by_folder(inventory), *by_name(inventory)):
        try:
            return guess, _list(_dataset(inventory, guess, name), guess), refused
        except ConfigError as error:
            refused.append(f"{guess.reason}; but {error.problems[0].reason}")
    return guess, None, refused


def _list(dataset: Dataset, guess: Guess) -> Listing:
    """List the samples. A table may name more than is there; folders and names must fit all sources."""
    try:
        return list_samples(dataset)
    except ConfigError:
        if "file" not in guess.labels:
            raise
        return list_samples(dataset, allow_missing=True)


def _dataset(inventory: Inventory, guess: Guess, name: str) -> Dataset:
    """The entry of a catalog, with absolute paths, as it would be read."""
    folder = inventory.folder.absolute()
    labels = {**guess.labels}
    if "file" in labels:
        labels["file"] = _as_written(Path(labels["file"]).absolute())
    entry = {
        "type": inventory.source_type.name,
        "path": _as_written(folder),
        "exclude": list(guess.exclude),
        "labels": labels,
        "classes": list(guess.classes),
        "store": "store.zarr",
        "split": {"file": "split.json"},
    }
    document = json.dumps({"version": 1, "datasets": {name: entry}})
    return current_model().model_validate_json(document).datasets[name].model_copy(update={"name": name})


def _as_written(path: Path) -> str:
    return str(path).replace("$", "$$")  # in a catalog `$NAME` is a variable


def _dataset_name(folder: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.resolve().name).strip("_.-")
    return name or "data"


def _window(inventory: Inventory) -> tuple[float, float] | None:
    """The range of the first stack's values where its pictures have 16 bits: they need a window."""
    if not inventory.source_type.folder:
        return None
    try:
        pictures = frames.read(
            Source(inventory.folder / inventory.sources[0]), keep=range(FIRST_PICTURES)
        ).array
    except SourceError:  # `viptt check` will tell what is wrong with it
        return None
    lowest, highest = float(pictures.min()), float(pictures.max())
    return None if pictures.dtype == np.uint8 else (lowest, max(highest, lowest + 1))


# --- writing ------------------------------------------------------------------------------------


def _require_new(path: Path) -> None:
    if os.path.lexists(path):
        remedy = "remove it, or name another with `--catalog FILE`"
        raise ConfigError.of(path, Code.FILE_EXISTS, "it is there already", remedy)


def _write_checked(catalog: Path, text: str) -> None:
    """Put a catalog in its place if it can be read there: a trial beside it has the same relative paths."""
    trial = catalog.with_name(f"{catalog.name}.partial")
    _write_new(trial, text)
    try:
        load_catalog(trial)
    finally:
        trial.unlink()
    _write_new(catalog, text)


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        _require_new(path)
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> ResourceError:
    return ResourceError.of(path, Code.CANNOT_WRITE, str(error.strerror), "name another with `--catalog`")


def _to_fill_in(table: Path) -> Guess:
    labels = {"file": str(table), **TABLE_COLUMNS}
    why = "the column Group: write the patient or scene there, or leave it blank"
    return Guess(labels, EXAMPLE_CLASSES, "no table, folder or name tells the classes", why)


def _skeleton(inventory: Inventory) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TABLE_COLUMNS.values())
    writer.writerows((source, "", "") for source in inventory.sources)
    return text.getvalue()


# --- telling ------------------------------------------------------------------------------------


def _lines(
    inventory: Inventory, guess: Guess, listing: Listing | None, catalog: Path, refused: list[str]
) -> Iterator[str]:
    """What was guessed and why, and what to do next."""
    yield f"type: {inventory.source_type.name}, because of {inventory.reason}"
    for reason in refused:
        yield f"not taken: {reason}"
    for name in unused_tables(inventory):
        yield f"not read: {name}; save it as CSV, UTF-8, separated by commas"
    yield f"labels: {guess.reason}"
    yield f"groups: {guess.group_reason}"
    if guess.exclude:
        yield f"left out: {len(guess.exclude)} sources that the table does not name"
    if listing is None:
        yield f"wrote {guess.labels['file']}, a line for each source: fill in {TABLE_COLUMNS['label']}"
        yield f"wrote {catalog}; correct its `classes`, then run `viptt check`"
        return
    counts = Counter(guess.classes[sample.label] for sample in listing.samples)
    shown = [f"{label} ({counts[label]})" for label in guess.classes[:SHOWN_CLASSES]]
    more = f" and {len(guess.classes) - len(shown)} more" if len(guess.classes) > len(shown) else ""
    yield f"classes, with their samples: {', '.join(shown)}{more}"
    option = ""
    if listing.quarantined:
        option = " --allow-missing"
        yield f"warning: {len(listing.quarantined)} sources or lines of the table have no counterpart"
    yield f"wrote {catalog}; look at it, then run `viptt check{option}`"
