"""What does TLS cost a build? The same build over TLS and over plain TCP, in turns.

    python benchmarks/tls_cost.py [--scans 8] [--rounds 5]

Scans of 512x512x150 int16, one worker a core. Ratios of wall time from the first result to the last, and of
CPU time of this process and its workers until then; and how much later the first result comes.

A scan takes so much longer than its messages that noise hides what they cost. So the same is measured with
a thousand tiny scans, each sent alone as large ones are, and set against the time of one scan of real size.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from unittest.mock import patch

import psutil
from cost_of_safety import write_scans
from small_sources import write_files

from pipeline.build import Options, batches, build, make_plan, pools
from pipeline.catalog.schema import Dataset


@contextmanager
def plain() -> Iterator[None]:
    """The local cluster without a certificate."""
    cluster = pools.LocalCluster

    def unprotected(**options: object) -> object:
        return cluster(**(options | {"security": None, "protocol": "tcp://"}))

    with patch.object(pools, "LocalCluster", unprotected):
        yield


def cpu_seconds() -> float:
    """Of this process and all that live below it."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in family)


def cost(dataset: Dataset) -> tuple[float, float, float]:
    """Seconds until the first result, from there until the last, and CPU seconds until the last."""
    options = Options(workers=os.cpu_count() or 1)
    moments: list[tuple[float, float]] = []
    start, start_cpu = time.perf_counter(), cpu_seconds()
    build(
        make_plan(dataset, options),
        options,
        report=lambda result: moments.append((time.perf_counter(), cpu_seconds())),
    )
    shutil.rmtree(dataset.store)
    first, (last, cpu) = moments[0][0], moments[-1]
    return first - start, last - first, cpu - start_cpu


Round = tuple[tuple[float, float, float], tuple[float, float, float]]


def in_turns(dataset: Dataset, rounds: int) -> list[Round]:
    """The costs with TLS and without, one pair a round; which comes first changes."""
    cost(dataset)
    found = []
    for number in range(rounds):
        if number % 2:
            tls = cost(dataset)
        with plain():
            bare = cost(dataset)
        if not number % 2:
            tls = cost(dataset)
        found.append((tls, bare))
    return found


def tell_scans(rounds: list[Round], scans: int) -> float:
    """Print what TLS costs scans of real size; the seconds of one of them."""
    for what, index in (("wall time", 1), ("CPU time", 2)):
        ratios = sorted(tls[index] / bare[index] - 1 for tls, bare in rounds)
        print(f"{what}: {median(ratios):+.1%} with TLS ({ratios[0]:+.1%} to {ratios[-1]:+.1%})")
    later = sorted(tls[0] - bare[0] for tls, bare in rounds)
    print(f"first result: {median(later):+.2f} s with TLS ({later[0]:+.2f} to {later[-1]:+.2f})")
    return median(bare[1] for _, bare in rounds) / scans


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=8)
    parser.add_argument("--tiny", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scan_s = tell_scans(in_turns(write_scans(Path(name), chosen.scans), chosen.rounds), chosen.scans)
    with tempfile.TemporaryDirectory() as name, patch.object(batches, "MAX_BYTES", 1):
        rounds = in_turns(write_files(Path(name), chosen.tiny), chosen.rounds)
    more = sorted((tls[1] - bare[1]) / chosen.tiny for tls, bare in rounds)
    low, middle, high = (f"{1e3 * seconds:+.3f}" for seconds in (more[0], median(more), more[-1]))
    print(f"a tiny scan: {middle} ms with TLS ({low} to {high}), {more[-1] / scan_s:.2%} of a scan at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
