"""The pipeline: plan, convert, publish.

One source is one task, so that a crash is attributable to one source. The rows of the store are known when
all tasks are done, because a quarantined source has no row.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.build.collect import check_bad, collect
from pipeline.build.dry_run import recipe_changes
from pipeline.build.execute import run_jobs
from pipeline.build.options import Options
from pipeline.build.plan import Plan, earlier_results, plan_json, recipe_hash
from pipeline.build.reuse import unfinished_result
from pipeline.build.staging import Staging, open_staging, remove
from pipeline.build.versions import created_with
from pipeline.build.worker import Result, Task, process
from pipeline.errors import Problem
from pipeline.sources import Quarantined, write_quarantine
from pipeline.store import Store
from pipeline.store.publish import publish_changes, published
from pipeline.store.throughput import Throughput, write_throughput


@dataclass(frozen=True)
class Summary:
    """What a build did."""

    plan: Plan
    digest: str
    samples: int
    converted: int
    reused: int
    quarantined: tuple[Quarantined, ...]
    warnings: tuple[Problem, ...]
    published: bool
    seconds: float
    source_bytes: int


Report = Callable[[Result], None]


def build(plan: Plan, options: Options, *, report: Report = lambda result: None) -> Summary:
    """Make the store that the plan describes, or find that it is there already.

    ``report`` is called after each source. Raises TooManyBadError when more than the fraction
    ``options.max_bad`` of the sources is bad, BusyError, ResourceError, ConfigError; then the
    published store, if any, is as it was, and the work done so far is kept for the next build.
    """
    start = time.perf_counter()
    target = plan.dataset.store.resolve()
    with open_staging(target) as staging:
        previous, warnings = published(target)
        results = _convert_all(make_tasks(plan, staging, previous), options, report)
        rows, chunks, quarantined, more = collect(plan, results)
        check_bad(plan, rows, quarantined, options.max_bad)
        header = replace(plan.header, created_with=created_with(row.made_with for row in rows))
        digest, changed = publish_changes(staging.root, target, previous, header, rows, chunks)
        write_quarantine(plan.dataset.quarantine_file, quarantined)
        summary = Summary(
            plan=plan,
            digest=digest,
            samples=len(rows),
            converted=sum(len(result.chunks) for result in results if not result.reused),
            reused=sum(len(result.chunks) for result in results if result.reused),
            quarantined=quarantined,
            warnings=(*plan.listing.warnings, *warnings, *more),
            published=changed,
            seconds=time.perf_counter() - start,
            source_bytes=sum(result.source_bytes for result in results),
        )
        if changed:
            _note_throughput(summary, options, staging)
        remove(staging)
    return summary


def _note_throughput(summary: Summary, options: Options, staging: Staging) -> None:
    numbers = (summary.converted, summary.reused, summary.source_bytes, summary.seconds, options.workers)
    found = Throughput(summary.digest, *numbers)
    # Staged like a chunk: whatever a kill leaves of it, the next build removes.
    write_throughput(summary.plan.dataset.throughput_file, found, staged=staging.chunk("throughput"))


def summary_json(summary: Summary) -> dict[str, Any]:
    """A summary, for scripts."""
    return {
        **plan_json(summary.plan),
        "samples": summary.samples,
        "digest": summary.digest,
        "converted": summary.converted,
        "reused": summary.reused,
        "published": summary.published,
        "seconds": round(summary.seconds, 3),
        "quarantined": [{"source": item.source, **asdict(item.problem)} for item in summary.quarantined],
        "warnings": [asdict(problem) for problem in summary.warnings],
    }


def _convert_all(tasks: Iterable[Task], options: Options, report: Report) -> list[Result]:
    results = []
    for result in run_jobs(tasks, options, process):
        results.append(result)
        report(result)
    return results


def make_tasks(plan: Plan, staging: Staging, previous: Store | None) -> Iterator[Task]:
    """One task for each sample, with what earlier builds made of its source."""
    recipe_sha256 = recipe_hash(plan.header.recipe)
    earlier = earlier_results(plan, previous)
    chunk_bytes = plan.header.chunk_bytes
    for sample in plan.samples:
        chunk, journal = staging.chunk(sample.source), staging.journal(sample.source)
        unfinished = unfinished_result(staging, sample.source, chunk_bytes)
        yield Task(
            source=sample.source,
            path=sample.path,
            recipe=plan.dataset.recipe,
            recipe_sha256=recipe_sha256,
            chunk=chunk,
            journal=journal,
            earlier=(*earlier.get(sample.source, ()), *filter(None, [unfinished])),
            wanted_sha256=sample.sha256,
            listed=sample.listed,
        )


# --- for people ---------------------------------------------------------------------------------


def plan_lines(plan: Plan) -> Iterator[str]:
    """What a build is going to do."""
    name, recipe = plan.dataset.name, plan.header.recipe
    shape = " x ".join(map(str, plan.header.shape))
    yield (
        f"{name}: {len(plan.samples)} sources, {size_text(plan.source_bytes)} → {plan.dataset.store}, "
        f"{'pictures' if plan.header.pictures else 'volumes'} {shape} {recipe['dtype']}"
        f"{'' if plan.store_bytes is None else f', {size_text(plan.store_bytes)}'}"
    )
    yield from (f"{name}: {line}" for line in plan.listing.not_used())
    store, _ = published(plan.dataset.store.resolve())
    changes = recipe_changes(plan, store) if store else []
    if changes:
        yield f"{name}: replaces a store of another recipe ({'; '.join(changes)})"


def summary_lines(summary: Summary) -> Iterator[str]:
    """What a build did."""
    name = summary.plan.dataset.name
    if summary.published:
        rate = summary.source_bytes / summary.seconds / 1e6
        yield (
            f"{name}: {summary.samples} samples in {summary.seconds:.1f} s, {rate:.1f} MB/s of sources; "
            f"{summary.converted} converted, {summary.reused} kept from before"
        )
    else:
        yield f"{name}: nothing to do, {summary.samples} samples are up to date ({summary.seconds:.1f} s)"
    if summary.quarantined:
        where = summary.plan.dataset.quarantine_file
        yield f"{name}: {len(summary.quarantined)} sources quarantined, listed in {where}"


def size_text(count: float) -> str:
    """Bytes for people: 14.1 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
