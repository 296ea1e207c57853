"""The pipeline: plan, convert on Dask, publish. The only file that knows Dask.

One source is one task; each worker runs one at a time, so that its death is a matter between the two,
and what comes back is small. The rows of the store are known when all tasks are done, because a quarantined
source has no row.
"""

import hashlib
import json
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import dask
from dask.utils import parse_bytes
from distributed import Client, LocalCluster, Status, system
from distributed.scheduler import KilledWorker
from distributed.utils import get_mp_context
from threadpoolctl import threadpool_limits

from pipeline import __version__
from pipeline.catalog import NiftiDataset, VideoDataset
from pipeline.errors import ConfigError, Problem, ResourceError, TooManyBadError
from pipeline.isolation import (
    CAN_FORK,
    TRIES,
    Limits,
    cause_of_death,
    crash,
    explained,
    signals_later,
    start_fork_server,
)
from pipeline.quarantine import Quarantined, read_quarantine, write_quarantine
from pipeline.read_ahead import read_ahead
from pipeline.samples import Listing, Sample, list_samples
from pipeline.staging import Entry, Staging, open_staging, publish_changes, published, read_entry, remove
from pipeline.store import Header, Row, Store, canonical_json
from pipeline.task import Known, Result, Task, process, process_limited

REPLACE_SECONDS = 2.0
TASKS_HELD = 2  # by a worker: it need not wait for word to go back and forth, and loses little when it dies
VERSIONS = ("numpy", "scipy", "nibabel", "opencv-python-headless", "zarr")


@dataclass(frozen=True)
class Options:
    """How to build. ``scheduler`` is local, threads, sync, or the address of a Dask scheduler.

    ``timeout`` (seconds for one source) and ``memory`` (of one worker, such as "4GB") hold where
    workers are processes of this machine: a source that breaks them is quarantined.
    """

    workers: int = 1
    scheduler: str = "local"
    limit: int | None = None
    max_bad: float = 1.0
    allow_missing: bool = False
    timeout: float = 600.0
    memory: str = "auto"

    @property
    def remote(self) -> bool:
        """Whether a cluster at an address does the work."""
        return "://" in self.scheduler

    @property
    def memory_limit(self) -> int:
        """Bytes of memory of one worker process; "auto" shares the machine's among them."""
        if self.memory == "auto":
            return int(system.MEMORY_LIMIT) // self.workers
        return parse_bytes(self.memory)


@dataclass(frozen=True)
class Plan:
    """What a build is going to do, known before any source is read."""

    dataset: NiftiDataset | VideoDataset
    listing: Listing
    samples: tuple[Sample, ...]
    header: Header

    @property
    def source_bytes(self) -> int:
        """Bytes of all sources, on disk."""
        return sum(sample.path.stat().st_size for sample in self.samples if sample.path.is_file())

    @property
    def store_bytes(self) -> int:
        """Bytes of the volumes of the store, if no source is bad."""
        return self.header.volume_bytes * len(self.samples)


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


