"""Make a damaged store whole again: the same rows and the same bytes, and so the same digest.

A build follows the catalog; a repair follows the store. Which samples there are, their labels, groups and
recipe are what was published, whatever the catalog says by now. Only what is damaged is made again from
its source, and only if that still has the bytes that the store was built from.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.build.collect import collect, rows_of
from pipeline.build.execute import run_jobs
from pipeline.build.options import Options
from pipeline.build.plan import Plan
from pipeline.build.reuse import STACK_SHA256
from pipeline.build.run import make_tasks, size_text
from pipeline.build.staging import Staging, is_in_use, open_staging, remove
from pipeline.build.worker import Result, process
from pipeline.catalog.schema import Dataset
from pipeline.errors import IntegrityError, Problem, some
from pipeline.readers import recipe_from
from pipeline.sources import Listing, Sample, list_samples
from pipeline.store import (
    Chunk,
    Header,
    Row,
    Store,
    digest_of,
    features_of,
    is_intact,
    is_store,
    open_store,
)
from pipeline.store.open import recover_store, surviving_column
from pipeline.store.publish import publish
from pipeline.store.root import Root, sound_roots
from pipeline.store.verify import Verification

BUILD = "`viptt build` makes the store anew, as the catalog asks for it now"


@dataclass(frozen=True)
class Repair:
    """What a repair did: of so many samples, the volumes of so many were made again."""

    store: Path
    samples: int
    converted: int


Report = Callable[[Result], None]


def repair(dataset: Dataset, options: Options, *, report: Report = lambda result: None) -> Repair:
    """Publish the store of a dataset again as it was, keeping every volume that is intact.

    Raises IntegrityError where that cannot be done: a damaged volume's source is gone or has changed, this
    version makes other bytes of it, or neither the root nor its copy can be read. Then nothing is changed.
    """
    target = dataset.store.resolve()
    with open_staging(target) as staging:
        of_a_build = is_in_use(staging)
        store = _table_of(target)
        if store is None:
            header, rows, chunks = _from_sources(dataset, target, staging, options, report)
            converted = len(rows)
        else:
            header, rows = store.header, store.rows
            chunks, converted = _chunks_of(dataset, store, staging, options, report)
        publish(staging.root, target, header, rows, chunks)
        if not of_a_build:  # what a stopped build has done is kept for its next start
            remove(staging)
    return Repair(target, len(rows), converted)


def _table_of(target: Path) -> Store | None:
    """The store with its table proven, whatever else is damaged; nothing where the table itself is."""
    try:
        return open_store(target)
    except IntegrityError as error:
        if not is_store(target) or error.problems[0].code in ("foreign-store", "store-format"):
            raise
        return recover_store(target, error.problems)


# --- the table is sound -------------------------------------------------------------------------


def _chunks_of(
    dataset: Dataset, store: Store, staging: Staging, options: Options, report: Report
) -> tuple[list[Chunk], int]:
    """A chunk for each row: the store's where it is intact, else one made again of the same bytes."""
    with ThreadPoolExecutor(options.workers) as pool:
        intact = list(pool.map(lambda index: _is_intact(store, index), range(len(store.rows))))
    damaged = {row.id: row for row, sound in zip(store.rows, intact, strict=True) if not sound}
    samples = _damaged_samples(dataset, store.header, list(damaged.values()))
    results = _convert(_plan(dataset, store.header, samples), staging, options, report)
    made, problems = _made_again(dataset, samples, results, damaged)
    if problems:
        raise IntegrityError(*problems)
    # What is intact comes from the store that is being replaced: where it is a file, no byte is copied.
    chunks = [made.get(row.id) or store.chunk_at(index) for index, row in enumerate(store.rows)]
    return chunks, len(damaged)


def _damaged_samples(dataset: Dataset, header: Header, rows: Sequence[Row]) -> list[Sample]:
    """The sources of damaged rows, with the hashes that they must have.

    Other bytes would make another volume under the same name.
    """
    if not header.pictures:
        return [
            Sample(row.id, row.label, row.group, row.source, dataset.path / row.source, row.source_sha256)
            for row in rows
        ]
    stacks = {row.stack: json.loads(row.facts)[STACK_SHA256] for row in rows}
    listed = list_samples(dataset, allow_missing=True).samples
    found = [replace(sample, sha256=stacks[sample.id]) for sample in listed if sample.id in stacks]
    lost = sorted(set(stacks) - {sample.id for sample in found})
    if lost:
        reason = f"pictures of {some(lost, 'stack')} are damaged, which the sources have no more"
        raise IntegrityError.of(dataset.store, "source-lost", reason, f"bring them back, or {BUILD}")
    return found


