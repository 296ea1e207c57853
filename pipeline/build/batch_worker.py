"""What a Dask worker does with a batch of jobs, and how its results come back.

They are not kept by the worker until somebody asks, as Dask does with results, because a worker that is
stopped does not answer: they are sent as an event, which arrives before the news that the batch is done.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from distributed import get_worker
from distributed.protocol.pickle import dumps, loads

from pipeline.build.jobs import Job, Outcome
from pipeline.build.watchdog import Limits, limited

TOPIC = "viptt-results"


def work_on(number: int, work: Callable[[Any], Any], jobs: Sequence[Job], limits: Limits | None) -> None:
    """``work(job)`` for each job of a batch in a worker, which a bad source may end; its trace tells how."""
    results = []
    for job in jobs:
        with limited(limits, job.trace) if limits else nullcontext():
            results.append(work(job))
    get_worker().log_event(TOPIC, (number, dumps(tuple(results))))


def outcome_of(event: tuple[float, tuple[int, bytes]]) -> Outcome:
    """The outcome that such an event tells of; only the cluster's own workers can send one."""
    number, results = event[1]
    return Outcome(number, loads(results))