def make_plan(dataset: NiftiDataset | VideoDataset, options: Options) -> Plan:
    """List the samples and describe the store. Raises ConfigError."""
    listing = list_samples(dataset, allow_missing=options.allow_missing)
    header = Header(dataset.name, dataset.recipe_json, dataset.class_names, created_with())
    return Plan(dataset, listing, listing.samples[: options.limit], header)


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
        results = _convert_all(_tasks(plan, staging, previous), options, report)
        rows, chunks, quarantined, more = _collect(plan, results)
        _check_bad(plan, rows, quarantined, options.max_bad)
        digest, changed = publish_changes(staging, target, previous, plan.header, rows, chunks)
        write_quarantine(plan.dataset.quarantine_file, quarantined)
        remove(staging)
    return Summary(
        plan=plan,
        digest=digest,
        samples=len(rows),
        converted=sum(result.chunk is not None and not result.reused for result in results),
        reused=sum(result.chunk is not None and result.reused for result in results),
        quarantined=quarantined,
        warnings=(*plan.listing.warnings, *warnings, *more),
        published=changed,
        seconds=time.perf_counter() - start,
        source_bytes=sum(result.source_bytes for result in results),
    )


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan, for scripts."""
    return {
        "dataset": plan.dataset.name,
        "store": str(plan.dataset.store),
        "samples": len(plan.samples),
        "source_bytes": plan.source_bytes,
        "store_bytes": plan.store_bytes,
        "left_out": dict(plan.listing.left_out),
    }


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


def created_with() -> dict[str, str]:
    """Versions of what decides the bytes of a volume."""
    return {"viptt": __version__, **{name: version(name) for name in VERSIONS}}


# --- plan ---------------------------------------------------------------------------------------


def _tasks(plan: Plan, staging: Staging, previous: Store | None) -> Iterator[Task]:
    recipe_sha256 = hashlib.sha256(canonical_json(plan.header.recipe)).hexdigest()
    known = _known_before(plan, previous, recipe_sha256)
    for sample in plan.samples:
        journal, chunk = staging.journal(sample.source), staging.chunk(sample.source)
        entry = read_entry(journal)
        yield Task(
            source=sample.source,
            path=sample.path,
            recipe=plan.dataset.recipe,
            recipe_sha256=recipe_sha256,
            volume_bytes=plan.header.volume_bytes,
            chunk=chunk,
            journal=journal,
            known=(
                *known[sample.source],
                *([Known(entry, None if entry.problem else chunk)] if entry else []),
            ),
            wanted_sha256=sample.sha256,
        )


def _known_before(plan: Plan, previous: Store | None, recipe_sha256: str) -> Mapping[str, list[Known]]:
    """What the published store and its quarantine say of each source, under the same recipe."""
    known: defaultdict[str, list[Known]] = defaultdict(list)
    if previous is None or previous.header.recipe != plan.header.recipe:
        return known
    for index, row in enumerate(previous.rows):
        entry = Entry(row.source, row.source_sha256, recipe_sha256, row.sha256, row.facts)
        known[row.source].append(Known(entry, previous.chunk(index)))
    if (
        previous.header.created_with == plan.header.created_with
    ):  # another version may read what this one refused
        for item in read_quarantine(plan.dataset.quarantine_file):
            entry = Entry(item.source, item.source_sha256, recipe_sha256, "", "{}", item.problem)
            known[item.source].append(Known(entry, None))
    return known


# --- run ----------------------------------------------------------------------------------------


def _convert_all(tasks: Iterable[Task], options: Options, report: Report) -> list[Result]:
    results = []
    for result in run_tasks(tasks, options):
        results.append(result)
        report(result)
    return results


def run_tasks(tasks: Iterable[Task], options: Options) -> Generator[Result, None, None]:
    """Results in the order in which they come; a worker has one task under way, and one that waits."""
    if options.scheduler == "sync":
        with threadpool_limits(1):
            yield from map(process, read_ahead(tasks))
        return
    limits = Limits(options.timeout, options.memory_limit) if options.scheduler == "local" else None
    finished = SimpleQueue[Any]()
    with signals_later(lambda: finished.put(None)), _client(options) as client:
        waiting = iter(tasks) if options.remote else read_ahead(tasks)
        tries: Counter[str] = Counter()
        in_flight: dict[Any, Task] = {}

        def submit(task: Task) -> None:
            future = (
                client.submit(process_limited, task, limits, pure=False)
                if limits
                else client.submit(process, task, pure=False)
            )
            in_flight[future] = task
            future.add_done_callback(finished.put)

        # There, one that only waited would be blamed for a death, too.
        held = 1 if options.remote else TASKS_HELD
        for task in islice(waiting, held * sum(client.nthreads().values())):
            submit(task)
        while in_flight:
            future = finished.get()
            if future is None:  # a signal came
                raise KeyboardInterrupt
            task = in_flight.pop(future)
            result = _result(future, task, limits, tries)
            if result is None:
                submit(task)
                continue
            yield result
            for successor in islice(waiting, 1):
                submit(successor)


def _result(future: Any, task: Task, limits: Limits | None, tries: Counter[str]) -> Result | None:
    """A task's result, or nothing if it is worth another try: its worker died, perhaps not of it."""
    try:
        result: Result = future.result()
    except KilledWorker:
        if limits is None:  # of somebody else's cluster, which has tried more than one
            return _lost(task, crash(task.path, "several workers of the cluster died over it"))
        problem = cause_of_death(task.path, task.trace, limits)
        if problem is None:
            return None
        tries[task.source] += TRIES if explained(task.trace) else 1
        task.trace.unlink()  # or the next worker's death, before it comes to this source, counts as well
        return None if tries[task.source] < TRIES else _lost(task, problem)
    return result


