"""How fast does the stream feed a model, beside np.memmap, a TFRecord file and MONAI's PersistentDataset?

    python benchmarks/streaming.py [--rounds N] [--samples N] [--monai-python PATH]

Every contender gives the same float32 batches (2, 70, 224, 224, 1) and one-hot labels, from float16 volumes
in the cache of the system; that they are equal is checked first. The contenders take turns, an epoch each;
ratios are within a round. Ours checks the CRC-32C of each volume, TFRecord one of its own, MONAI nothing.
PATH is the Python of an environment with MONAI and PyTorch, which are no dependencies of this project.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import psutil
import tensorflow as tf

from model.stream import BATCHES_AHEAD, READERS, Samples, batches, timed
from pipeline.store import Chunk, Header, Row, Store, open_store, write_chunk, write_store

SHAPE = (70, 224, 224)
CLASSES = 10
BATCH = 2
STEP_S = 0.020  # of a training step, per sample
MONAI = """
import hashlib, sys, time
import numpy as np, torch
from monai.data import DataLoader, PersistentDataset
from monai.transforms import Transform

folder, cache, workers, batch, classes, *shape = sys.argv[1:]
workers, batch, classes, shape = int(workers), int(batch), int(classes), [int(size) for size in shape]
count = int(np.prod(shape))

class Load(Transform):
    def __call__(self, item):
        volume = np.fromfile(item["path"], np.float16, count).reshape(shape)
        return {"volume": torch.from_numpy(volume), "label": item["label"]}

def collate(items):
    return torch.stack([item["volume"] for item in items]), torch.tensor([item["label"] for item in items])

def epoch():  # cast here and not by the workers, who would have to hand over twice the bytes
    for volumes, labels in loader:
        yield volumes.float()[..., None], torch.nn.functional.one_hot(labels, classes).float()

samples = range(int(sys.stdin.readline()))
data = [{"path": f"{folder}/c.{n}.0.0.0", "label": n % classes} for n in samples]
ahead = {"prefetch_factor": 2, "persistent_workers": True} if workers else {}
loader = DataLoader(PersistentDataset(data, Load(), cache), batch_size=batch, num_workers=workers,
                    collate_fn=collate, **ahead)
for _ in epoch():  # writes the cache
    pass
hasher = hashlib.sha256()
for volumes, labels in epoch():
    hasher.update(volumes.numpy())
    hasher.update(labels.numpy())
print(hasher.hexdigest(), flush=True)
for _ in sys.stdin:
    begun = time.perf_counter()
    for volumes, labels in epoch():
        pass
    print(time.perf_counter() - begun, flush=True)
