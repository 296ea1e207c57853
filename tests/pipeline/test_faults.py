"""Kill a build, or let it fail, at every single file operation: the next one ends with the same bytes."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from faults import KILLED, STRUCK, UNSTRUCK, tree

from pipeline.build import Options, build, make_plan
from pipeline.catalog import load_catalog
from pipeline.store import open_store

RUNNER = Path(__file__).with_name("faults.py")
OPERATIONS = 40  # a build of three samples has more than these


def strike(catalog: Path, fault: str, first: int, step: int) -> list[dict[str, Any]]:
    command = [sys.executable, str(RUNNER), str(catalog), fault, str(first), str(step)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


def check(results: list[dict[str, Any]], expected: int) -> None:
    for result in results[:-1]:
        assert result["code"] == expected, result
    assert results[-1]["code"] == UNSTRUCK
    for result in results:
        assert result["readable"], result
        assert result["resumed"], result
        assert result["same"], result
        assert result["left"] == [], result


@pytest.mark.slow
def test_kill_at_every_file_operation(tmp_path, ct_dataset):
    results = strike(ct_dataset(tmp_path, scans=3), "kill", 1, 1)
    assert len(results) > OPERATIONS
    check(results, KILLED)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["ENOSPC", "EIO", "EACCES"])
def test_error_at_every_file_operation(tmp_path, ct_dataset, fault):
    results = strike(ct_dataset(tmp_path, scans=3), fault, 1, 1)
    assert len(results) > OPERATIONS
    check(results, STRUCK)


@pytest.mark.parametrize("fault", ["kill", "ENOSPC"])
def test_fault_at_some_file_operations(tmp_path, ct_dataset, fault):
    """The fast tier: every 9th operation; the slow one takes them all."""
    results = strike(ct_dataset(tmp_path, scans=3), fault, random.randint(1, 9), 9)
    check(results, KILLED if fault == "kill" else STRUCK)


@pytest.mark.slow
def test_two_hundred_random_kills(tmp_path, ct_dataset):
    """T1: SIGKILL at random moments of builds on two worker processes, then a calm one."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    moments = random.Random(seed)
    calm = ct_dataset(tmp_path / "calm", scans=6, size=(40, 40, 30))
    expected = finish(calm)
    kills = builds = 0
    while kills < 200 or builds < 20:
        catalog = ct_dataset(tmp_path / str(builds), scans=6, size=(40, 40, 30))
        store = catalog.parent / "cache/ct.zarr"
        builds += 1
        for _ in range(12):
            kills += killed(catalog, moments.uniform(0.3, 2.0))
            if store.exists():  # never early: a store that is there is whole
                assert len(open_store(store).rows) == 6
        assert finish(catalog) == expected, f"build {builds}, seed {seed}"
    print(f"{kills} kills over {builds} builds, all trees identical")


CODE = "import sys; from cli import main; main(['build', *sys.argv[1:]])"


def killed(catalog: Path, delay: float) -> bool:
    """Start a build, kill it after a while; whether it was still running."""
    options = ["--scheduler", "sync", "--no-progress", "--catalog", str(catalog)]
    with subprocess.Popen([sys.executable, "-c", CODE, *options], stderr=subprocess.DEVNULL) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    return process.returncode == -signal.SIGKILL


def finish(catalog: Path) -> dict[str, str]:
    (dataset,) = load_catalog(catalog).datasets.values()
    build(make_plan(dataset, Options(scheduler="sync")), Options(scheduler="sync"))
    return tree(dataset.store)
