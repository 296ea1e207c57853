"""What do 100,000 slices cost? PNG of 512x512, listed as COVIDx-CT lists them, in scans of 70.

    python benchmarks/many_slices.py [--slices 100000] [--files 500] [--folder FOLDER]

The slices are links to ``--files`` distinct files. Printed: the speed of a build with two workers as a part
of that of bare ``cv2.imdecode`` on one core each, the memory of a worker and of the driver, the files of the
store, and the time of a build with nothing to do, of ``verify``, and of a shuffled epoch of pictures beside
rows of ``np.memmap`` copied at random.
"""

import argparse
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import psutil

from pipeline.build import Options, build, make_plan
from pipeline.catalog import load_catalog
from pipeline.catalog.schema import Dataset
from pipeline.store import Store, open_store
from pipeline.store.verify import verify

CATALOG = """
version: 1
datasets:
  slices:
    type: slices
    path: png
    labels: {train: train.txt}
    classes: {0: Normal, 1: Pneumonia, 2: COVID-19}
    recipe: {shape: [1, 224, 224], resize: antialias}
    store: slices.zarr
    split: {file: slices.json}
"""
WORKERS = 2
DECODED = 200  # slices that are decoded to see how fast that is
BATCH = 64
SCAN = 70


def write_slices(folder: Path, count: int, files: int) -> Dataset:
    """Smooth noise, which compresses about as well as a scan does."""
    (folder / "png").mkdir()
    (folder / "distinct").mkdir()
    rng = np.random.default_rng(0)
    for number in range(files):
        coarse = rng.integers(0, 256, (64, 64), dtype=np.uint8)
        smooth = cv2.resize(coarse, (512, 512), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        noisy = np.clip(smooth + rng.integers(-6, 7, (512, 512)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"distinct/{number}.png"), noisy)
    lines = []
    for number in range(count):
        scan = number // SCAN
        name = f"{('Normal', 'CP', 'NCP')[scan % 3]}_{scan}_{scan}_{number % SCAN:04d}.png"
        (folder / "png" / name).symlink_to(folder / f"distinct/{number % files}.png")
        lines.append(f"{name} {scan % 3} 20 30 490 480\n")
    (folder / "train.txt").write_text("".join(lines))
    (folder / "data_catalog.yaml").write_text(CATALOG)
    return load_catalog(folder / "data_catalog.yaml").datasets["slices"]


def decoding(folder: Path) -> float:
    """Seconds of one core for one bare ``cv2.imdecode``."""
    cv2.setNumThreads(1)
    data = [np.fromfile(path, np.uint8) for path in sorted((folder / "distinct").iterdir())[:DECODED]]
    start = time.process_time()
    for item in data:
        cv2.imdecode(item, cv2.IMREAD_UNCHANGED)
    return (time.process_time() - start) / len(data)


@dataclass
class Cost:
    """Seconds of the clock and of all processors, and the largest memory of a worker in MB."""

    seconds: float = 0.0
    cpu: float = 0.0
    worker: float = 0.0


def cost_of(work: Callable[[], object]) -> Cost:
    ended, cost, cpu = threading.Event(), Cost(), dict[int, float]()

    def watch() -> None:
        while not ended.wait(1):
            for process in psutil.Process().children(recursive=True):
                try:
                    cost.worker = max(cost.worker, process.memory_info().rss / 1e6)
                    cpu[process.pid] = sum(process.cpu_times()[:2])
                except psutil.NoSuchProcess:
                    continue

    watching = threading.Thread(target=watch)
    watching.start()
    start, own = time.perf_counter(), time.process_time()
    work()
    cost.seconds = time.perf_counter() - start
    cost.cpu = time.process_time() - own + sum(cpu.values())
    ended.set()
    watching.join()
    return cost


def epoch(store: Store) -> float:
    """Seconds for all pictures in a drawn order, in batches, each proven."""
    order = np.random.default_rng(0).permutation(len(store.rows))
    start = time.perf_counter()
    for first in range(0, len(order), BATCH):
        store.read_batch(order[first : first + BATCH].tolist())
    return time.perf_counter() - start


def memmap(store: Store, folder: Path) -> float:
    """Seconds for as many rows of one plain file, copied in the same order."""
    count = len(store.rows)
    rows = np.memmap(folder / "rows", store.header.dtype, "w+", shape=(count, *store.header.shape))
    for first in range(0, count, 1000):
        rows[first : first + 1000] = 0.5
    order = np.random.default_rng(0).permutation(count)
    start = time.perf_counter()
    for first in range(0, count, BATCH):
        np.array(rows[np.sort(order[first : first + BATCH])])
    return time.perf_counter() - start


def measure(folder: Path, slices: int, files: int) -> None:
    dataset = write_slices(folder, slices, files)
    options = Options(workers=WORKERS)
    before = decoding(folder)
    made = cost_of(lambda: build(make_plan(dataset, options), options))
    bare = (before + decoding(folder)) / 2  # the machine may become faster or slower meanwhile
    print(f"{slices} slices: {1e3 * made.seconds / slices:.2f} ms each with {WORKERS} workers")
    each = made.cpu / slices
    share = bare / each
    print(f"CPU time: {1e3 * each:.2f} ms each; bare decoding {1e3 * bare:.2f} ms, {share:.2f} of it")
    driver = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    stored = sum(1 for path in dataset.store.rglob("*") if path.is_file())
    print(f"memory: a worker {made.worker:.0f} MB, the driver {driver:.0f} MB; {stored} files in the store")
    again = cost_of(lambda: build(make_plan(dataset, options), options))
    print(f"nothing to do: {again.seconds:.1f} s, {1e3 * again.cpu / slices:.2f} ms of CPU time each")
    start = time.perf_counter()
    damaged = verify(dataset.store, threads=WORKERS).damaged
    print(f"verify: {time.perf_counter() - start:.1f} s, {len(damaged)} damaged")
    start = time.perf_counter()
    store = open_store(dataset.store)
    print(f"open: {time.perf_counter() - start:.1f} s")
    read, copied = epoch(store), memmap(store, folder)
    print(
        f"a shuffled epoch: {read:.1f} s, rows of a memmap {copied:.1f} s: {copied / read:.2f} of its speed"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="where to work  [default: a temporary folder]")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        measure(Path(name), chosen.slices, chosen.files)
    return 0


if __name__ == "__main__":
    sys.exit(main())