"""

Epoch = Callable[[], float]  # runs an epoch, gives its seconds


@dataclass
class Contender:
    """Who takes part, the processes whose CPU time counts, and what each round measured."""

    name: str
    epoch: Epoch
    process: psutil.Process
    seconds: list[float]
    cpu: list[float]

    def run(self) -> None:
        before = cpu_seconds(self.process)
        self.seconds.append(self.epoch())
        self.cpu.append(cpu_seconds(self.process) - before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--monai-python", type=Path, metavar="PATH")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store = make_store(Path(name), options.samples)
        contenders = [
            *ours(store),
            memmap(Path(name), store),
            *tfrecords(Path(name), store),
            *monai(Path(name), store, options.monai_python),
        ]
        for number in range(options.rounds):
            for contender in contenders[number % 2 :: 2] + contenders[1 - number % 2 :: 2]:
                contender.run()
        print_rates(store, contenders)
        if not options.monai_python:
            print("MONAI: not measured, give --monai-python PATH")
        print_waiting(store, max(1, options.rounds // 2))
    return 0


# --- the data -----------------------------------------------------------------------------------


def make_store(folder: Path, samples: int) -> Store:
    rows, chunks = [], []
    for number in range(samples):
        volume = np.random.default_rng(number).random(SHAPE, np.float32).astype(np.float16)
        chunks.append(folder / f"{number}.chunk")
        sha256 = write_chunk(chunks[-1], volume)
        name = f"s{number:03}"
        rows.append(Row(name, number % CLASSES, "", f"{name}.nii.gz", sha256, sha256, "{}"))
    recipe = {"type": "nifti", "shape": list(SHAPE), "dtype": "float16"}
    classes = tuple(f"class {number}" for number in range(CLASSES))
    write_store(folder / "store.zarr", Header("speed", recipe, classes, {}), rows, list(map(Chunk, chunks)))
    return open_store(folder / "store.zarr")


def samples_of(store: Store) -> Samples:
    return Samples(store, "every", tuple(row.id for row in store.rows), tuple(range(len(store.rows))))


# --- the contenders -----------------------------------------------------------------------------


def in_process(name: str, dataset: Callable[[], tf.data.Dataset]) -> Contender:
    """``dataset()`` is called anew for each epoch, before the clock starts."""

    def epoch() -> float:
        elements = dataset()
        begun = time.perf_counter()
        for _ in elements:
            pass
        return time.perf_counter() - begun

    epoch()
    return Contender(name, epoch, psutil.Process(), [], [])


@dataclass(frozen=True)
class Unchecked(Store):
    """What reading costs without any check: for comparison only."""

    def read_batch(self, indices: Sequence[int]) -> np.ndarray[Any, Any]:
        batch = np.empty((len(indices), *SHAPE), self.header.dtype)
        for index, volume in zip(indices, batch, strict=True):
            with self.chunk(index).open("rb") as file:
                file.readinto(volume)
        return batch


def ours(store: Store) -> Iterator[Contender]:
    checked, unchecked = samples_of(store), samples_of(Unchecked(**vars(store)))
    yield in_process("stream", lambda: batches(checked, batch_size=BATCH))
    yield in_process("stream, nothing checked", lambda: batches(unchecked, batch_size=BATCH))


def memmap(folder: Path, store: Store) -> Contender:
    """Rows of one plain file, copied and cast by TensorFlow; nothing is checked."""
    volumes = np.memmap(folder / "volumes", np.float16, "w+", shape=(len(store.rows), *SHAPE))
    for index in range(len(store.rows)):
        volumes[index] = store.read(index)
    labels = np.array([row.label for row in store.rows])

    def read(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch = tf.numpy_function(lambda found: np.array(volumes[found]), [rows], tf.float16, stateful=False)
        values = tf.cast(tf.ensure_shape(batch, (None, *SHAPE))[..., tf.newaxis], tf.float32)
        return values, tf.one_hot(tf.gather(labels, rows), CLASSES)

    def dataset() -> tf.data.Dataset:
        rows = tf.data.Dataset.range(len(labels)).batch(BATCH)
        return rows.map(read, num_parallel_calls=READERS).prefetch(BATCHES_AHEAD)

    assert digest(dataset()) == digest(batches(samples_of(store), batch_size=BATCH))
    return in_process("np.memmap, unchecked", dataset)


def tfrecords(folder: Path, store: Store) -> Iterator[Contender]:
    """One record is the bytes of one volume, of which TensorFlow checks a CRC-32C of its own."""
    for files in (1, 4):
        paths = [str(folder / f"{number}-of-{files}.tfrecord") for number in range(files)]
        for number, path in enumerate(paths):
            with tf.io.TFRecordWriter(path) as writer:
                for index in range(number, len(store.rows), files):
                    writer.write(store.read(index).tobytes())
        dataset = records(paths, [row.label for row in store.rows])
        assert digest(dataset) == digest(batches(samples_of(store), batch_size=BATCH))
        name = f"TFRecord, {files} files in turn" if files > 1 else "TFRecord, one file"
        yield in_process(name, lambda dataset=dataset: dataset)


def records(paths: list[str], labels: list[int]) -> tf.data.Dataset:
    """Volumes and labels in the order of the store, whatever the number of files."""

    def parse(record: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        volume = tf.reshape(tf.io.decode_raw(record, tf.float16), (*SHAPE, 1))
        return tf.cast(volume, tf.float32), tf.one_hot(label, CLASSES)

    parallel = len(paths) if len(paths) > 1 else None
    source = tf.data.TFRecordDataset(paths, buffer_size=2**20, num_parallel_reads=parallel)
    dataset = tf.data.Dataset.zip((source, tf.data.Dataset.from_tensor_slices(labels)))
    return dataset.map(parse, num_parallel_calls=READERS).batch(BATCH).prefetch(BATCHES_AHEAD)


def digest(dataset: tf.data.Dataset) -> str:
    hasher = hashlib.sha256()
    for volumes, labels in dataset:
        hasher.update(volumes.numpy())
        hasher.update(labels.numpy())
    return hasher.hexdigest()


def monai(folder: Path, store: Store, python: Path | None) -> Iterator[Contender]:
    for workers in (0, READERS) if python else ():
        sizes = (workers, BATCH, CLASSES, *SHAPE)
        arguments = [str(store.path / "volume"), str(folder / "monai"), *map(str, sizes)]
        other = subprocess.Popen(
            [str(python), "-W", "ignore", "-c", MONAI, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert asked(other, len(store.rows)) == digest(batches(samples_of(store), batch_size=BATCH))
        name = f"MONAI, {workers} workers" if workers else "MONAI, in process"
        yield Contender(name, lambda other=other: float(asked(other, 0)), psutil.Process(other.pid), [], [])


def asked(other: subprocess.Popen[str], line: int) -> str:
    assert other.stdin
    assert other.stdout
    print(line, file=other.stdin, flush=True)
    return other.stdout.readline().strip()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process, and of its living children where they work for it."""
    if process.pid == os.getpid():
        return time.process_time()
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


