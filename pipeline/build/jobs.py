"""What the executor needs to know of a piece of work."""

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
