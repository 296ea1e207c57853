"""How to build: workers, limits, and what may be left out."""

import math
from dataclasses import dataclass

from dask.utils import parse_bytes
from distributed import system

from pipeline.errors import ConfigError

WORKER_BYTES = 1 << 30  # what a scan of 512 x 512 x 600 takes, beside the libraries
SCHEDULERS = ("local", "threads", "sync")


@dataclass(frozen=True)
class Options:
    """How to build. ``scheduler`` is local, threads, sync, or the address of a Dask scheduler.

    ``timeout`` (seconds for one source) and ``memory`` (of one worker, such as "4GB") hold where
    workers are processes of this machine: a source that breaks them is quarantined. Raises ConfigError.
    """

    workers: int = 1
    scheduler: str = "local"
    limit: int | None = None
    max_bad: float = 1.0
    allow_missing: bool = False
    timeout: float = 600.0
    memory: str = "auto"

    def __post_init__(self) -> None:
        if self.scheduler not in SCHEDULERS and not self.remote:
            remedy = "use local, threads, sync or tcp://HOST:PORT"
            raise ConfigError.of(
                "--scheduler", "bad-option", f"there is no scheduler {self.scheduler}", remedy
            )
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            reason = f"{self.timeout} is not a number of seconds above 0"
            raise ConfigError.of("--timeout", "bad-option", reason, "give seconds, such as 600")
        if self.memory != "auto":
            parse_memory(self.memory)

    @property
    def remote(self) -> bool:
        """Whether a cluster at an address does the work."""
        return "://" in self.scheduler

    @property
    def memory_limit(self) -> int:
        """Bytes of memory of one worker process; "auto" shares the machine's among them."""
        if self.memory == "auto":
            return int(system.MEMORY_LIMIT) // self.workers
        return parse_memory(self.memory)


def default_workers(cores: int) -> int:
    """One worker per core, or fewer where the machine's memory does not feed as many."""
    return max(1, min(cores, int(system.MEMORY_LIMIT) // WORKER_BYTES))


def parse_memory(text: str) -> int:
    """Bytes from a text such as 4GB or 500MiB. Raises ConfigError."""
    try:
        size = int(parse_bytes(text)) if any(letter.isdigit() for letter in text) else 0
    except ValueError:
        size = 0
    if size <= 0:
        reason = f"`{text}` is not a size of memory"
        raise ConfigError.of("--memory-limit", "bad-option", reason, "give a size such as 4GB, or auto")
    return size
