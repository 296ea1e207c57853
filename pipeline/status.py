"""Where a dataset stands: built, stale and exactly why, missing, or damaged."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.build.worker import hash_file
from pipeline.catalog.schema import Dataset
from pipeline.errors import IntegrityError, SourceError
from pipeline.readers.reading import check_regular_file
from pipeline.sources import Sample, list_samples, read_quarantine
from pipeline.store import Header, Row, is_store, open_store
from pipeline.store.verify import check_sizes

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


def status(dataset: Dataset, *, quick: bool = False) -> Status:
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
            damage = check_sizes(store)
            rows = {row.source: row for row in store.rows}
            reasons = list(_header_reasons(dataset, store.header))
            reasons += _sample_reasons(samples, rows, quarantined)
            reasons += [] if quick else _content_reasons(samples, rows, quarantined)
            state, digest, count = "stale" if reasons else "built", store.digest, len(rows)
            if damage:
                state, reasons = "damaged", [str(problem) for problem in damage]
    return Status(dataset.name, state, count, digest, tuple(reasons), len(quarantined), unfinished)


def _header_reasons(dataset: Dataset, header: Header) -> Iterator[str]:
    recipe = dataset.recipe_json
    for key in sorted({*recipe, *header.recipe}):
        old, new = header.recipe.get(key), recipe.get(key)
        if old != new:
            yield f"recipe: {key} is {new}, the store was built with {old}"
    if header.classes != dataset.class_names:
        yield f"classes: {', '.join(dataset.class_names)}; the store has {', '.join(header.classes)}"
    if header.dataset != dataset.name:
        yield f"the store was built for dataset {header.dataset}"


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
