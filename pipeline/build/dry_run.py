"""What a build would do, without doing it: which volumes it would convert, keep and remove, and why."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pipeline.build.plan import Plan, plan_json
from pipeline.build.reuse import RETRIED
from pipeline.build.versions import converter_of
from pipeline.errors import SourceError
from pipeline.readers.content import signatures
from pipeline.readers.reading import SourceType
from pipeline.sources import Quarantined, Sample, read_quarantine
from pipeline.store import Row, Store
from pipeline.store.publish import published

REFUSED = "quarantined before"
KEPT = ""


@dataclass(frozen=True)
class Preview:
    """``convert`` is reason → number of sources, ``keep`` counts volumes, ``remove`` names rows' ids."""

    convert: Mapping[str, int]
    keep: int
    quarantined: int
    remove: tuple[str, ...]


def recipe_changes(plan: Plan, store: Store) -> list[str]:
    """How the plan's recipe differs from a published store's, a text for each parameter."""
    new, old = plan.header.recipe, store.header.recipe
    changed = [key for key in sorted({*new, *old}) if new.get(key) != old.get(key)]
    return [f"{key}: {old.get(key)} → {new.get(key)}" for key in changed]


def preview(plan: Plan) -> Preview:
    """Compare a plan with what is published. Reads every source once, for its hash."""
    store, _ = published(plan.dataset.store.resolve())
    rows = {row.source: row for row in store.rows} if store else {}
    refused = {item.source: item for item in read_quarantine(plan.dataset.quarantine_file)} if store else {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = list(pool.map(partial(_hash, plan.dataset.source_type), plan.samples))
    reasons = Counter(
        REFUSED
        if _still_refused(refused.get(sample.source), sha256)
        else _reason(plan, store, rows.get(sample.source), sha256)
        for sample, sha256 in zip(plan.samples, hashes, strict=True)
    )
    quarantined, keep = reasons.pop(REFUSED, 0), reasons.pop(KEPT, 0)
    there = {sample.source for sample in plan.samples}
    gone = tuple(row.id for row in rows.values() if row.source not in there)
    return Preview(dict(reasons), keep, quarantined, gone)


def _still_refused(item: Quarantined | None, sha256: str) -> bool:
    return item is not None and item.source_sha256 == sha256 and item.problem.code not in RETRIED


def _reason(plan: Plan, store: Store | None, row: Row | None, sha256: str) -> str:
    """Why a source has to be converted; "" if its volume can be kept."""
    if store is None or row is None:
        return "new"
    if store.header.recipe != plan.header.recipe:
        return "another recipe"
    if row.source_sha256 != sha256:
        return "other content"
    return KEPT if converter_of(row.made_with) == plan.dataset.source_type.converter else "another converter"


def _hash(source: SourceType, sample: Sample) -> str:
    try:
        signatures(source.files(sample.path))
        return source.hash(sample.path)
    except SourceError:
        return ""


def preview_json(plan: Plan, found: Preview) -> dict[str, Any]:
    """What would be done, for scripts."""
    return {**plan_json(plan), **asdict(found)}


def preview_lines(plan: Plan, found: Preview) -> Iterator[str]:
    """What would be done, for people."""
    total = sum(found.convert.values())
    why = ", ".join(f"{count} {reason}" for reason, count in found.convert.items())
    counts = f"{found.keep} to keep, {len(found.remove)} to remove"
    yield f"{plan.dataset.name}: {total} to convert{f' ({why})' if why else ''}, {counts}"
    if found.remove:
        more = " …" if len(found.remove) > 5 else ""
        yield f"  to remove, no longer among the sources: {', '.join(found.remove[:5])}{more}"
    if found.quarantined:
        yield f"  {found.quarantined} stay in quarantine, unchanged"
