"""What does it cost to trust nothing? ``viptt verify``, its ``--quick``, and the proof on every read.

One core, files in the cache of the system. Full-size volumes (70 x 224 x 224, float16), and ten
thousand tiny ones. The bare hash and the bare read are of the same bytes in the same run.
"""

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from pipeline.store import CRC_BYTES, Chunk, Header, Row, Store, open_store, write_chunk, write_store
from pipeline.store.verify import verify

FULL = (70, 224, 224)
TINY = (2, 4, 4)
VOLUMES = 40
SAMPLES = 10_000
REPEATS = 7


def seconds(action: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return median(times)


def make_store(path: Path, shape: tuple[int, int, int], samples: int) -> Store:
    """A store of one volume under many names; its chunk file is linked, so that it is quickly made,
    and copied where it is large, so that the cache of the processor does not help.
    """
    volume = np.random.default_rng(0).random(shape).astype(np.float16)
    chunk = path.with_suffix(".chunk")
    sha256 = write_chunk(chunk, volume)
    chunks = [chunk] * samples if samples > VOLUMES else [copy_of(chunk, number) for number in range(samples)]
    rows = [
        Row(f"s{number:05}", number % 2, "", f"s{number:05}.nii.gz", sha256, sha256, '{"warnings":[]}')
        for number in range(samples)
    ]
    recipe = {"type": "nifti", "shape": list(shape), "dtype": "float16"}
    write_store(path, Header("speed", recipe, ("a", "b"), {"viptt": "0"}), rows, list(map(Chunk, chunks)))
    return open_store(path)


def copy_of(chunk: Path, number: int) -> Path:
    copy = chunk.with_name(f"{chunk.name}.{number}")
    copy.write_bytes(chunk.read_bytes())
    return copy


def read_all(store: Store) -> None:
    for index in range(len(store.rows)):
        store.read(index)


def read_files(store: Store) -> None:
    for index in range(len(store.rows)):
        store.chunk(index).read_bytes()


def hash_files(store: Store) -> None:
    for index in range(len(store.rows)):
        hashlib.sha256(store.chunk(index).read_bytes())


def print_full(folder: Path) -> None:
    store = make_store(folder / "full.zarr", FULL, VOLUMES)
    nbytes = VOLUMES * (store.header.volume_bytes + CRC_BYTES)
    read_files(store)
    verifying, reading = seconds(lambda: verify(store.path)), seconds(lambda: read_all(store))
    bare, hashing = seconds(lambda: read_files(store)), seconds(lambda: hash_files(store))
    print(f"{VOLUMES} volumes of {store.header.volume_bytes / 1e6:.1f} MB, one core, warm cache")
    speeds = [nbytes / taken / 1e9 for taken in (verifying, hashing, reading)]
    print(f"  verify            {speeds[0]:.2f} GB/s, {verifying / hashing:.2f} times a bare read and sha256")
    print(f"  read and sha256   {speeds[1]:.2f} GB/s")
    print(f"  Store.read        {speeds[2]:.2f} GB/s, {reading / bare:.1f} times a bare read of the file")


def print_tiny(folder: Path) -> None:
    store = make_store(folder / "tiny.zarr", TINY, SAMPLES)
    quick, opening = seconds(lambda: verify(store.path, quick=True)), seconds(lambda: open_store(store.path))
    bytewise = seconds(lambda: verify(store.path))
    print(f"{SAMPLES} samples of {store.header.volume_bytes} bytes")
    print(f"  verify --quick    {quick:.2f} s, of which opening the store {opening / quick:.0%}")
    print(f"  verify            {bytewise / quick:.1f} times as long")


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        print_full(Path(name))
        print_tiny(Path(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
