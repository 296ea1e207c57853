"""What do hashes, checksums and fsync cost a build? The same build with them and without, in turns.

    python benchmarks/cost_of_safety.py [--scans 40] [--rounds 5] [--rates 400 200 100]

Scans of 512x512x150 and the command's own defaults: one worker process a core; whole builds, from start
to end. "warm" has all sources in the page cache already; "cold" drops it first, as a first build of a
large data set meets it. Then the same from a disk that is held back to so many MB/s, as a network drive
or a hard disk reads. All but "warm" need root, and the last Linux' cgroup v1 for block devices.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from build_growth import CATALOG
from numpy.typing import NDArray
from scan_to_chunk import write_scan

from pipeline.build import Options, build, make_plan
from pipeline.build.worker import Result, Task, process
from pipeline.catalog import load_catalog
from pipeline.catalog.schema import Dataset

CACHES = Path("/proc/sys/vm/drop_caches")
GROUPS = Path("/sys/fs/cgroup/blkio")


def write_scans(folder: Path, count: int) -> Dataset:
    (folder / "ct").mkdir()
    write_scan(folder / "ct/a_0.nii.gz")
    for number in range(1, count):
        # a byte of the gzip header that says when: other bytes, the same scan
        content = bytearray((folder / "ct/a_0.nii.gz").read_bytes())
        content[4] = number
        (folder / f"ct/{'ab'[number % 2]}_{number}.nii.gz").write_bytes(content)
    (folder / "data_catalog.yaml").write_text(CATALOG)
    dataset = load_catalog(folder / "data_catalog.yaml").datasets["scans"]
    assert isinstance(dataset, Dataset)
    return dataset


def plain_write(path: Path, *parts: bytes) -> None:
    with path.open("wb") as file:
        file.writelines(parts)


def plain_chunk(path: Path, volume: NDArray[Any]) -> str:
    plain_write(path, volume.tobytes())
    return "0" * 64


@contextmanager
def without_safety() -> Iterator[None]:
    """No hash of source or volume, no checksum, no journal, no fsync, no temporary name."""
    changes = {
        "pipeline.build.worker.hash_file": lambda path: str(path),
        "pipeline.build.worker.write_entry": lambda path, entry: None,
        "pipeline.store.chunks.write_durably": plain_write,
        "pipeline.store.layout.sync_directory": lambda path: None,
        "pipeline.build.worker.write_chunk": plain_chunk,
        "pipeline.build.run.process": unsafe,
    }
    with ExitStack() as stack:
        for name, stand_in in changes.items():
            stack.enter_context(patch(name, stand_in))
        yield


def unsafe(task: Task) -> Result:
    """A task in a worker process, which must be told there."""
    with without_safety():
        return process(task)


class Disk:
    """The disk below a folder, read at no more than a rate, by this process and all its children."""

    def __init__(self, folder: Path) -> None:
        number = folder.stat().st_dev
        self.device = f"{os.major(number)}:{os.minor(number)}"
        self.group = GROUPS / f"viptt-{os.getpid()}"

    def __enter__(self) -> "Disk":
        if self.can_be_slow:
            self.group.mkdir()
            (self.group / "cgroup.procs").write_text(str(os.getpid()))
        return self

    def __exit__(self, *exception: object) -> None:
        if self.group.exists():
            for process in (self.group / "cgroup.procs").read_text().split():
                (GROUPS / "cgroup.procs").write_text(process)
            self.group.rmdir()

    @property
    def can_be_slow(self) -> bool:
        return os.access(GROUPS / "cgroup.procs", os.W_OK)

    def limit(self, megabytes: float) -> None:
        """In a second; 0: none."""
        if self.group.exists():
            rule = f"{self.device} {int(megabytes * 1e6)}"
            (self.group / "blkio.throttle.read_bps_device").write_text(rule)


def seconds(dataset: Dataset, disk: Disk, rate: float | None, *, safe: bool) -> float:
    """Of one build. ``rate`` in MB/s, 0 for the disk's own, nothing for sources in the page cache."""
    options = Options(workers=os.cpu_count() or 1)
    os.sync()
    if rate is not None:
        CACHES.write_text("3")
        disk.limit(rate)
    with ExitStack() as stack:
        if not safe:
            stack.enter_context(without_safety())
        start = time.perf_counter()
        summary = build(make_plan(dataset, options), options)
        taken = time.perf_counter() - start
    disk.limit(0)
    assert not summary.quarantined
    shutil.rmtree(dataset.store)
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rates", type=float, nargs="*", default=[400.0, 200.0, 100.0], metavar="MB/S")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as name, Disk(Path(name)) as disk:
        dataset = write_scans(Path(name), chosen.scans)
        seconds(dataset, disk, None, safe=True)
        slow = [(f"{rate:g} MB/s", rate) for rate in chosen.rates]
        for word, rate in [("warm", None), ("cold", 0.0), *slow]:
            if (rate is not None and not os.access(CACHES, os.W_OK)) or (rate and not disk.can_be_slow):
                print(f"{word}: not measured, this needs root and a system that allows it")
                continue
            pairs = [
                [seconds(dataset, disk, rate, safe=safe) for safe in (True, False)]
                for _ in range(chosen.rounds)
            ]
            ratios = sorted(safe / unsafe - 1 for safe, unsafe in pairs)
            print(
                f"{word}: {median(ratios):.1%} more time than without ({ratios[0]:.1%} to {ratios[-1]:.1%}); "
                f"{median(safe for safe, _ in pairs) / chosen.scans:.3f} s a scan",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
