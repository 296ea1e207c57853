"""What the executor needs to know of a piece of work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import Problem


class Job(Protocol):
    """A source to work on, and where its worker leaves a trace."""

    @property
    def source(self) -> str:
        """Name of the source, unique among the jobs."""

    @property
    def path(self) -> Path:
        """The file to read."""

    @property
    def trace(self) -> Path:
        """A file that is there while a worker works on the source, and says why if it ends the worker."""

    def lost(self, problem: Problem) -> Any:
        """The result if the source ended its worker."""


class WorkerLostError(Exception):
    """The worker that held a batch of jobs has ended."""


@dataclass(frozen=True)
class Outcome:
    """What became of a batch of jobs: one result each, in their order, or an error instead of all."""

    batch: int
    results: tuple[Any, ...] = ()
    error: BaseException | None = None
