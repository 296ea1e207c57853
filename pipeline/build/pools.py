"""Where jobs run: threads of this process, worker processes under Dask, or somebody's Dask cluster.

The local cluster speaks TLS with certificates that exist only in the memory of its processes, so that
no other user of the machine can give it work; it has no dashboard, and its HTTP servers answer nothing.
Threads need no server at all.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from typing import Any, Protocol

import dask
from distributed import Client, LocalCluster, Status
from distributed.scheduler import KilledWorker
from distributed.security import Security
from distributed.utils import get_mp_context
from threadpoolctl import threadpool_limits

from pipeline.build.options import Options
from pipeline.build.watchdog import CAN_FORK, Limits, start_fork_server, work_limited
from pipeline.errors import ConfigError, ResourceError

TEND_SECONDS = 1.0
START_SECONDS = 60.0  # until the first worker must be there, or one again
ANSWER_SECONDS = 20.0  # for a result that is ready to come from its worker
GRACE_SECONDS = 10.0  # after the time limit that a worker enforces on itself
JOBS_HELD = 2  # by a local worker: it need not wait for the next one, and loses little when it ends
SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.multiprocessing-method": "forkserver" if CAN_FORK else "spawn",
    "distributed.admin.tick.limit": "1h",
    "distributed.deploy.lost-worker-timeout": "10s",  # then a worker that did not come back is replaced
}


class WorkerLostError(Exception):
    """The worker of a job ended, or does not answer."""


class Pool(Protocol):
    """Workers. ``slots`` is how many jobs they may hold, ``limits`` what one job may use, if enforced."""

    slots: int
    limits: Limits | None

    def submit(self, work: Callable[[Any], Any], job: Any) -> Any:
        """A future of ``work(job)``."""

    def tend(self) -> None:
        """Look after the workers; called at least once in a few seconds. Raises ResourceError."""

    def answer(self, future: Any) -> Any:
        """The result of a future that is done. Raises WorkerLostError, and whatever ``work`` raised."""


@contextmanager
def open_pool(options: Options) -> Iterator[Pool]:
    """The workers that the options ask for; they are gone when the block has ended."""
    if options.remote:
        with _connected(options.scheduler) as client:
            yield RemotePool(client)
    elif options.scheduler == "threads":
        with threadpool_limits(1):
            yield ThreadPool(options.workers)
    else:
        with _local_pool(options) as pool:
            yield pool


class ThreadPool:
    """Threads of this process. They end with it: a decoder that hangs does not hold it."""

    limits: Limits | None = None

    def __init__(self, workers: int) -> None:
        self.slots = workers
        self._jobs = SimpleQueue[tuple[Future[Any], Callable[[Any], Any], Any]]()
        for _ in range(workers):
            threading.Thread(target=self._serve, daemon=True).start()

    def submit(self, work: Callable[[Any], Any], job: Any) -> Future[Any]:
        """A future of ``work(job)``."""
        future = Future[Any]()
        self._jobs.put((future, work, job))
        return future

    def tend(self) -> None:
        """Threads need no care."""

    def answer(self, future: Future[Any]) -> Any:
        """The result, or what ``work`` raised."""
        return future.result()

    def _serve(self) -> None:
        while True:
            future, work, job = self._jobs.get()
            try:
                future.set_result(work(job))
            except BaseException as error:  # noqa: BLE001 - raised again by `answer`
                future.set_exception(error)


class RemotePool:
    """Workers of a cluster that somebody else looks after."""

    limits: Limits | None = None

    def __init__(self, client: Client) -> None:
        self._client = client
        # One each: of a worker that ends, every job that it holds is blamed.
        self.slots = sum(client.nthreads().values())
        self._lost_since: float | None = None

    def submit(self, work: Callable[[Any], Any], job: Any) -> Any:
        """A future of ``work(job)``."""
        return self._client.submit(work, job, pure=False)

    def tend(self) -> None:
        """Raise ResourceError when the scheduler has not answered for a minute."""
        if self._client.status == "running":
            self._lost_since = None
            return
        self._lost_since = self._lost_since or time.monotonic()
        if time.monotonic() - self._lost_since > START_SECONDS:
            reason = "the Dask scheduler does not answer any more"
            raise ResourceError.of("workers", "no-workers", reason, "start it, and build again to go on")

    def answer(self, future: Any) -> Any:
        """The result, or what ``work`` raised. Raises WorkerLostError."""
        return _answer(future)


class LocalPool:
    """Worker processes of this machine, one job at a time each, under limits of time and memory."""

    def __init__(self, cluster: Any, client: Client, options: Options) -> None:
        self.slots = JOBS_HELD * options.workers
        self.limits: Limits | None = Limits(options.timeout, options.memory_limit)
        self._patience = options.timeout + GRACE_SECONDS
        self._cluster, self._client, self._workers = cluster, client, options.workers
        self._tended = 0.0
        self._busy: dict[str, tuple[frozenset[Any], float]] = {}
        self._served = time.monotonic()

    def submit(self, work: Callable[[Any], Any], job: Any) -> Any:
        """A future of ``work(job)`` under the limits."""
        return self._client.submit(work_limited, work, job, self.limits, pure=False)

    def answer(self, future: Any) -> Any:
        """The result, or what ``work`` raised. Raises WorkerLostError, if it does not come in time."""
        try:
            return _answer(future)
        except TimeoutError:
            for worker in self._holders(future):
                _kill(worker)
            raise WorkerLostError from None

    def tend(self) -> None:
        """Replace workers that ended, and end those that have made no progress within the time limit.

        A worker enforces the limit on itself; this clock is for one that cannot, because it was stopped.
        """
        now = time.monotonic()
        if now - self._tended < TEND_SECONDS:
            return
        self._tended = now
        self._replace_lost()
        there = list(self._cluster.scheduler.workers.values())
        if there:
            self._served = now
        elif now - self._served > START_SECONDS:
            raise _no_workers(f"none has started in {START_SECONDS:g} s")
        for worker in there:
            holds = frozenset(worker.processing)
            before, since = self._busy.get(worker.address, (frozenset(), now))
            if not holds or holds != before:
                self._busy[worker.address] = (holds, now)
            elif now - since > self._patience:
                _kill(worker)

    def wait_for_workers(self) -> None:
        """Wait until all are there, or for as long as the first may take. Raises ResourceError."""
        deadline = time.monotonic() + START_SECONDS
        while len(self._cluster.scheduler.workers) < self._workers and time.monotonic() < deadline:
            time.sleep(0.01)
        self.tend()

    def kill_all(self) -> None:
        """End every worker at once, whatever it does: what is unfinished is done again by the next build."""
        for nanny in list(self._cluster.workers.values()):
            nanny.auto_restart = False
        for worker in list(self._cluster.scheduler.workers.values()):
            _kill(worker)

    def _replace_lost(self) -> None:
        """Ask for lost workers: a nanny gives up on a worker that is killed while it starts."""
        for name, nanny in list(self._cluster.workers.items()):
            if nanny.status in (Status.closed, Status.failed):
                self._cluster.workers.pop(name, None)
        self._cluster.scale(self._workers)

    def _holders(self, future: Any) -> list[Any]:
        task = self._cluster.scheduler.tasks.get(future.key)
        return list(task.who_has) if task and task.who_has else []


def _answer(future: Any) -> Any:
    try:
        return future.result(timeout=ANSWER_SECONDS)
    except KilledWorker:
        raise WorkerLostError from None


def _kill(worker: Any) -> None:
    with suppress(ProcessLookupError):
        os.kill(worker.pid, signal.SIGKILL)  # reaches a stopped process, too


def _no_workers(reason: str) -> ResourceError:
    return ResourceError.of("workers", "no-workers", reason, "run again; check the memory left")


@contextmanager
def _local_pool(options: Options) -> Iterator[LocalPool]:
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(SETTINGS))
        stack.enter_context(_silent())
        cluster = stack.enter_context(_cluster())
        client = stack.enter_context(Client(cluster))
        pool = LocalPool(cluster, client, options)
        cluster.scale(options.workers)
        try:
            pool.wait_for_workers()
            yield pool
        except BaseException:
            pool.kill_all()
            raise


def _cluster() -> Any:
    """An embedded cluster without workers yet: processes of one thread each, on the loopback interface."""
    if CAN_FORK:
        get_mp_context().set_forkserver_preload(["distributed", "pipeline.build.worker"])
        start_fork_server()
    try:
        return LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tls://",
            security=Security.temporary(),
            dashboard_address=None,
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
    log.setLevel(logging.CRITICAL)
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