# --- the answers --------------------------------------------------------------------------------


def print_rates(store: Store, contenders: list[Contender]) -> None:
    samples, rounds = len(store.rows), len(contenders[0].seconds)
    stream, unchecked = contenders[:2]
    print(f"{samples} volumes {'x'.join(map(str, SHAPE))} float16, batches of {BATCH}, float32 out; ", end="")
    print(f"{rounds} rounds, {os.cpu_count()} cores; median (least to most)")
    print(f"{'':26}{'samples/s':>10}{'CPU ms':>8}   samples/s of the stream, times as many")
    for one in contenders:
        rate, cpu = samples / median(one.seconds), 1000 * median(one.cpu) / samples
        print(f"  {one.name:24}{rate:10.0f}{cpu:8.2f}   {ratio(one.seconds, stream.seconds)}")
    bare = median(unchecked.cpu)
    cost = median(stream.cpu) - bare
    print(f"checks: {cost / bare:.1%} of the CPU time of a stream without them, ", end="")
    print(f"{cost / samples / STEP_S:.2%} of a step of {1000 * STEP_S:.0f} ms per sample")


def ratio(theirs: list[float], ours: list[float]) -> str:
    each = [a / b for a, b in zip(theirs, ours, strict=True)]
    return f"{median(each):5.2f} ({min(each):.2f} to {max(each):.2f})"


def print_waiting(store: Store, rounds: int) -> None:
    shares = [waiting(samples_of(store)) for _ in range(rounds)]
    print(f"share of an epoch spent waiting, with a step of {1000 * STEP_S:.0f} ms per sample: ", end="")
    print(f"{median(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})")


def waiting(samples: Samples) -> float:
    """Share of an epoch spent waiting where a step takes 20 ms per sample of another processor's time."""
    dataset, waited = timed(batches(samples, batch_size=BATCH))
    begun = time.perf_counter()
    for _, labels in dataset:
        time.sleep(STEP_S * len(labels))
    return waited() / (time.perf_counter() - begun)


if __name__ == "__main__":
    sys.exit(main())
