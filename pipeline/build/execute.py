"""Run jobs: in this process, on threads or processes of this machine, or on a Dask cluster.

One loop serves everything that reads sources: builds, repairs, new files, and the deep check. It never
waits without a limit: every second it looks after its workers.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import nullcontext
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from pipeline.build.jobs import Job
from pipeline.build.options import Options
from pipeline.build.pools import Pool, WorkerLostError, open_pool
from pipeline.build.read_ahead import read_ahead
from pipeline.build.watchdog import TRIES, cause_of_end, crash, explained, signals_later
from pipeline.errors import Problem

TICK_SECONDS = 1.0
MAX_UNANSWERED = 5  # times that a job's answer may be lost with a worker that did nothing wrong

Found = TypeVar("Found")


def run_jobs(
    jobs: Iterable[Job], options: Options, work: Callable[[Any], Found]
) -> Generator[Found, None, None]:
    """``work(job)`` for each job, in the order in which results come.

    ``work`` is a function of a module, so that it can be sent to a process. A job whose worker ends is tried
    again once, on another worker: it may have been killed from outside.
    """
    if options.scheduler == "sync":
        with threadpool_limits(1):
            for job in read_ahead(jobs):
                yield work(job)
        return
    finished = SimpleQueue[Any]()
    # Dask does not survive an exception at any moment; threads of ours do.
    threads = options.scheduler == "threads"
    signals = nullcontext() if threads else signals_later(lambda: finished.put(None))
    with signals, open_pool(options) as pool:
        waiting = iter(jobs) if options.remote else read_ahead(jobs)
        tries: Counter[str] = Counter()
        under_way: dict[Any, Job] = {}

        def submit(job: Job) -> None:
            future = pool.submit(work, job)
            under_way[future] = job
            future.add_done_callback(finished.put)

        for job in islice(waiting, pool.slots):
            submit(job)
        while under_way:
            future = _next_finished(finished, pool)
            job = under_way.pop(future)
            try:
                result = pool.answer(future)
            except WorkerLostError:
                problem = _blame(job, pool, tries)
                if problem is None:
                    submit(job)
                    continue
                result = job.lost(problem)
            yield result
            for successor in islice(waiting, 1):
                submit(successor)


def _next_finished(finished: "SimpleQueue[Any]", pool: Pool) -> Any:
    """The next future that is done. Raises KeyboardInterrupt when a signal came."""
    while True:
        pool.tend()
        try:
            future = finished.get(timeout=TICK_SECONDS)
        except Empty:
            continue
        if future is None:
            raise KeyboardInterrupt
        return future


def _blame(job: Job, pool: Pool, tries: Counter[str]) -> Problem | None:
    """Why a job has no result; nothing if it is worth another try: its worker ended, perhaps not of it."""
    if pool.limits is None:  # of somebody else's cluster, which has tried more than one
        return crash(job.path, "several workers of the cluster ended over it")
    problem = cause_of_end(job.path, job.trace, pool.limits)
    if problem is None:
        tries[f"unanswered {job.source}"] += 1
        lost = tries[f"unanswered {job.source}"] > MAX_UNANSWERED
        return crash(job.path, "its worker ended again and again") if lost else None
    tries[job.source] += TRIES if explained(job.trace) else 1
    job.trace.unlink()  # or the next worker's end, before it comes to this source, counts as well
    return None if tries[job.source] < TRIES else problem
