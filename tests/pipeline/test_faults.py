"""Kill a build, or let it fail, at every single file operation: the next one ends with the same bytes."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faults import KILLED, STRUCK, UNSTRUCK

RUNNER = Path(__file__).with_name("faults.py")
PICTURES = {"sample": "picture", "shape": [1, 16, 16]}
OTHERS = ("EIO", "EACCES")
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
@pytest.mark.parametrize("recipe", [{}, PICTURES], ids=["stacks", "pictures"])
def test_kill_at_every_file_operation(tmp_path, ct_dataset, recipe):
    results = strike(ct_dataset(tmp_path, scans=3, recipe=recipe), "kill", 1, 1)
    assert len(results) > OPERATIONS
    check(results, KILLED)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["ENOSPC", *(pytest.param(name, marks=pytest.mark.chaos) for name in OTHERS)]
)
def test_error_at_every_file_operation(tmp_path, ct_dataset, fault):
    results = strike(ct_dataset(tmp_path, scans=3), fault, 1, 1)
    assert len(results) > OPERATIONS
    check(results, STRUCK)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "recipe"), [("kill", {}), ("ENOSPC", {}), ("kill", PICTURES)])
def test_fault_at_some_file_operations(tmp_path, ct_dataset, fault, recipe, seed):
    """Every 19th operation; the slow test strikes at all of them."""
    first = random.Random(seed).randint(1, 19)
    results = strike(ct_dataset(tmp_path, scans=3, recipe=recipe), fault, first, 19)
    check(results, KILLED if fault == "kill" else STRUCK)


@pytest.mark.slow
@pytest.mark.chaos
def test_two_hundred_random_kills(tmp_path, ct_dataset, seed):
    """Never an early or incomplete store, and in the end the same bytes."""
    print(f"seed {seed}")
    builds = strike(ct_dataset(tmp_path, scans=6, size=(60, 60, 40)), "random", seed, 200)
    assert len(builds) >= 20
    assert sum(build["kills"] for build in builds) >= 200
    assert all(build["readable"] and build["same"] for build in builds)
