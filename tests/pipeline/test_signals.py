"""SIGTERM ends a command, also one that is inside a library that does not return to Python."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A lock of C that is locked twice: no signal gets Python's attention while its thread waits there.
STUCK = """
import ctypes
import pipeline.catalog
import pipeline.signals
from cli import main

pipeline.signals.GRACE_SECONDS = {grace}

def stuck(path):
    lock, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    library.pthread_mutex_lock(lock)
    print("stuck", flush=True)
    library.pthread_mutex_lock(lock)

pipeline.catalog.load_catalog = stuck
main(["check", "--catalog", "catalog.yaml"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="where a thread waits is asked of Linux")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_library_that_does_not_return_is_not_waited_for(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", STUCK.format(grace=0.3)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stuck\n"
        while not Path(f"/proc/{process.pid}/wchan").read_text().startswith("futex"):
            time.sleep(0.01)
        start = time.monotonic()
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert time.monotonic() - start > 0.3
    assert told == "interrupted: run the same command again to go on\n"
