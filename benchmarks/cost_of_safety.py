"""What do hashes, checksums and fsync cost a build? The same build with them and without, in turns.

    python benchmarks/cost_of_safety.py [--scans 8] [--rounds 5]

Scans of 512x512x150, one worker in this process. "warm" has the sources in the page cache already;
"cold" drops it first (needs root), as a first build of a data set that was not just copied meets it.
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
from pipeline.catalog import NiftiDataset, load_catalog

CACHES = Path("/proc/sys/vm/drop_caches")


def write_scans(folder: Path, count: int) -> NiftiDataset:
    (folder / "ct").mkdir()
    write_scan(folder / "ct/a_0.nii.gz")
    for number in range(1, count):
        # a byte of the gzip header that says when: other bytes, the same scan
        content = bytearray((folder / "ct/a_0.nii.gz").read_bytes())
        content[4] = number
        (folder / f"ct/{'ab'[number % 2]}_{number}.nii.gz").write_bytes(content)
    (folder / "data_catalog.yaml").write_text(CATALOG)
    dataset = load_catalog(folder / "data_catalog.yaml").datasets["scans"]
    assert isinstance(dataset, NiftiDataset)
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
        "pipeline.task.hash_file": lambda path: str(path),
        "pipeline.task.write_entry": lambda path, entry: None,
        "pipeline.store.write_durably": plain_write,
        "pipeline.store.sync_directory": lambda path: None,
        "pipeline.task.write_chunk": plain_chunk,
    }
    with ExitStack() as stack:
        for name, stand_in in changes.items():
            stack.enter_context(patch(name, stand_in))
        yield


def seconds(dataset: NiftiDataset, *, safe: bool, cold: bool) -> float:
    options = Options(scheduler="sync")
    os.sync()
    if cold:
        CACHES.write_text("3")
    with ExitStack() as stack:
        if not safe:
            stack.enter_context(without_safety())
        start = time.perf_counter()
        build(make_plan(dataset, options), options)
        taken = time.perf_counter() - start
    shutil.rmtree(dataset.store)
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as name:
        dataset = write_scans(Path(name), chosen.scans)
        seconds(dataset, safe=True, cold=False)
        for cold in (False, True):
            if cold and not os.access(CACHES, os.W_OK):
                print("cold: not measured, the page cache cannot be dropped here")
                continue
            pairs = [
                [seconds(dataset, safe=safe, cold=cold) for safe in (True, False)]
                for _ in range(chosen.rounds)
            ]
            ratios = sorted(safe / unsafe - 1 for safe, unsafe in pairs)
            word = "cold" if cold else "warm"
            print(
                f"{word}: {median(ratios):.1%} more time than without ({ratios[0]:.1%} to {ratios[-1]:.1%}); "
                f"{median(safe for safe, _ in pairs) / chosen.scans:.3f} s a scan"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
