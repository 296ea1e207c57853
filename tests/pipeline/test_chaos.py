"""Builds whose workers are killed from outside about once a second, and their memory.

test_chaos.py CATALOG SCHEDULER WORKERS    build, then print the peaks of memory of every process
"""

import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from test_fuzz import memory_of
from test_watchdog import Clumsy, Glutton, Hang, Segfault

from pipeline.build import Options, build, make_plan
from pipeline.build.staging import Staging
from pipeline.catalog import load_catalog
from pipeline.store import open_store

MIB = 1 << 20


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Its worker processes, also those that are only starting: the children of the server that forks them."""
    found = []
    for child in process.children():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "forkserver" in " ".join(child.cmdline()):
                found += child.children()
    return found


GOOD = 100
KILLS = 20  # at least
POISON = {
    11: (Segfault, "crash"),
    37: (Hang, "timeout"),
    63: (Glutton, "memory"),
    89: (Clumsy, "decoder-failed"),
}
TIMEOUT = 10.0


class Killer:
    """Kills a worker, whichever it is, about once a second, from the first result on.

    A source, known by the trace that its reader holds open, is spared after one kill: two deaths over it
    without a word are told as a crash.
    """

    def __init__(self, seed: int, traces: set[str]) -> None:
        self.moments, self.traces = random.Random(seed), traces
        self.begun, self.ended = threading.Event(), threading.Event()
        self.kills, self.spared = 0, set[str]()

    def run(self) -> None:
        self.begun.wait()
        while not self.ended.wait(self.moments.uniform(0.5, 1.5)):
            workers = workers_of(psutil.Process())
            if workers:
                self.kill(self.moments.choice(workers))

    def kill(self, worker: psutil.Process) -> None:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            held = self.traces & {file.path for file in worker.open_files()}
            if held & self.spared:
                return
            worker.send_signal(signal.SIGKILL)
            self.kills += 1
            self.spared |= held


def trace_of(store: Path, source: str) -> Path:
    """What a worker holds open while it reads a source."""
    staging = Staging(store.resolve().with_name(store.name + ".building"))
    return staging.journal(source).with_suffix(".trace")


@contextmanager
def killing(killer: Killer) -> Iterator[None]:
    thread = threading.Thread(target=killer.run)
    thread.start()
    try:
        yield
    finally:
        killer.ended.set()
        killer.begun.set()
        thread.join()


def sync_hashes(catalog: Path) -> dict[str, str]:
    """Source → hash of its volume, built without any disturbance."""
    (dataset,) = load_catalog(catalog).datasets.values()
    dataset = dataset.model_copy(update={"store": dataset.store.with_name("calm.zarr")})
    build(make_plan(dataset, Options(scheduler="sync")), Options(scheduler="sync"))
    return {row.source: row.sha256 for row in open_store(dataset.store).rows}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_once_a_second_and_poison(tmp_path, ct_dataset, seed):
    """Builds of 100 good and 4 poisonous sources, until there have been enough kills."""
    catalog = ct_dataset(tmp_path, scans=GOOD + len(POISON), size=(64, 64, 40))
    expected = sync_hashes(catalog)
    kills = rounds = 0
    while kills < KILLS:
        kills += chaotic_build(catalog, expected, rounds, seed + rounds)
        rounds += 1
    print(f"seed {seed}: {kills} kills over {rounds} builds")


def chaotic_build(catalog: Path, expected: dict[str, str], number: int, seed: int) -> int:
    """How many kills there were; all that matters is checked."""
    (dataset,) = load_catalog(catalog).datasets.values()
    dataset = dataset.model_copy(update={"store": dataset.store.with_name(f"{number}.zarr")})
    options = Options(workers=2, timeout=TIMEOUT, memory="1GB")
    plan = make_plan(dataset, options)
    samples = list(plan.samples)
    for index, (kind, _) in POISON.items():
        samples[index] = replace(samples[index], path=kind(samples[index].path))
    poison = {samples[index].source: code for index, (_, code) in POISON.items()}
    killer = Killer(seed, {str(trace_of(dataset.store, sample.source)) for sample in samples})
    with killing(killer):
        plan = replace(plan, samples=tuple(samples))
        summary = build(plan, options, report=lambda result: killer.begun.set())
    print(f"seed {seed}: {killer.kills} kills in {summary.seconds:.0f} s")
    assert {item.source: item.problem.code for item in summary.quarantined} == poison, f"seed {seed}"
    store = open_store(dataset.store)
    good = {source: sha256 for source, sha256 in expected.items() if source not in poison}
    assert {row.source: row.sha256 for row in store.rows} == good, f"seed {seed}"
    for index, row in enumerate(store.rows):
        assert hashlib.sha256(store.read(index).tobytes()).hexdigest() == row.sha256
    assert len(store.rows) == GOOD
    assert not list(dataset.store.parent.glob("*.building"))
    return killer.kills


VOLUMES = 24
SIZE = (256, 256, 150)
VOLUME = 2 * 256 * 256 * 150
EARLY = 6
ROOM = 400 * MIB


def measure(catalog: str, scheduler: str, workers: str) -> None:
    """Print the peak of this process after its imports, then, for each item, that of each process."""
    print(json.dumps({"baseline": memory_of("self", "VmHWM")}))
    (dataset,) = load_catalog(Path(catalog)).datasets.values()
    options = Options(scheduler=scheduler, workers=int(workers), memory="4GB")
    peaks: list[dict[int, int]] = []
    build(make_plan(dataset, options), options, report=lambda result: peaks.append(peaks_now()))
    print(json.dumps({"peaks": [list(now.values()) for now in peaks], "seen": sorted(set().union(*peaks))}))


def peaks_now() -> dict[int, int]:
    """Process → the most memory it has held since it began; this one first."""
    own = psutil.Process()
    return {process.pid: memory_of(process.pid, "VmHWM") for process in (own, *workers_of(own))}


def many_volumes(folder: Path, ct_dataset, write_nifti) -> Path:
    """Distinct files of one noise: gzip keeps a time in its header that no checksum covers."""
    catalog = ct_dataset(folder, scans=VOLUMES, size=(2, 2, 2), recipe={"shape": [70, 224, 224]})
    noise = np.random.default_rng(0).integers(-1000, 400, SIZE, np.int16)
    data = write_nifti(folder / "noise.nii.gz", noise).read_bytes()
    for number, path in enumerate(sorted((folder / "ct").glob("*.nii.gz"))):
        path.write_bytes(data[:4] + number.to_bytes(4, "little") + data[8:])
    return catalog


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("scheduler", "workers"), [("sync", 1), ("local", 2)])
def test_memory_is_bounded(tmp_path, ct_dataset, write_nifti, scheduler, workers):
    catalog = many_volumes(tmp_path, ct_dataset, write_nifti)
    command = [sys.executable, __file__, str(catalog), scheduler, str(workers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    baseline, found = map(json.loads, done.stdout.splitlines())
    peaks = found["peaks"]
    assert len(peaks) == VOLUMES
    assert len(found["seen"]) == (1 if scheduler == "sync" else 1 + workers)
    early, late = max(peaks[EARLY - 1]), max(peaks[-1])
    print(
        f"{scheduler}: {baseline['baseline'] / MIB:.0f} MiB after the imports, volume {VOLUME / MIB:.0f} MiB,"
    )
    held, growth = [peak // MIB for peak in peaks[-1]], late / early - 1
    print(f"peaks of the processes {held} MiB, {growth:+.1%} since item {EARLY}")
    assert late <= 3 * VOLUME + ROOM
    assert late <= 1.05 * early


if __name__ == "__main__":
    measure(*sys.argv[1:])
