"""Limits for one task in a worker process of its own, and why a worker died.

Python's faulthandler ends the process when a decoder hangs, even inside C code, and writes down
what it was; Dask's nanny starts a new worker. A limit on the data segment makes a decoder that wants
too much memory fail with MemoryError, long before the machine swaps.
"""

import faulthandler
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import Problem

TRIES = 2  # for a task whose worker died without a word: it may have been killed from outside
LOWER = "export it again, or leave it out"


@dataclass(frozen=True)
class Limits:
    """What one task may use: seconds of wall time, bytes of memory (its whole process)."""

    seconds: float
    nbytes: int


@contextmanager
def limited(limits: Limits, trace: Path) -> Iterator[None]:
    """Run a block under limits; ``trace`` is there while it runs, and says why if the process dies."""
    resource.setrlimit(resource.RLIMIT_DATA, (limits.nbytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    with trace.open("w") as file:
        faulthandler.enable(file)
        faulthandler.dump_traceback_later(limits.seconds, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()
    trace.unlink()


def cause_of_death(path: Path, trace: Path, limits: Limits) -> Problem | None:
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
    return Problem(str(path), "crash", f"its decoder ended the worker ({fatal or 'killed'})", LOWER)


def explained(trace: Path) -> bool:
    """Whether the process wrote down why it died."""
    return trace.stat().st_size > 0
