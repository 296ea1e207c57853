"""From the results of all tasks to the rows of a store, its quarantine, and warnings."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from pipeline.build.plan import Plan
from pipeline.build.staging import Entry, PictureEntry
from pipeline.build.worker import Result
from pipeline.errors import Problem, TooManyBadError
from pipeline.readers.reading import Facts, SourceType, Statistics
from pipeline.sources import Quarantined, Sample
from pipeline.store import Chunk, Row

_Collected = tuple[tuple[Row, ...], tuple[Chunk, ...], tuple[Quarantined, ...], tuple[Problem, ...]]


def collect(plan: Plan, results: list[Result]) -> _Collected:
    """Rows in their order with their chunks, the quarantine, and what is doubtful about good sources.

    Rows are sorted by id; those of pictures by stack and position.
    """
    by_source = {result.entry.source: result for result in results}
    quarantined = {item.source: item for item in plan.listing.quarantined}
    contradicting, warnings = duplicates(plan, by_source)
    rows: list[Row] = []
    chunks: list[Chunk] = []
    for sample in plan.samples:
        result = by_source[sample.source]
        entry = result.entry
        problem = entry.problem or contradicting.get(sample.source)
        if problem or not result.chunks:
            item = Quarantined(sample.source, problem or _no_chunk(sample), entry.source_sha256)
            quarantined[sample.source] = item
            continue
        kept, bad = rows_of(sample, result, plan.dataset.source_type)
        rows += [row for row, _ in kept]
        chunks += [chunk for _, chunk in kept]
        for item in bad:  # one without a label has a reason already
            problem = quarantined.get(item.source, item).problem
            quarantined[item.source] = replace(item, problem=problem)
        warnings += entry_warnings(sample.path, plan.dataset.source_type, entry)
    warnings += equal_pictures(plan.dataset.path, rows)
    return tuple(rows), tuple(chunks), tuple(quarantined.values()), tuple(warnings)


def rows_of(
    sample: Sample, result: Result, source_type: SourceType
) -> tuple[list[tuple[Row, Chunk]], list[Quarantined]]:
    """The rows of one source with their chunks, and its bad pictures."""
    entry = result.entry
    row = Row(
        id=sample.id,
        label=sample.label,
        group=sample.group,
        source=sample.source,
        source_sha256=entry.source_sha256,
        sha256=entry.sha256,
        facts=entry.facts,
        made_with=entry.made_with,
        statistics=entry.statistics,
    )
    if not entry.pictures:
        return [(row, result.chunks[0])], []
    first = replace(row, stack=sample.id, group=sample.group or sample.id)
    others = replace(first, statistics="{}")  # those of the stack stand in its first row alone
    chunks = iter(result.chunks)
    kept: list[tuple[Row, Chunk]] = []
    bad: list[Quarantined] = []
    for picture in entry.pictures:
        chunk = None if picture.problem else next(chunks)
        label = sample.label_of(picture.name)
        if chunk is None or label is None:
            problem = picture.problem or Problem(picture.source, "no-label", "it has no label", "give it one")
            bad.append(Quarantined(picture.source, problem, entry.source_sha256))
        else:
            name = source_type.picture_id(sample.id, picture.name)
            kept.append((_row_of(others if kept else first, picture, name, label), chunk))
    return kept, bad


def _row_of(row: Row, picture: PictureEntry, name: str, label: int) -> Row:
    """The row of one picture, from what the rows of its stack share."""
    return replace(
        row,
        id=name,
        label=label,
        source=picture.source,
        source_sha256=picture.source_sha256,
        sha256=picture.sha256,
        position=picture.position,
        selected=picture.selected,
    )


def source_warnings(path: Path, source: SourceType, facts: Facts, statistics: Statistics) -> list[Problem]:
    """What is odd about a good source: what its reader noticed, and what its values look like."""
    said = facts.get("warnings", []) + (source.doubts(statistics, facts) if statistics else [])
    return [Problem(str(path), "doubtful", text, "check that this is meant") for text in said]


def entry_warnings(path: Path, source: SourceType, entry: Entry) -> list[Problem]:
    """The warnings about a converted source."""
    return source_warnings(path, source, json.loads(entry.facts), json.loads(entry.statistics))


def _no_chunk(sample: Sample) -> Problem:
    return Problem(str(sample.path), "no-volume", "its task ended without a volume", "build again")


def duplicates(plan: Plan, results: Mapping[str, Result]) -> tuple[dict[str, Problem], list[Problem]]:
    """Sources of equal bytes: quarantined where their labels differ, else a warning.

    Volumes of equal bytes from different files, such as one scan compressed and not, are a warning, too.
    """
    contradicting: dict[str, Problem] = {}
    warnings = []
    for twins in _twins(plan, results, lambda entry: entry.source_sha256):
        if len({sample.label for sample in twins}) > 1:
            contradicting |= _contradictions(twins)
        else:
            warnings.append(_same_bytes(twins))
    for twins in _twins(plan, results, lambda entry: entry.sha256):
        sources = {results[sample.source].entry.source_sha256 for sample in twins}
        if len(sources) > 1:
            warnings.append(_same_volume(twins))
    return contradicting, warnings


def _twins(plan: Plan, results: Mapping[str, Result], key: Callable[[Entry], str]) -> Iterator[list[Sample]]:
    """Samples that share a hash, two or more at a time."""
    same = defaultdict(list)
    for sample in plan.samples:
        entry = results[sample.source].entry
        if key(entry) and entry.problem is None:
            same[key(entry)].append(sample)
    yield from (twins for twins in same.values() if len(twins) > 1)


def _contradictions(twins: Sequence[Sample]) -> dict[str, Problem]:
    reason = f"the same bytes have several labels: {_names(twins)}"
    remedy = "find the right label, remove the other file"
    return {sample.source: Problem(str(sample.path), "duplicate-content", reason, remedy) for sample in twins}


def _same_bytes(twins: Sequence[Sample]) -> Problem:
    leaks = len({sample.group for sample in twins}) > 1
    groups = " in several groups, so that a split may leak" if leaks else ""
    reason = f"the same bytes under {len(twins)} names{groups}: {_names(twins)}"
    return Problem(str(twins[0].path), "duplicate-content", reason, "keep one of them")


def _same_volume(twins: Sequence[Sample]) -> Problem:
    differ = [
        word
        for word, values in (
            ("labels", {sample.label for sample in twins}),
            ("groups", {sample.group for sample in twins}),
        )
        if len(values) > 1
    ]
    contradiction = f" with different {' and '.join(differ)}, a contradiction" if differ else ""
    reason = f"equal volumes from {len(twins)} different files{contradiction}: {_names(twins)}"
    return Problem(str(twins[0].path), "duplicate-content", reason, "find the right one, remove the others")


def equal_pictures(path: Path, rows: Sequence[Row]) -> list[Problem]:
    """One warning if pictures with the same bytes have different labels or groups; it counts them.

    Stacks of equal bytes are told by ``duplicates``; here stacks may share some of their pictures.
    """
    example, count = "", 0
    pictures = (index for index, row in enumerate(rows) if row.stack)
    # Sorted numbers of rows take a third of the memory of a dict from hash to rows.
    by_bytes = sorted(pictures, key=lambda index: rows[index].sha256)
    for _, same in groupby(by_bytes, key=lambda index: rows[index].sha256):
        first, *others = (rows[index] for index in same)
        unlike = [row for row in others if (row.label, row.group) != (first.label, first.group)]
        if unlike:
            example = example or f"{first.id} and {unlike[0].id}"
            count += 1 + len(others)
    if not count:
        return []
    reason = f"{count} pictures have the same bytes as others with another label or group, such as {example}"
    return [Problem(str(path), "duplicate-content", reason, "find the right ones, remove the others")]


def _names(twins: Sequence[Sample]) -> str:
    return ", ".join(sample.source for sample in twins)


def check_bad(
    plan: Plan, rows: tuple[Row, ...], quarantined: tuple[Quarantined, ...], max_bad: float
) -> None:
    """Raise TooManyBadError if more than the fraction ``max_bad`` of the sources is bad, or all are."""
    total = len(rows) + len(quarantined)
    if rows and len(quarantined) <= max_bad * total:
        return
    reason = (
        f"{len(quarantined)} of {total} sources are bad, more than allowed" if rows else "no source is good"
    )
    summary = Problem(
        str(plan.dataset.store), "too-many-bad", reason, "nothing was published; mend the sources"
    )
    raise TooManyBadError(*(item.problem for item in quarantined), summary)
