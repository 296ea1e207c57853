"""How fast the build of a store was: a small JSON file beside it, which may be lost without harm.

It is no part of the store, since the same sources give the same store at any speed.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.files import write_whole

KIND = "viptt build"


@dataclass(frozen=True)
class Throughput:
    """The build that published the store with this digest; ``source_bytes`` are those read in ``seconds``."""

    digest: str
    converted: int
    reused: int
    source_bytes: int
    seconds: float
    workers: int

    @property
    def megabytes_per_second(self) -> float:
        """Bytes of sources per second, in millions."""
        return self.source_bytes / self.seconds / 1e6


def write_throughput(path: Path, found: Throughput, *, staged: Path) -> None:
    """Write the file, first as ``staged`` on the same disk, unless another program's is there.

    Raises ResourceError, or OSError if it cannot be moved to its place.
    """
    if path.exists() and _read(path) is None:
        return
    write_whole(staged, (json.dumps({"kind": KIND, **asdict(found)}, indent=2) + "\n").encode())
    staged.replace(path)


def read_throughput(path: Path, digest: str) -> Throughput | None:
    """What the build of the store with this digest left; nothing where it left none, or another build did."""
    found = _read(path)
    return found if found and found.digest == digest else None


def _read(path: Path) -> Throughput | None:
    try:
        document = json.loads(path.read_bytes())
        if document.pop("kind") != KIND:
            return None
        found = Throughput(**document)
        return found if found.seconds > 0 and found.source_bytes >= 0 else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
