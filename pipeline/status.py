"""Where a dataset stands: built, stale and exactly why, missing, or damaged."""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pipeline.build.plan import recipe_hash
from pipeline.build.reuse import STACK_SHA256, name_of
from pipeline.build.staging import unfinished
from pipeline.catalog.schema import Dataset
from pipeline.errors import IntegrityError, Problem, SourceError
from pipeline.freshness import check_fresh, differences
from pipeline.readers.content import signatures
from pipeline.readers.reading import SourceType
from pipeline.sources import Listing, Sample, list_samples, read_quarantine
from pipeline.store import Header, Row, Store, is_store, open_store
from pipeline.store.verify import check_files

NAMED = 3  # sources named in a reason; the rest is counted
EXIT_CODES = {"built": 0, "stale": 3, "missing": 3, "damaged": 4}


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

    @property
    def exit_code(self) -> int:
        """What the command ends with: 0 if built, 3 if stale or missing, 4 if damaged."""
        return EXIT_CODES[self.state]


def status(dataset: Dataset, *, quick: bool = False) -> Status:
    """Compare catalog, labels and sources with the store; ``quick`` does not hash the sources.

    Of the volumes, the sizes are compared. Raises ConfigError if the sources cannot be listed.
    """
    listing = list_samples(dataset, allow_missing=True)
    quarantined = {item.source: item.source_sha256 for item in read_quarantine(dataset.quarantine_file)}
    state, store, reasons = _damage(dataset)
    # What is damaged has to be repaired first; whether it is stale as well can be asked then.
    if store is not None and not reasons:
        reasons = list(_stale_reasons(dataset, store, listing, quarantined, quick=quick))
        state = "stale" if reasons else "built"
    return Status(
        dataset=dataset.name,
        state=state,
        samples=len(store.rows) if store else 0,
        digest=store.digest if store else "",
        reasons=tuple(reasons),
        quarantined=len(quarantined),
        unfinished=unfinished(dataset.store.resolve(), recipe_hash(dataset.recipe_json)),
    )


def status_json(found: list[Status]) -> dict[str, Any]:
    """The states of some datasets, for scripts."""
    return {"datasets": [asdict(item) for item in found]}


def status_text(item: Status) -> str:
    """The state of a dataset and its reasons, for people."""
    lines = [f"{item.dataset}: {item.state}, {item.samples} samples, {item.quarantined} sources quarantined"]
    lines += [f"  {reason}" for reason in item.reasons]
    if item.unfinished:
        lines.append(
            f"  a stopped build has done {item.unfinished} sources; `viptt build` goes on from there"
        )
    return "\n".join(lines)


def _damage(dataset: Dataset) -> tuple[str, Store | None, list[str]]:
    """Missing or damaged, and why; or the store, without reasons, if it can be opened and none is missing."""
    if not is_store(dataset.store):
        return "missing", None, ["run `viptt build`"]
    try:
        store = open_store(dataset.store)
    except IntegrityError as error:
        return "damaged", None, [str(problem) for problem in error.problems]
    return "damaged", store, [str(problem) for problem in check_files(store)]


def _stale_reasons(
    dataset: Dataset, store: Store, listing: Listing, quarantined: Mapping[str, str], *, quick: bool
) -> Iterator[str]:
    stored = _stored(store)
    # The rows of pictures name their stack, all others their source.
    samples = {sample.id if store.header.pictures else sample.source: sample for sample in listing.samples}
    yield from _header_reasons(dataset, store.header)
    yield from _sample_reasons(samples, stored, quarantined)
    alone = sorted({item.source for item in listing.quarantined} - set(quarantined) - set(stored))
    yield from _reason("a file without a label, or a label without a file", alone)
    if not quick:
        yield from _content_reasons(dataset.source_type, samples, stored, quarantined)


def _header_reasons(dataset: Dataset, header: Header) -> Iterator[str]:
    yield from differences(dataset.recipe_json, dataset.class_names, header)
    if header.dataset != dataset.name:
        yield f"the store was built for dataset {header.dataset}"


@dataclass(frozen=True)
class _Stored:
    """The rows that were made of one source: one, or one for each of its pictures."""

    rows: list[Row]

    @property
    def sha256(self) -> str:
        """Hash of the source."""
        row = self.rows[0]
        return str(json.loads(row.facts)[STACK_SHA256]) if row.stack else row.source_sha256

    def has_label_of(self, sample: Sample) -> bool:
        return all(sample.label_of(name_of(row)) == row.label for row in self.rows)

    def has_group_of(self, sample: Sample) -> bool:
        row = self.rows[0]
        return row.group == (sample.group or row.stack)  # pictures without a group have that of their stack


def _stored(store: Store) -> Mapping[str, _Stored]:
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    for row in store.rows:
        rows[row.stack or row.source].append(row)
    return {name: _Stored(found) for name, found in rows.items()}


def _sample_reasons(
    samples: Mapping[str, Sample], stored: Mapping[str, _Stored], quarantined: Mapping[str, str]
) -> Iterator[str]:
    both = [(name, sample, stored[name]) for name, sample in samples.items() if name in stored]
    added = {name for name, sample in samples.items() if sample.source not in quarantined} - set(stored)
    yield from _reason("added", sorted(added))
    yield from _reason("removed", sorted(set(stored) - set(samples)))
    other_label = [name for name, sample, found in both if not found.has_label_of(sample)]
    yield from _reason("another label", other_label)
    other_group = [name for name, sample, found in both if not found.has_group_of(sample)]
    yield from _reason("another group", other_group)
    other = [name for name, sample, found in both if sample.sha256 not in ("", found.sha256)]
    yield from _reason("another hash in the labels", other)


def _content_reasons(
    source: SourceType,
    samples: Mapping[str, Sample],
    stored: Mapping[str, _Stored],
    quarantined: Mapping[str, str],
) -> Iterator[str]:
    wanted = {
        name: stored[name].sha256 if name in stored else quarantined[sample.source]
        for name, sample in samples.items()
        if name in stored or sample.source in quarantined
    }
    # Hashing releases the interpreter's lock, so that threads share the cores.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = list(pool.map(partial(_hash, source), [samples[name] for name in wanted]))
    found = zip(wanted.items(), hashes, strict=True)
    yield from _reason("other content", [name for (name, sha256), now in found if sha256 != now])


def _hash(source: SourceType, sample: Sample) -> str:
    """The source's hash, or "" where it cannot be read, as in the quarantine."""
    try:
        signatures(source.files(sample.origin))
        return source.hash(sample.origin)
    except SourceError:
        return ""


def _reason(what: str, sources: list[str]) -> Iterator[str]:
    if sources:
        more = f" and {len(sources) - NAMED} more" if len(sources) > NAMED else ""
        yield f"{what}: {', '.join(sources[:NAMED])}{more}"


def open_fresh(dataset: Dataset, *, stale_ok: bool, warn: Callable[[Sequence[Problem]], None]) -> Store:
    """Open the store of a dataset. Raises as ``check_fresh``, or warns instead with ``stale_ok``."""
    store = open_store(dataset.store)
    try:
        check_fresh(dataset.recipe_json, dataset.class_names, store.header, where=store.path)
    except IntegrityError as error:
        if not stale_ok:
            raise
        warn(error.problems)
    return store