def _lost(task: Task, problem: Problem) -> Result:
    return Result(Entry(task.source, "", task.recipe_sha256, "", "{}", problem), None, False, 0)


@contextmanager
def _client(options: Options) -> Iterator[Any]:
    """A client of an embedded cluster on this machine, or of the cluster at an address."""
    if options.remote:
        with _connected(options.scheduler) as client:
            yield client
        return
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.multiprocessing-method": "forkserver" if CAN_FORK else "spawn",
        "distributed.admin.tick.limit": "1h",
        "distributed.deploy.lost-worker-timeout": "10s",  # then a worker that did not come back is replaced
    }
    with (
        dask.config.set(settings),
        threadpool_limits(1 if options.scheduler == "threads" else None),
        _silent(),
        _cluster(options) as cluster,
        Client(cluster) as client,
        _replacing_lost(cluster),
    ):
        yield client


@contextmanager
def _silent() -> Iterator[None]:
    """Hold back Dask's log until the block has ended; its own `silence_logs` ends while a cluster closes."""
    log = logging.getLogger("distributed")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _cluster(options: Options) -> Any:
    """An embedded cluster: processes of one thread each, or one process of threads; loopback only."""
    threads = options.scheduler == "threads"
    if CAN_FORK and not threads:
        get_mp_context().set_forkserver_preload(["distributed", "pipeline.task"])
        start_fork_server()
    try:
        return LocalCluster(
            n_workers=1 if threads else options.workers,
            threads_per_worker=options.workers if threads else 1,
            processes=not threads,
            host=None if threads else "127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=options.memory_limit,
            silence_logs="CRITICAL",
        )
    except RuntimeError as error:
        raise ResourceError.of(
            "workers", "no-workers", str(error), "run again; check the memory left"
        ) from error


@contextmanager
def _replacing_lost(cluster: Any) -> Iterator[None]:
    """Ask for lost workers from time to time: a nanny gives up on a worker that is killed while it starts."""
    wanted, ended = len(cluster.worker_spec), threading.Event()

    def ask() -> None:
        while not ended.wait(REPLACE_SECONDS):
            for name, nanny in list(cluster.workers.items()):
                if nanny.status in (Status.closed, Status.failed):
                    cluster.workers.pop(name, None)
            cluster.scale(wanted)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise ConfigError.of(
            address, "no-scheduler", str(error), "start the Dask scheduler, or correct it"
        ) from error
    with client:
        if not client.nthreads():
            raise ResourceError.of(address, "no-workers", "the cluster has no workers", "start some")
        yield client


# --- publish ------------------------------------------------------------------------------------

_Collected = tuple[tuple[Row, ...], tuple[Path, ...], tuple[Quarantined, ...], tuple[Problem, ...]]


def _collect(plan: Plan, results: list[Result]) -> _Collected:
    """Rows (sorted by id) with their chunks, the quarantine, and what is doubtful about good sources."""
    by_source = {result.entry.source: result for result in results}
    quarantined = list(plan.listing.unmatched)
    contradicting, warnings = _duplicates(plan, by_source)
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


def _duplicates(plan: Plan, results: Mapping[str, Result]) -> tuple[dict[str, Problem], list[Problem]]:
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


def _check_bad(
    plan: Plan, rows: tuple[Row, ...], quarantined: tuple[Quarantined, ...], max_bad: float
) -> None:
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
