"""How much of its speed does a build keep while its workers are killed from outside?

Generated scans of 256x256x80, two workers. Calm and chaotic builds take turns; ratios within this run,
the start of the cluster left out.
"""

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import psutil
from build_growth import write_scans

from pipeline.build import Options, build, make_plan
from pipeline.catalog.schema import Dataset

SCANS = 240
ROUNDS = 3
OPTIONS = Options(workers=2)


def workers() -> list[psutil.Process]:
    """The children of the server that forks them."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "forkserver" in " ".join(child.cmdline()):
                found += child.children()
    return found


@contextmanager
def killing(seconds: float, begun: threading.Event) -> Iterator[list[int]]:
    """Kill a worker about every so many seconds, from ``begun`` on; those killed are listed."""
    ended, killed, moments = threading.Event(), list[int](), random.Random(0)

    def run() -> None:
        begun.wait()
        while seconds and not ended.wait(moments.uniform(0.5, 1.5) * seconds):
            for worker in workers()[:: moments.choice([1, -1])][:1]:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
                    killed.append(worker.pid)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        begun.set()
        thread.join()


def speed(dataset: Dataset, store: Path, every: float) -> tuple[float, int]:
    """Samples in a second from the first result to the last, and how many workers were killed."""
    times: list[float] = []
    begun = threading.Event()
    plan = make_plan(dataset.model_copy(update={"store": store}), OPTIONS)

    def report(result: object) -> None:
        times.append(time.perf_counter())
        begun.set()

    with killing(every, begun) as killed:
        summary = build(plan, OPTIONS, report=report)
    if summary.quarantined:
        print(f"  lost: {[item.problem.code for item in summary.quarantined]}")
    return (len(times) - 1) / (times[-1] - times[0]), len(killed)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = write_scans(folder, SCANS)
        print(f"{SCANS} scans, {OPTIONS.workers} workers; speed relative to the calm build before it")
        for every in (1.0, 5.0):
            ratios, kills = [], 0
            for number in range(ROUNDS):
                calm, _ = speed(dataset, folder / f"calm {every} {number}.zarr", 0)
                chaotic, killed = speed(dataset, folder / f"chaos {every} {number}.zarr", every)
                ratios.append(chaotic / calm)
                kills += killed
            told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"a kill every {every:.0f} s: {median(ratios):.2f} ({told}), {kills} kills")
    return 0


if __name__ == "__main__":
    sys.exit(main())
