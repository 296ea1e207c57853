"""Where jobs run: threads of this process, worker processes under Dask, or somebody's Dask cluster.

The local cluster speaks TLS with a certificate made for it alone, so that no other user of the machine can
give it work; it has no dashboard, and its HTTP servers answer nothing. Threads need no server at all.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Protocol
from weakref import WeakSet

import dask
from distributed import Client, LocalCluster, Nanny, Status
from distributed.scheduler import KilledWorker
from distributed.security import Security
from distributed.utils import get_mp_context
from threadpoolctl import threadpool_limits

from pipeline.build.batch_worker import TOPIC, outcome_of, work_on
from pipeline.build.jobs import Job, Outcome, WorkerLostError
from pipeline.build.options import Options
from pipeline.build.watchdog import CAN_FORK, Limits, start_fork_server
from pipeline.errors import ConfigError, ResourceError

TEND_SECONDS = 1.0
START_SECONDS = 60.0  # without any worker, or without the scheduler, until there is no hope
WORKER_START_SECONDS = 20.0  # of one worker among others, before another one is started instead
ANSWER_SECONDS = 20.0  # for results to come after the news that their batch is done
GRACE_SECONDS = 5.0  # after the time limit that a worker enforces on itself
END_SECONDS = 5.0  # for a pool to close
KILL_SECONDS = 0.02
BATCHES_HELD = 2  # by a local worker: it need not wait for the next one, and loses little when it ends
SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.multiprocessing-method": "forkserver" if CAN_FORK else "spawn",
    "distributed.admin.tick.limit": "1h",
    # Nobody looks at what Dask measures of itself, many times a second.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "1m",
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.worker-ttl": None,  # `LocalPool.tend` has a clock of its own
    "distributed.deploy.lost-worker-timeout": "10s",  # then a worker that did not come back is replaced
}

Tell = Callable[[Outcome], object]


class Pool(Protocol):
    """Workers. ``limits`` is what one job may use, if it is enforced; ``most`` how many jobs a batch has."""

    limits: Limits | None
    most: int

    @property
    def slots(self) -> int:
        """How many batches the workers that are there may hold."""

    def submit(self, number: int, work: Callable[[Any], Any], batch: list[Job]) -> None:
        """Have ``work(job)`` done for each job of a batch; its outcome is told, perhaps more than once."""

    def tend(self) -> None:
        """Look after the workers; called several times a second. Raises ResourceError."""


@contextmanager
def open_pool(options: Options, tell: Tell) -> Iterator[Pool]:
    """The workers that the options ask for; they are gone when the block has ended."""
    if options.remote:
        with _connected(options.scheduler) as client:
            yield RemotePool(client, tell)
    elif options.scheduler == "threads":
        with threadpool_limits(1), closing(ThreadPool(options.workers, tell)) as threads:
            yield threads
    else:
        with _local_pool(options, tell) as pool:
            yield pool


class ThreadPool:
    """Threads of this process. They end with it: a decoder that hangs does not hold it."""

    limits: Limits | None = None
    most = 1

    def __init__(self, workers: int, tell: Tell) -> None:
        self.slots = workers
        self._tell = tell
        self._batches = SimpleQueue[tuple[int, Callable[[Any], Any], list[Job]] | None]()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, number: int, work: Callable[[Any], Any], batch: list[Job]) -> None:
        """See Pool."""
        self._batches.put((number, work, batch))

    def tend(self) -> None:
        """Threads need no care."""

    def close(self) -> None:
        """Let the threads finish what they are at, but wait only a moment for it."""
        with suppress(Empty):
            while True:
                self._batches.get_nowait()
        for _ in self._threads:
            self._batches.put(None)
        deadline = time.monotonic() + END_SECONDS
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))

    def _serve(self) -> None:
        while (item := self._batches.get()) is not None:
            number, work, batch = item
            try:
                self._tell(Outcome(number, tuple(work(job) for job in batch)))
            except BaseException as error:  # noqa: BLE001 - raised again by the executor
                self._tell(Outcome(number, error=error))


class _ClusterPool:
    """Workers of a Dask cluster, whoever looks after it."""

    limits: Limits | None = None
    most = 32  # a message to a worker and its answer cost more than a small source

    def __init__(self, client: Client, tell: Tell) -> None:
        self._client, self._tell = client, tell
        self._futures: dict[int, Any] = {}  # Dask drops a task when nobody holds its future
        self._done_since: dict[int, float] = {}
        self._batches: dict[object, list[Job]] = {}
        client.subscribe_topic(TOPIC, lambda event: tell(outcome_of(event)))

    def submit(self, number: int, work: Callable[[Any], Any], batch: list[Job]) -> None:
        """See Pool."""
        future = self._client.submit(work_on, number, work, batch, self.limits, pure=False)
        self._futures[number] = future
        self._batches[future.key] = batch
        future.add_done_callback(partial(self._done, number))

    def _done(self, number: int, future: Any) -> None:
        """Tell how a batch ended, if it ended without results."""
        self._futures.pop(number, None)
        self._batches.pop(future.key, None)
        if future.status == "error":
            error = future.exception()
            lost = isinstance(error, KilledWorker)
            self._tell(Outcome(number, error=WorkerLostError() if lost else error))
        elif future.status == "cancelled":  # the scheduler itself was lost
            self._tell(Outcome(number, error=WorkerLostError()))
        else:
            self._done_since[number] = time.monotonic()

    def _tell_unanswered(self) -> None:
        """Give up on results that have not come although their batch is done; late news are ignored."""
        now = time.monotonic()
        for number, since in list(self._done_since.items()):
            if now - since > ANSWER_SECONDS:
                del self._done_since[number]
                self._tell(Outcome(number, error=WorkerLostError()))


class RemotePool(_ClusterPool):
    """Workers of a cluster that somebody else looks after."""

    def __init__(self, client: Client, tell: Tell) -> None:
        super().__init__(client, tell)
        self._workers = sum(client.nthreads().values())
        self._lost_since: float | None = None

    @property
    def slots(self) -> int:
        """One batch each: of a worker that ends, every batch that it holds is blamed."""
        return self._workers if self._client.status == "running" else 0

    def tend(self) -> None:
        """Raise ResourceError when the scheduler has not answered for a minute."""
        self._tell_unanswered()
        if self._client.status == "running":
            self._lost_since = None
            return
        self._lost_since = self._lost_since or time.monotonic()
        if time.monotonic() - self._lost_since > START_SECONDS:
            reason = "the Dask scheduler does not answer any more"
            raise ResourceError.of("workers", "no-workers", reason, "start it, and build again to go on")


class _Nanny(Nanny):
    """A worker's guard that is known as long as it lives; a cluster knows only those that have started."""

    known: ClassVar[WeakSet["_Nanny"]] = WeakSet()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.known.add(self)


