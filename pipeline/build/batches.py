"""Which jobs go to a worker together: one large source, or many small ones."""

import os
from collections import deque
from collections.abc import Iterable
from itertools import islice

from pipeline.build.jobs import Job

MAX_BYTES = 2 << 20  # of the sources of one batch: about a second of work
GROWTH = 8  # batches until the next ones may be twice as large: few jobs are shared among all workers


class Waiting:
    """The jobs that no worker has yet; they are given out at most ``most`` at a time."""

    def __init__(self, jobs: Iterable[Job], most: int) -> None:
        self._jobs, self._most = iter(jobs), most
        self._first: deque[Job] = deque()  # taken from the others, and found too large for their batch
        self._again: deque[Job] = deque()
        self._given = 0

    def put_back(self, job: Job) -> None:
        """Try a job again, alone: if it ends its worker, no other job is lost with it."""
        self._again.append(job)

    def __bool__(self) -> bool:
        """Whether a job is left."""
        if not self._again and not self._first:
            self._first.extend(islice(self._jobs, 1))
        return bool(self._again or self._first)

    def take(self) -> list[Job]:
        """The next batch, empty if no job is left."""
        if self._again:
            return [self._again.popleft()]
        most = min(self._most, 2 ** min(self._given // GROWTH, self._most))
        self._given += 1
        batch: list[Job] = []
        nbytes = 0
        while len(batch) < most and (job := self._next()) is not None:
            nbytes += _size(job)
            if batch and nbytes > MAX_BYTES:
                self._first.append(job)
                break
            batch.append(job)
        return batch

    def _next(self) -> Job | None:
        return self._first.popleft() if self._first else next(self._jobs, None)


def _size(job: Job) -> int:
    """Bytes of a source; one that cannot be asked for goes alone."""
    try:
        return os.stat(job.path).st_size  # noqa: PTH116 - of a link, its target
    except (OSError, ValueError):
        return MAX_BYTES
