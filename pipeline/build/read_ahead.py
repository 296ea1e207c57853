"""The next sources, on their way from the disk while the present ones are converted.

A task hashes its whole source before it converts it. Without this, a worker would wait for the disk
first and the disk for the worker then; with it, both are busy all the time.
"""

import os
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from pipeline.build.jobs import Job

STEP_BYTES = 1 << 17  # what a system reads ahead at once, at least
MOST_BYTES = 1 << 28  # of one source: what is far ahead may be gone again when it is needed


def read_ahead(tasks: Iterable[Job]) -> Iterator[Job]:
    """The same tasks; when one is given out, the source of the next comes into the system's cache.

    Where the system cannot be asked for that (macOS), they are just the same tasks.
    """
    if not hasattr(os, "posix_fadvise"):
        yield from tasks
        return
    paths = SimpleQueue[Path | None]()
    # A daemon, because a disk or a server that does not answer must not hold the build.
    threading.Thread(target=_prefetch_all, args=(paths,), daemon=True).start()
    held = None
    try:
        for task in tasks:
            paths.put(task.path)
            if held is not None:
                yield held
            held = task
        if held is not None:
            yield held
    finally:
        paths.put(None)


def _prefetch_all(paths: "SimpleQueue[Path | None]") -> None:
    while path := paths.get():
        with suppress(OSError):  # its task will say what is wrong
            prefetch(path)


def prefetch(path: Path) -> None:
    """Ask the system to read a file into its cache, and do not wait for it; pipes and devices are let be."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            for start in range(0, min(status.st_size, MOST_BYTES), STEP_BYTES):
                os.posix_fadvise(descriptor, start, STEP_BYTES, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(descriptor)
