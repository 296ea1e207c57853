"""Worker processes: how they start, limits for one task in one, and why one died.

Python's faulthandler ends the process when a decoder hangs, even inside C code, and writes down
what it was; Dask's nanny starts a new worker. A limit on the data segment makes a decoder that wants
too much memory fail with MemoryError, long before the machine swaps.
"""

import faulthandler
import os
import re
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

from pipeline.errors import Problem, ResourceError
from pipeline.signals import STOPS

CAN_FORK = sys.platform == "linux"  # libraries of macOS may have threads of their own
# Nothing is imported from the folder where viptt is run, no BLAS has threads that a fork would lose, and a
# worker that is closed is silent.
FORK_SERVER = {
    "DASK_LOGGING__DISTRIBUTED": "critical",
    "PYTHONSAFEPATH": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
SPARE_BYTES = 64 << 20  # the least that a worker must have beside what it needs before its first source
TRIES = 2  # for a task whose worker died without a word: it may have been killed from outside
LOWER = "export it again, or leave it out"


@dataclass(frozen=True)
class Limits:
    """What one task may use: seconds of wall time, bytes of memory (its whole process)."""

    seconds: float
    nbytes: int


@contextmanager
def limited(limits: Limits, trace: Path) -> Iterator[None]:
    """Run a block under limits; ``trace`` is there while it runs, and says why if the process ends.

    Raises ResourceError if the limit of memory does not even hold what the process had at its start.
    """
    check_floor(limits, bytes_at_start())
    with trace.open("w") as file, _memory_limit(limits.nbytes):
        faulthandler.enable(file)
        faulthandler.dump_traceback_later(limits.seconds, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()
    trace.unlink()


@contextmanager
def _memory_limit(nbytes: int) -> Iterator[None]:
    """Limit the data segment while a block runs: the worker itself, between sources, must never fail."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@cache
def bytes_at_start() -> int:
    """Bytes of this process before its first source; what earlier ones left behind is no part of it."""
    return data_segment()


def check_floor(limits: Limits, used: int) -> None:
    """Refuse a memory limit that leaves nothing to a process that has ``used`` bytes already."""
    least = used + SPARE_BYTES
    if limits.nbytes < least:
        needs = f"before its first source it needs {least / 1e6:.0f} MB"
        reason = f"a worker has {limits.nbytes / 1e6:.0f} MB; {needs}"
        raise ResourceError.of("workers", "memory", reason, "raise --memory-limit, or use fewer --workers")


def data_segment() -> int:
    """Bytes of this process that the memory limit counts, as Linux tells; 0 on other systems."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def cause_of_end(path: Path, trace: Path, limits: Limits) -> Problem | None:
    """Why the worker died over this source, by the trace; nothing where the source was not being read.

    A death without a word is told as a crash, too: the caller decides how often it may happen.
    """
    try:
        text = trace.read_text(errors="replace")
    except FileNotFoundError:
        return None
    if text.startswith("Timeout"):
        return Problem(
            str(path), "timeout", f"not converted in {limits.seconds:g} s", f"raise --timeout, or {LOWER}"
        )
    fatal = text.partition("\n")[0].removeprefix("Fatal Python error: ")
    return crash(path, f"its decoder ended the worker ({fatal or 'killed'})")


def crash(path: Path, reason: str) -> Problem:
    """That a source cost a worker its life."""
    return Problem(str(path), "crash", reason, LOWER)


def explained(trace: Path) -> bool:
    """Whether the process wrote down why it died."""
    return trace.stat().st_size > 0


def start_fork_server() -> None:
    """Start the process of one thread that imports once what all workers need, and forks them.

    A worker that died is replaced from it in a fraction of a second. The variables are set for the server
    alone, not for other programs that this process starts. Server and workers ignore signals to stop, which
    a terminal or a service manager sends to all processes: this process ends them.
    """
    before = {name: os.environ.get(name) for name in FORK_SERVER}
    os.environ.update(FORK_SERVER)
    resource_tracker.ensure_running()  # before the signals are blocked: it unblocks them when it starts
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
