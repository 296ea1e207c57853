"""SIGTERM ends `viptt train` and `viptt predict` within ten seconds, whatever their workers do."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from runs import history_of

from cli import main
from model.run_folder import read_config

pytestmark = pytest.mark.slow

COMMAND = "import sys; from cli import main; main(sys.argv[1:])"
LONGEST_END = 10.0  # from SIGTERM to the end of a command
LONGEST_START = 120.0


@contextmanager
def command(*arguments: object) -> Iterator[psutil.Popen]:
    given = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    process = psutil.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        for member in (process, *process.children(recursive=True)) if process.is_running() else ():
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()


def wait_until(ready: Callable[[], object], process: psutil.Popen) -> None:
    start = time.monotonic()
    while not ready():
        assert process.poll() is None
        assert time.monotonic() - start < LONGEST_START
        time.sleep(0.02)


def ends(process: psutil.Popen) -> bool:
    """Whether it ends in time after SIGTERM, with the exit code that tells of it, and leaves no worker."""
    family = process.children(recursive=True)
    process.terminate()
    code = process.wait(LONGEST_END)
    _, alive = psutil.wait_procs(family, timeout=LONGEST_END)
    running = [member for member in alive if member.status() != psutil.STATUS_ZOMBIE]
    return bool(code == 128 + signal.SIGTERM) and not running


@pytest.fixture
def built(tmp_path: Path, ct_dataset: Callable[..., Path]) -> Path:
    """A catalog of six scans, built and split."""
    catalog = ct_dataset(tmp_path, scans=6, recipe={"shape": [4, 32, 32]})
    for name in ("build", "split"):
        with pytest.raises(SystemExit, match="0"):
            main([name, "-q", "--catalog", str(catalog)])
    return catalog


def test_a_training_ends_and_can_be_resumed(built: Path, tmp_path: Path) -> None:
    run, given = tmp_path / "run", ("--model", "viptt-net-small", "--batch-size", 1, "--catalog", built)
    with command("train", "ct", *given, "--epochs", 100_000, "--run", run) as process:
        wait_until(lambda: (run / "state.npz").exists(), process)
        assert ends(process)
    done = len(history_of(run))
    with command("train", "ct", *given, "--epochs", done + 1, "--run", run, "--resume") as process:
        assert process.wait(LONGEST_START) == 0
    assert len(history_of(run)) == done + 1
    assert read_config(run).settings.epochs == done + 1


def test_a_prediction_ends_whose_workers_are_stopped(built: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = ("--model", "viptt-net-small", "--epochs", 1, "--run", run, "--catalog", built)
    with command("train", "ct", *given) as process:
        assert process.wait(LONGEST_START) == 0
    with command("predict", run, tmp_path / "ct", "--workers", 2) as process:
        wait_until(lambda: stopped_workers(process), process)
        assert ends(process)


def stopped_workers(process: psutil.Popen) -> bool:
    """Stop the workers, which the fork server starts; whether there were any."""
    found = False
    for member in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if member.parent() != process:
                member.suspend()
                found = True
    return found
