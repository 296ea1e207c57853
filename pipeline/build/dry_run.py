"""What a build would do, without doing it: which volumes it would convert, keep and remove, and why."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pipeline.build.plan import Plan, earlier_results, plan_json, recipe_hash
from pipeline.build.reuse import Earlier, Key, difference
from pipeline.errors import SourceError
from pipeline.readers.content import signatures
from pipeline.readers.reading import SourceType
from pipeline.sources import Sample
from pipeline.store import Store
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
    """Compare a plan with what is published. Reads every source once, for its hash, but no volume."""
    store, _ = published(plan.dataset.store.resolve())
    earlier = earlier_results(plan, store)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = list(pool.map(partial(_hash, plan.dataset.source_type), plan.samples))
    recipe_sha256, converter = recipe_hash(plan.header.recipe), plan.dataset.source_type.converter
    reasons = Counter(
        _reason(earlier.get(sample.source, []), Key(sha256, recipe_sha256, converter))
        for sample, sha256 in zip(plan.samples, hashes, strict=True)
    )
    quarantined, keep = reasons.pop(REFUSED, 0), reasons.pop(KEPT, 0)
    there = {name for sample in plan.samples for name in (sample.source, sample.id)}
    gone = tuple(row.id for row in store.rows if (row.stack or row.source) not in there) if store else ()
    return Preview(dict(reasons), keep, quarantined, gone)


def _reason(earlier: Sequence[Earlier], key: Key) -> str:
    """Why a source has to be converted, or that it has not."""
    for result in earlier:
        return difference(result.entry, key) or (REFUSED if result.entry.problem else KEPT)
    return "new"


def _hash(source: SourceType, sample: Sample) -> str:
    try:
        signatures(source.files(sample.origin))
        return source.hash(sample.origin)
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
