"""A few of the drawn mishaps of `make chaos`, which makes a thousand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("trials.py")
COUNT = 40


@pytest.mark.slow
def test_nothing_is_lost_and_no_damage_passes(seed):
    """In processes of their own: they fork, and an audit hook stays as long as its process."""
    command = [sys.executable, str(PROGRAM), str(COUNT), str(seed)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    *failures, summary = [json.loads(line) for line in process.stdout.splitlines()]
    assert failures == [], process.stderr
    assert sum(summary["trials"].values()) == COUNT
    assert min(summary["trials"].values()) >= COUNT // 8
    assert process.returncode == 0