class LocalPool(_ClusterPool):
    """Worker processes of this machine, one job at a time each, under limits of time and memory."""

    def __init__(self, cluster: Any, client: Client, options: Options, tell: Tell) -> None:
        super().__init__(client, tell)
        self.limits = Limits(options.timeout, options.memory_limit)
        self._patience = options.timeout + GRACE_SECONDS
        self._cluster, self._workers = cluster, options.workers
        self._tended = 0.0
        self._seen_there = time.monotonic()
        self._unchanged: dict[int, tuple[object, float]] = {}

    @property
    def slots(self) -> int:
        """Of those workers that are there."""
        return BATCHES_HELD * len(self._cluster.scheduler.workers)

    def tend(self) -> None:
        """Replace workers that ended, and end those that have made no progress within the time limit.

        A worker enforces the limit on itself; this clock is for one that cannot, because it was stopped.
        """
        now = time.monotonic()
        if now - self._tended < TEND_SECONDS:
            return
        self._tended = now
        self._tell_unanswered()
        self._replace_lost()
        there = {worker.pid: worker for worker in list(self._cluster.scheduler.workers.values())}
        if there:
            self._seen_there = now
        elif now - self._seen_there > START_SECONDS:
            raise _no_workers(f"none has started in {START_SECONDS:g} s")
        for pid in self._pids():
            worker = there.get(pid)
            held = self._held(worker) if worker else None
            patience = self._patience if worker else WORKER_START_SECONDS
            if self._seconds_unchanged(pid, held, now) > patience and held != frozenset():
                _kill(pid)

    def kill_workers(self, until: threading.Event) -> None:
        """End all workers at once, and those that come yet; the next build does again what is unfinished.

        A stopped worker would not hear that it is to end, and a cluster waits for a worker that starts.
        """
        for nanny in list(self._cluster.workers.values()):
            nanny.close_gracefully()  # do not start another worker instead

        def kill() -> None:
            while not until.wait(KILL_SECONDS):
                for pid in self._pids():
                    _kill(pid)

        threading.Thread(target=kill, daemon=True).start()

    def _pids(self) -> list[int]:
        """Of all worker processes, also of those that are only starting."""
        address = self._cluster.scheduler_address
        return [nanny.pid for nanny in list(_Nanny.known) if nanny.scheduler_addr == address and nanny.pid]

    def _held(self, worker: Any) -> frozenset[object]:
        """The batches that a worker holds, and the traces of the sources that it is at: its progress."""
        keys = [task.key for task in list(worker.processing)]
        traces = [job.trace for key in keys for job in self._batches.get(key, []) if job.trace.exists()]
        return frozenset([*keys, *traces])

    def _seconds_unchanged(self, pid: int, held: object, now: float) -> float:
        """How long a worker has held just this."""
        before, since = self._unchanged.get(pid, (None, now))
        if held != before or pid not in self._unchanged:
            since = now
        self._unchanged[pid] = (held, since)
        return now - since

    def _replace_lost(self) -> None:
        """Ask for lost workers: a nanny gives up on a worker that is killed while it starts."""
        for name, nanny in list(self._cluster.workers.items()):
            if nanny.status in (Status.closed, Status.failed):
                self._cluster.workers.pop(name, None)
        self._cluster.scale(self._workers)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # reaches a stopped process, too


