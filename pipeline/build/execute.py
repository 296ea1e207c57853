"""Run jobs: in this process, on threads or processes of this machine, or on a Dask cluster.

One loop serves everything that reads sources: builds, repairs, new files, and the deep check. It never
waits without a limit: several times a second it looks after its workers.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from pipeline.build.batches import Waiting
from pipeline.build.jobs import Job, Outcome, WorkerLostError
from pipeline.build.options import Options
from pipeline.build.pools import Pool, open_pool
from pipeline.build.read_ahead import read_ahead
from pipeline.build.watchdog import TRIES, cause_of_end, crash, explained
from pipeline.errors import Problem
from pipeline.signals import signals_later

TICK_SECONDS = 0.1
MAX_UNANSWERED = 20  # times that a job may be lost with a worker that did not end over it

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
    outcomes = SimpleQueue[Outcome | None]()
    with signals_later(lambda: outcomes.put(None)), open_pool(options, outcomes.put) as pool:
        run = _Run(jobs if options.remote else read_ahead(jobs), work, pool)
        while run.goes_on():
            outcome = _next_outcome(outcomes, pool)
            if outcome is not None:
                yield from run.results(outcome)


def _next_outcome(outcomes: "SimpleQueue[Outcome | None]", pool: Pool) -> Outcome | None:
    """What came next; nothing, if nothing came for a moment. Raises KeyboardInterrupt after a signal."""
    pool.tend()
    try:
        outcome = outcomes.get(timeout=TICK_SECONDS)
    except Empty:
        return None
    if outcome is None:
        raise KeyboardInterrupt
    return outcome


class _Run:
    """Jobs on their way through a pool."""

    def __init__(self, jobs: Iterable[Job], work: Callable[[Any], Any], pool: Pool) -> None:
        self._waiting, self._work, self._pool = Waiting(jobs, pool.most), work, pool
        self._numbers = count()
        self._under_way: dict[int, list[Job]] = {}
        self._losses: Counter[str] = Counter()  # of workers that ended while they worked on a source
        self._unanswered: Counter[str] = Counter()  # of workers that held a source beside another one

    def goes_on(self) -> bool:
        """Give the workers as much as they may hold; whether there is anything to wait for."""
        while len(self._under_way) < self._pool.slots and self._waiting:
            number, batch = next(self._numbers), self._waiting.take()
            self._under_way[number] = batch
            self._pool.submit(number, self._work, batch)
        return bool(self._under_way or self._waiting)

    def results(self, outcome: Outcome) -> Iterator[Any]:
        """Results of a batch; jobs that are worth another try wait again."""
        batch = self._under_way.pop(outcome.batch, None)
        if batch is None:  # its results came before its worker was lost
            return
        if outcome.error is None:
            yield from outcome.results
        elif not isinstance(outcome.error, WorkerLostError):
            raise outcome.error
        else:
            for job in batch:
                problem = self._blame(job) if self._pool.limits else self._blame_far(batch)
                if problem is None:
                    self._waiting.put_back(job)
                else:
                    yield job.lost(problem)

    def _blame(self, job: Job) -> Problem | None:
        """Why a job has no result; nothing if it is worth another try: perhaps it was not the cause."""
        assert self._pool.limits is not None
        problem = cause_of_end(job.path, job.trace, self._pool.limits)
        if problem is None:
            self._unanswered[job.source] += 1
            often = self._unanswered[job.source] > MAX_UNANSWERED
            return crash(job.path, "its worker ended again and again") if often else None
        self._losses[job.source] += TRIES if explained(job.trace) else 1
        job.trace.unlink()  # or the next worker's end, before it comes to this source, counts as well
        return problem if self._losses[job.source] >= TRIES else None

    def _blame_far(self, batch: list[Job]) -> Problem | None:
        """As above for somebody else's cluster, which has tried several workers and tells no more."""
        if len(batch) > 1:
            return None
        return crash(batch[0].path, "several workers of the cluster ended over it")
