"""Where a dataset stands: built, stale and exactly why, missing, or damaged."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.catalog import NiftiDataset, VideoDataset
from pipeline.errors import IntegrityError, Problem, SourceError
from pipeline.quarantine import read_quarantine
from pipeline.readers.reading import check_regular_file
from pipeline.samples import Sample, list_samples
from pipeline.store import Header, Row, Store, is_store, open_store
from pipeline.task import hash_file

NAMED = 3  # sources named in a reason; the rest is counted


@dataclass(frozen=True)
class Status:
    """``state`` is built, stale, missing or damaged; ``unfinished`` counts what a stopped build has done."""

    dataset: str
    state: str
    samples: int
    digest: str
    reasons: tuple[str, ...]
    quarantined: int
    unfinished: int


def status(dataset: NiftiDataset | VideoDataset, *, quick: bool = False) -> Status:
    """Compare catalog, labels and sources with the store; ``quick`` does not hash the sources.

    Raises ConfigError if the sources cannot be listed.
    """
    samples = list_samples(dataset, allow_missing=True).samples
    quarantined = {item.source: item.source_sha256 for item in read_quarantine(dataset.quarantine_file)}
    unfinished = len(list(dataset.store.with_name(dataset.store.name + ".building").glob("journal/*.json")))
    state, digest, count, reasons = "missing", "", 0, ["run `viptt build`"]
    if is_store(dataset.store):
        try:
            store = open_store(dataset.store)
        except IntegrityError as error:
            state, reasons = "damaged", [str(problem) for problem in error.problems]
        else:
            rows = {row.source: row for row in store.rows}
            reasons = list(_header_reasons(dataset, store.header))
            reasons += _sample_reasons(samples, rows, quarantined)
            reasons += [] if quick else _content_reasons(samples, rows, quarantined)
            state, digest, count = "stale" if reasons else "built", store.digest, len(rows)
    return Status(dataset.name, state, count, digest, tuple(reasons), len(quarantined), unfinished)


def check_fresh(dataset: NiftiDataset | VideoDataset, store: Store) -> None:
    """Raise IntegrityError if the catalog asks for another recipe or other classes than the store has.

    Sources and labels are not compared: that takes ``status`` its time.
    """
    reasons = list(_catalog_reasons(dataset, store.header))
    if reasons:
        remedy = "run `viptt build`, or add `--stale-ok` to use the store as it is"
        raise IntegrityError.of(store.path, "stale-store", "; ".join(reasons), remedy)


def open_fresh(
    dataset: NiftiDataset | VideoDataset, *, stale_ok: bool, warn: Callable[[Sequence[Problem]], None]
) -> Store:
    """Open the store of a dataset. Raises as ``check_fresh``, or warns instead with ``stale_ok``."""
    store = open_store(dataset.store)
    try:
        check_fresh(dataset, store)
    except IntegrityError as error:
        if not stale_ok:
            raise
        warn(error.problems)
    return store


def _header_reasons(dataset: NiftiDataset | VideoDataset, header: Header) -> Iterator[str]:
    yield from _catalog_reasons(dataset, header)
    if header.dataset != dataset.name:
        yield f"the store was built for dataset {header.dataset}"


def _catalog_reasons(dataset: NiftiDataset | VideoDataset, header: Header) -> Iterator[str]:
    recipe = dataset.recipe_json
    for key in sorted({*recipe, *header.recipe}):
        old, new = header.recipe.get(key), recipe.get(key)
        if old != new:
            yield f"recipe: {key} is {new}, the store was built with {old}"
    if header.classes != dataset.class_names:
        yield f"classes: {', '.join(dataset.class_names)}; the store has {', '.join(header.classes)}"


def _sample_reasons(
    samples: tuple[Sample, ...], rows: Mapping[str, Row], quarantined: Mapping[str, str]
) -> Iterator[str]:
    known = {*rows, *quarantined}
    sources = {sample.source for sample in samples}
    both = [(sample, rows[sample.source]) for sample in samples if sample.source in rows]
    yield from _reason("added", sorted(sources - known))
    yield from _reason("removed", sorted(set(rows) - sources))
    yield from _reason("another label", [sample.source for sample, row in both if sample.label != row.label])
    yield from _reason("another group", [sample.source for sample, row in both if sample.group != row.group])
    other = [sample.source for sample, row in both if sample.sha256 not in ("", row.source_sha256)]
    yield from _reason("another hash in the labels", other)


def _content_reasons(
    samples: tuple[Sample, ...], rows: Mapping[str, Row], quarantined: Mapping[str, str]
) -> Iterator[str]:
    stored = {**quarantined, **{source: row.source_sha256 for source, row in rows.items()}}
    compared = [sample for sample in samples if sample.source in stored]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = list(pool.map(_hash, compared))
    changed = [
        sample.source
        for sample, sha256 in zip(compared, hashes, strict=True)
        if stored[sample.source] != sha256
    ]
    yield from _reason("other content", changed)


def _hash(sample: Sample) -> str:
    """The source's hash, or "" where it cannot be read, as in the quarantine."""
    try:
        check_regular_file(sample.path)
        return hash_file(sample.path)
    except SourceError:
        return ""


def _reason(what: str, sources: list[str]) -> Iterator[str]:
    if sources:
        more = f" and {len(sources) - NAMED} more" if len(sources) > NAMED else ""
        yield f"{what}: {', '.join(sources[:NAMED])}{more}"
