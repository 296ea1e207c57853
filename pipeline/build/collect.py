"""From the results of all tasks to the rows of a store, its quarantine, and warnings."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from pipeline.build.plan import Plan
from pipeline.build.staging import Entry
from pipeline.build.worker import Result
from pipeline.errors import Problem, TooManyBadError
from pipeline.sources import Quarantined, Sample
from pipeline.store import Row

_Collected = tuple[tuple[Row, ...], tuple[Path, ...], tuple[Quarantined, ...], tuple[Problem, ...]]


def collect(plan: Plan, results: list[Result]) -> _Collected:
    """Rows (sorted by id) with their chunks, the quarantine, and what is doubtful about good sources."""
    by_source = {result.entry.source: result for result in results}
    quarantined = list(plan.listing.unmatched)
    contradicting, warnings = duplicates(plan, by_source)
    rows, chunks = [], []
    for sample in plan.samples:
        result = by_source[sample.source]
        entry = result.entry
        problem = entry.problem or contradicting.get(sample.source)
        if problem or result.chunk is None:
            quarantined.append(Quarantined(sample.source, problem or _no_chunk(sample), entry.source_sha256))
            continue
        rows.append(
            Row(
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
        )
        chunks.append(result.chunk)
        warnings += doubts(sample.path, entry)
    return tuple(rows), tuple(chunks), tuple(quarantined), tuple(warnings)


def doubts(path: Path, entry: Entry) -> list[Problem]:
    """What the reader noticed, and stored in the sample's facts."""
    warnings = json.loads(entry.facts).get("warnings", [])
    return [Problem(str(path), "doubtful", text, "check that this is meant") for text in warnings]


def _no_chunk(sample: Sample) -> Problem:
    return Problem(str(sample.path), "no-volume", "its task gave no volume", "build again")


def duplicates(plan: Plan, results: Mapping[str, Result]) -> tuple[dict[str, Problem], list[Problem]]:
    """Sources of equal bytes: both quarantined where their labels differ, else a warning."""
    same = defaultdict(list)
    for sample in plan.samples:
        entry = results[sample.source].entry
        if entry.source_sha256 and entry.problem is None:
            same[entry.source_sha256].append(sample)
    contradicting, warnings = {}, []
    for twins in same.values():
        names = ", ".join(sample.source for sample in twins)
        if len({sample.label for sample in twins}) > 1:
            for sample in twins:
                reason = f"the same bytes have several labels: {names}"
                contradicting[sample.source] = Problem(
                    str(sample.path),
                    "duplicate-content",
                    reason,
                    "find the right label, remove the other file",
                )
        elif len(twins) > 1:
            groups = (
                " in several groups, so that a split may leak" if len({s.group for s in twins}) > 1 else ""
            )
            reason = f"the same bytes under {len(twins)} names{groups}: {names}"
            warnings.append(Problem(str(twins[0].path), "duplicate-content", reason, "keep one of them"))
    return contradicting, warnings


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
