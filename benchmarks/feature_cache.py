"""What does it save to keep the frozen backbone's features? ViPTT-Net at 70x224x224, random weights.

First making them (with reading, hashing, writing), against forward passes of the whole network over a
volume in memory. Then whole epochs of `viptt train`, with validation, checkpoint and best weights, per
training sample: on features, and through the frozen backbone. Ratios within this run.
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from model.features import extractor
from model.network import viptt_net
from model.settings import Settings
from model.training import train
from pipeline.build.features import derive
from pipeline.split import given_split, write_split
from pipeline.store import Chunk, Header, Row, Store, open_store, write_chunk, write_store

SHAPE = (70, 224, 224)
FEW, MANY, ROUNDS = 3, 288, 5
SETTINGS = Settings(weights="none", freeze_backbone=True, epochs=3, batch_size=2)


def make_store(folder: Path, samples: int) -> tuple[Store, Path]:
    """One volume under many names, a third of them to validate on: nobody looks at the scores."""
    folder.mkdir()
    volume = np.random.default_rng(0).random(SHAPE, np.float32).astype(np.float16)
    sha256 = write_chunk(folder / "chunk", volume)
    rows = [Row(f"{n:04}", n % 2, "", f"{n:04}", "0" * 64, sha256, "{}") for n in range(samples)]
    recipe = {"type": "video", "shape": list(SHAPE), "dtype": "float16"}
    header = Header("speed", recipe, ("a", "b"), {})
    write_store(folder / "speed.zarr", header, rows, [Chunk(folder / "chunk")] * samples)
    store = open_store(folder / "speed.zarr")
    ids = [row.id for row in rows]
    split = given_split(store, {"train": tuple(ids[samples // 3 :]), "val": tuple(ids[: samples // 3])})
    write_split(folder / "split.json", split)
    return store, folder / "split.json"


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """By the clock, and of all processors together."""
    start = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def epoch_seconds(store: Store, split: Path, settings: Settings) -> float:
    """Of the quickest epoch but the first, which compiles, per training sample."""
    ends: list[float] = []
    run = split.parent / f"run-{settings.from_features}-{settings.batch_size}"

    def say(line: str) -> None:
        if line.startswith("epoch"):
            ends.append(time.perf_counter())

    train(store.path, split, run, settings, leaks_ok=True, say=say)  # one volume has all the names
    return float(min(np.diff(ends))) / (len(store.rows) - len(store.rows) // 3)


def peak() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        one, _ = make_store(Path(name) / "one", 1)
        few, few_split = make_store(Path(name) / "few", FEW)
        many, many_split = make_store(Path(name) / "many", MANY)

        made = extractor(SETTINGS, one)
        volume = one.read(0)
        known = made.compute(volume)
        print(f"memory at most, features of one sample at a time: {peak()}")
        net = viptt_net((*SHAPE, 1), 2, weights="none")
        values = volume[np.newaxis, ..., np.newaxis].astype(np.float32)
        net.predict_on_batch(values)
        passes, derived = [], []
        for number in range(ROUNDS):  # by turns, since others use the machine as well
            recipe = {**made.recipe, "round": number}
            passes.append(seconds(lambda: net.predict_on_batch(values)))
            derived.append(seconds(partial(derive, one, made.compute, recipe, created_with={})))
        (forward, forward_cpu), (each, each_cpu) = (np.median(taken, axis=0) for taken in (passes, derived))
        print(f"a forward pass of the whole network {forward:.2f} s, features of a sample {each:.2f} s:")
        print(f"  {forward / each:.2f} times as fast; by time of processors {forward_cpu / each_cpu:.2f}")
        again = derive(many, lambda volume: known, made.recipe, created_with={})
        print(f"  of that, all but the network: {again.seconds / MANY / each:.2%}", flush=True)
        fast = {}
        for size in (2, 16):
            settings = replace(SETTINGS, from_features=True, batch_size=size)
            fast[size] = epoch_seconds(many, many_split, settings)
            print(f"epoch on features, batch {size}: {fast[size] * 1000:.1f} ms a sample", flush=True)
        slow = epoch_seconds(few, few_split, SETTINGS)
        print(f"epoch through the frozen backbone, batch 2: {slow:.1f} s a sample; memory at most {peak()}")
        for size, taken in fast.items():
            print(f"  on features, batch {size}: {slow / taken:.0f} times as fast")
        print("  were the slow epoch nothing but forward passes (its adapter fixed as well):")
        for size, taken in fast.items():
            print(f"  on features, batch {size}: {1.5 * forward / taken:.0f} times as fast")
    return 0


if __name__ == "__main__":
    sys.exit(main())