def _made_again(
    dataset: Dataset, samples: Sequence[Sample], results: Sequence[Result], damaged: Mapping[str, Row]
) -> tuple[dict[str, Chunk], list[Problem]]:
    """For each damaged row, by its id, where its volume lies now; and why others have none."""
    by_source = {result.entry.source: result for result in results}
    made: dict[str, Chunk] = {}
    problems: list[Problem] = []
    for sample in samples:
        result = by_source[sample.source]
        kept, _ = rows_of(sample, result, dataset.source_type) if result.chunks else ([], [])
        again = {row.id: (row, chunk) for row, chunk in kept}
        for row in (row for row in damaged.values() if sample.id in (row.id, row.stack)):
            found = again.get(row.id)
            fault = _fault(dataset, row, result, found and found[0])
            if fault is not None:
                problems.append(fault)
            elif found is not None:
                made[row.id] = found[1]
    return made, problems


def _is_intact(store: Store, index: int) -> bool:
    """Whether a chunk is what was stored, and lies in the store itself, not behind a link."""
    chunk = store.chunk_at(index)
    in_place = os.path.realpath(chunk.file) == str(chunk.file)
    return in_place and is_intact(chunk, store.header.volume_bytes, store.rows[index].sha256)


def _fault(dataset: Dataset, row: Row, result: Result, again: Row | None) -> Problem | None:
    """Why a result, with this row for the sample, cannot stand for a damaged volume, if it cannot."""
    where = f"{dataset.path / row.source} (sample {row.id})"
    problem = result.entry.problem
    if problem is not None and problem.code == "hash-mismatch":
        reason = "its volume is damaged, and the source is not what the store was built from any more"
        return Problem(where, "source-changed", reason, f"bring it back, or {BUILD}")
    if problem is not None:
        reason = f"its volume is damaged, and cannot be made again: {problem.code}: {problem.reason}"
        return Problem(where, "source-lost", reason, f"bring it back, or {BUILD}")
    if again is None or again.sha256 != row.sha256:
        reason = "its volume is damaged, and the versions that are installed now make another one of it"
        return Problem(where, "other-bytes", reason, f"install those of `created_with`, or {BUILD}")
    return None


# --- the table is damaged -----------------------------------------------------------------------


def _from_sources(
    dataset: Dataset, target: Path, staging: Staging, options: Options, report: Report
) -> tuple[Header, Sequence[Row], Sequence[Chunk]]:
    """Make all rows again. The digest in the root, or in its copy, proves that they are those of before."""
    root = next(sound_roots(target), None)
    if root is None:
        reason = "neither its root nor the copy of it can be read"
        raise IntegrityError.of(target, "beyond-repair", reason, BUILD)
    plan = _plan(dataset, root.header, _samples_of(dataset, target, root))
    rows, chunks, _, _ = collect(plan, _convert(plan, staging, options, report))
    if digest_of(root.header.recipe, root.header.classes, rows) != root.digest:
        reason = "its table is damaged, and sources, labels or versions are not those of before"
        raise IntegrityError.of(target, "beyond-repair", reason, BUILD)
    return root.header, rows, chunks


def _samples_of(dataset: Dataset, target: Path, root: Root) -> list[Sample]:
    """The samples in the catalog of which the table, as far as it is intact, names the source or the id."""
    samples = list_samples(dataset, allow_missing=True).samples
    columns = ("stack",) if root.header.pictures else ("source", "id")
    for column in columns:
        values = surviving_column(target, root, column)
        if values is not None:
            there = set(values)
            return [sample for sample in samples if {sample.source, sample.id} & there]
    return list(samples)


def _plan(dataset: Dataset, header: Header, samples: Sequence[Sample]) -> Plan:
    """A plan to make these samples by the store's recipe."""
    by_store = dataset.model_copy(update={"recipe": recipe_from(header.recipe)})
    return Plan(by_store, Listing(tuple(samples)), tuple(samples), header)


def _convert(plan: Plan, staging: Staging, options: Options, report: Report) -> list[Result]:
    results = []
    if plan.samples:
        for result in run_jobs(make_tasks(plan, staging, None), options, process):
            results.append(result)
            report(result)
    return results


# --- for people and scripts ---------------------------------------------------------------------


def stores_of(dataset: Dataset) -> list[Path]:
    """The store of a dataset, and that of its features where there is one."""
    features = features_of(dataset.store)
    return [dataset.store, features] if is_store(features) else [dataset.store]


def repair_text(repaired: Repair) -> str:
    """What a repair did, in a line."""
    kept = repaired.samples - repaired.converted
    return f"{repaired.store}: repaired, {repaired.converted} volumes made again, {kept} kept"


def verification_text(found: Verification, *, quick: bool) -> str:
    """What was found in a store, in a line."""
    how = "sizes compared" if quick else f"{size_text(found.nbytes)} read and hashed"
    state = f"{len(found.damaged)} damaged" if found.damaged else "intact"
    return f"{found.store}: {state}, {found.samples} samples, {how}"


def verification_lines(found: Verification) -> list[str]:
    """A warning for each file in a store that is no part of it."""
    return [
        f"warning: {found.store / name}: unexpected: it is no part of the store → move it away"
        for name in found.unexpected
    ]


def verifications_json(found: Sequence[Verification]) -> dict[str, Any]:
    """What was found in some stores, for scripts."""
    return {"stores": [{**asdict(item), "store": str(item.store)} for item in found]}