def _no_workers(reason: str) -> ResourceError:
    return ResourceError.of("workers", "no-workers", reason, "run again; check the memory left")


@contextmanager
def _local_pool(options: Options, tell: Tell) -> Iterator[LocalPool]:
    closed = threading.Event()
    with ExitStack() as stack:
        stack.callback(closed.set)
        stack.enter_context(dask.config.set(SETTINGS))
        stack.enter_context(_silent())
        cluster = _cluster(stack.enter_context(TemporaryDirectory(prefix="viptt-")))
        stack.callback(_close, cluster)
        client = stack.enter_context(Client(cluster))
        pool = LocalPool(cluster, client, options, tell)
        stack.callback(pool.kill_workers, closed)
        cluster.scale(options.workers)
        yield pool


def _close(cluster: Any) -> None:
    with suppress(TimeoutError):  # nothing that it could still wait for matters any more
        cluster.close(timeout=END_SECONDS)


def _cluster(folder: str) -> Any:
    """An embedded cluster without workers yet: processes of one thread each, on the loopback interface."""
    if CAN_FORK:
        get_mp_context().set_forkserver_preload(
            ["distributed", "pipeline.build.batch_worker", "pipeline.build.worker"]
        )
        start_fork_server()
    try:
        return LocalCluster(
            n_workers=0,
            worker_class=_Nanny,
            local_directory=folder,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tls://",
            security=Security.temporary(),
            # Without an address, Dask would serve nothing all the same, but on a fixed port.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            memory_limit=0,  # each job has a limit of its own, which fails it instead of pausing a worker
            silence_logs="CRITICAL",
        )
    except RuntimeError as error:
        raise _no_workers(str(error)) from error


@contextmanager
def _silent() -> Iterator[None]:
    """Hold back Dask's log until the block has ended; its own `silence_logs` ends while a cluster closes."""
    log = logging.getLogger("distributed")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # a client that leaves in the middle of a message is critical to it
    try:
        yield
    finally:
        log.setLevel(level)


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
