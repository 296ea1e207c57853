"""What does TLS cost a build? The same build over TLS and over plain TCP, in turns.

    python benchmarks/tls_cost.py [--scans 8] [--rounds 5]

Scans of 512x512x150 int16, one worker a core. Ratios of wall time from the first result to the last, and of
CPU time of this process and its workers until then; and how much later the first result comes.
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

from pipeline.build import Options, build, make_plan, pools
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        dataset = write_scans(Path(name), chosen.scans)
        cost(dataset)
        rounds = []
        for number in range(chosen.rounds):
            found = {}
            for kind in ("tls", "plain") if number % 2 else ("plain", "tls"):
                if kind == "tls":
                    found[kind] = cost(dataset)
                else:
                    with plain():
                        found[kind] = cost(dataset)
            rounds.append((found["tls"], found["plain"]))
        for what, index in (("wall time", 1), ("CPU time", 2)):
            ratios = sorted(tls[index] / bare[index] - 1 for tls, bare in rounds)
            print(f"{what}: {median(ratios):+.1%} with TLS ({ratios[0]:+.1%} to {ratios[-1]:+.1%})")
        later = sorted(tls[0] - bare[0] for tls, bare in rounds)
        print(f"first result: {median(later):+.2f} s with TLS ({later[0]:+.2f} to {later[-1]:+.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
