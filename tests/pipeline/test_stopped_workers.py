"""Workers that are stopped (SIGSTOP), so that they neither work nor answer nor end by themselves."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest
from test_chaos import workers_of

from pipeline.build import Options, batches, build, make_plan, pools
from pipeline.build.execute import run_jobs
from pipeline.catalog import load_catalog
from pipeline.errors import Problem
from pipeline.store import open_store

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not see the tests

TIMEOUT = 3.0
LONGEST = TIMEOUT + 30
STOPS = 50
LONGEST_END = 10.0  # from SIGTERM to the end of a command
COMMAND = "import sys; from cli import main; main(sys.argv[1:])"
HANGING = """
import sys, time
from pathlib import Path
from pipeline.build import worker

def hash_file(path):
    Path(sys.argv[1]).touch()
    time.sleep(3600)

worker.hash_file = hash_file
from cli import main
main(sys.argv[2:])
"""


def stop_once(marker: str) -> None:
    """Stop this process, unless it or another one has been stopped over the same already."""
    with suppress(FileExistsError):
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        os.kill(os.getpid(), signal.SIGSTOP)


class Stopping(type(Path())):
    """A source over which the first worker is stopped that reads it."""

    def stat(self, **options: object) -> os.stat_result:
        stop_once(f"{os.fspath(self)}.stopped")
        return os.stat(os.fspath(self))  # noqa: PTH116


@pytest.fixture
def little_grace(monkeypatch):
    """For workers that only seem to enforce the time limit."""
    monkeypatch.setattr(pools, "GRACE_SECONDS", 1.0)


def hashes(store: Path) -> dict[str, str]:
    return {row.source: row.sha256 for row in open_store(store).rows}


def dataset_and_truth(catalog: Path) -> tuple[Any, dict[str, str]]:
    """The dataset, and the hash of each volume of an undisturbed build of it."""
    (dataset,) = load_catalog(catalog).datasets.values()
    calm = dataset.model_copy(update={"store": dataset.store.with_name("calm.zarr")})
    build(make_plan(calm, Options(scheduler="sync")), Options(scheduler="sync"))
    return dataset, hashes(calm.store)


@pytest.mark.slow
def test_a_source_is_tried_elsewhere_when_its_worker_is_stopped(tmp_path, ct_dataset, little_grace):
    dataset, truth = dataset_and_truth(ct_dataset(tmp_path, scans=12))
    options = Options(workers=2, timeout=TIMEOUT)
    plan = make_plan(dataset, options)
    samples = list(plan.samples)
    samples[3] = replace(samples[3], path=Stopping(samples[3].path))
    start = time.monotonic()
    summary = build(replace(plan, samples=tuple(samples)), options)
    assert time.monotonic() - start < LONGEST
    assert Path(f"{samples[3].path}.stopped").exists()
    assert summary.quarantined == ()
    assert hashes(dataset.store) == truth


# --- a worker that has an answer, and does not give it --------------------------------------------


@dataclass(frozen=True)
class Question:
    """A job of the smallest kind."""

    source: str
    path: Path
    trace: Path

    def lost(self, problem: Problem) -> Problem:
        return problem


@dataclass(frozen=True)
class Answer:
    """A result that stops its worker on its way to the driver, once; one that comes is a text."""

    marker: str

    def __reduce__(self) -> tuple[type, tuple[str]]:
        stop_once(self.marker)
        return str, (self.marker,)


@pytest.mark.slow
def test_an_answer_that_does_not_come_is_asked_of_another_worker(tmp_path, little_grace):
    jobs = [Question(str(number), tmp_path / "source", tmp_path / f"{number}.trace") for number in range(6)]
    awaited, plain = str(tmp_path / "marker"), "plain"

    def work(job: Question) -> object:
        return Answer(awaited) if job.source == "2" else plain

    start = time.monotonic()
    found = list(run_jobs(jobs, Options(workers=2, timeout=TIMEOUT), work))
    assert time.monotonic() - start < LONGEST
    assert Path(awaited).exists()
    assert sorted(found) == sorted([awaited] + 5 * [plain])


def slow_answer(job: Question) -> int:
    """Well within the time limit of one source; the process that worked on it."""
    time.sleep(0.2 * TIMEOUT)
    return os.getpid()


@pytest.mark.slow
def test_a_worker_that_is_busy_with_many_sources_is_not_taken_for_stopped(
    tmp_path, little_grace, monkeypatch
):
    """The time limit is that of one source, though several go to a worker at once."""
    monkeypatch.setattr(batches, "GROWTH", 1)
    jobs = [Question(str(number), tmp_path / "source", tmp_path / f"{number}.trace") for number in range(15)]
    jobs[0].path.write_bytes(b"small")
    found = list(run_jobs(jobs, Options(workers=1, timeout=TIMEOUT), slow_answer))
    assert len(found) == len(jobs)
    assert len(set(found)) == 1


# --- from outside, at any moment ------------------------------------------------------------------


@contextmanager
def stopping(choose: Callable[[], list[psutil.Process]]) -> Iterator[threading.Event]:
    """Until the block ends, stop the processes that are chosen, some fifty times a second."""
    ended, stopped = threading.Event(), threading.Event()

    def run() -> None:
        while not ended.wait(0.02):
            for worker in choose():
                with suppress(psutil.NoSuchProcess):
                    worker.suspend()
                    stopped.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield stopped
    finally:
        ended.set()
        thread.join()


def test_a_build_does_not_wait_for_workers_that_are_stopped_after_their_last_result(tmp_path, ct_dataset):
    dataset, truth = dataset_and_truth(ct_dataset(tmp_path, scans=4))
    options = Options(workers=2)
    done = []

    def report(result: object) -> None:
        done.append(result)
        if len(done) == len(truth):
            for worker in workers_of(psutil.Process()):
                worker.suspend()

    start = time.monotonic()
    build(make_plan(dataset, options), options, report=report)
    assert time.monotonic() - start < LONGEST
    assert hashes(dataset.store) == truth


def test_a_worker_that_is_stopped_while_it_starts_holds_nobody(tmp_path, ct_dataset):
    dataset, truth = dataset_and_truth(ct_dataset(tmp_path, scans=8))
    options = Options(workers=2, timeout=TIMEOUT)
    victims: list[psutil.Process] = []

    def first_seen() -> list[psutil.Process]:
        if not victims:
            victims.extend(workers_of(psutil.Process())[:1])
            return victims
        return []

    start = time.monotonic()
    with stopping(first_seen) as stopped:
        build(make_plan(dataset, options), options)
    assert time.monotonic() - start < LONGEST
    assert stopped.is_set()
    assert hashes(dataset.store) == truth


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_fifty_stops_at_drawn_moments(tmp_path, ct_dataset, seed):
    """Builds until so many stops have come while a build was under way; one that came too late is none."""
    dataset, truth = dataset_and_truth(ct_dataset(tmp_path, scans=60, size=(64, 64, 40)))
    options = Options(workers=2, timeout=TIMEOUT)
    print(f"seed {seed}")
    moments, seconds, builds = random.Random(seed), list[float](), 0
    while len(seconds) < STOPS:
        one = dataset.model_copy(update={"store": tmp_path / f"{builds}.zarr"})
        builds += 1
        with Stopper(moments) as stopper:
            start = time.monotonic()
            summary = build(make_plan(one, options), options)
            taken = time.monotonic() - start
        assert summary.quarantined == (), f"seed {seed}, build {builds}"
        assert hashes(one.store) == truth, f"seed {seed}, build {builds}"
        assert taken < LONGEST, f"seed {seed}, build {builds}"
        seconds += [taken] * stopper.stopped
    print(f"{len(seconds)} stops in {builds} builds, which took {min(seconds):.1f} to {max(seconds):.1f} s")


class Stopper(threading.Thread):
    """Stops one worker, at a drawn moment after the first one is there, unless the build has ended."""

    def __init__(self, moments: random.Random) -> None:
        super().__init__()
        self.delay, self.choice = moments.uniform(0, 1), moments.random()
        self.ended, self.stopped = threading.Event(), False

    def run(self) -> None:
        while not workers_of(psutil.Process()):
            if self.ended.wait(0.02):
                return
        if self.ended.wait(self.delay):
            return
        workers = workers_of(psutil.Process())
        with suppress(psutil.NoSuchProcess, IndexError):
            worker = workers[int(self.choice * len(workers))]
            worker.suspend()
            while not self.ended.wait(0.005) and not self.stopped:  # the system takes a moment
                self.stopped = worker.status() == psutil.STATUS_STOPPED

    def __enter__(self) -> "Stopper":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ended.set()
        self.join()


# --- signals --------------------------------------------------------------------------------------


@contextmanager
def command(*arguments: str, program: str = COMMAND) -> Iterator[psutil.Popen]:
    process = psutil.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            process.kill()
        process.wait()


def seconds_until_ended(process: psutil.Popen) -> float:
    """From SIGTERM to the end with the exit code that tells of it; no worker is left."""
    family = process.children(recursive=True)
    start = time.monotonic()
    process.terminate()
    assert process.wait(2 * LONGEST_END) == 128 + signal.SIGTERM
    seconds = time.monotonic() - start
    while any(runs(member) for member in family):
        assert time.monotonic() - start < LONGEST_END
        time.sleep(0.01)
    return seconds


def runs(process: psutil.Process) -> bool:
    """An orphan that nobody has waited for stays as a zombie."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("moment", "arguments"),
    [
        pytest.param("starting", ("check", "--deep", "--workers", "2"), marks=pytest.mark.slow),
        ("working", ("build", "--workers", "2")),
        pytest.param("starting", ("build", "--workers", "2"), marks=pytest.mark.slow),
        pytest.param("working", ("check", "--deep", "--workers", "2"), marks=pytest.mark.slow),
        pytest.param("working", ("verify", "--repair"), marks=pytest.mark.slow),
    ],
)
def test_sigterm_ends_a_command_whose_workers_are_stopped(tmp_path, ct_dataset, arguments, moment):
    """Stopped as soon as they appear, or as soon as both hold a source."""
    catalog = ct_dataset(tmp_path, scans=4, size=(192, 192, 80))
    if "--repair" in arguments:
        (dataset,) = load_catalog(catalog).datasets.values()
        build(make_plan(dataset, Options(scheduler="sync")), Options(scheduler="sync"))
        store = open_store(dataset.store)
        for index in range(len(store.rows)):
            store.chunk(index).unlink()
    with command(*arguments, "--catalog", str(catalog)) as process:

        def choose() -> list[psutil.Process]:
            workers = workers_of(process)
            return workers if moment == "starting" or all(map(holds_a_source, workers)) else []

        with stopping(choose) as stopped:
            assert stopped.wait(60)
        assert seconds_until_ended(process) < LONGEST_END


def holds_a_source(worker: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return any(file.path.endswith(".trace") for file in worker.open_files())
    return False


@pytest.mark.slow
def test_sigterm_ends_threads_whose_decoder_hangs(tmp_path, ct_dataset):
    catalog, begun = ct_dataset(tmp_path, scans=4), tmp_path / "begun"
    arguments = (str(begun), "build", "--scheduler", "threads", "--catalog", str(catalog))
    with command(*arguments, program=HANGING) as process:
        while not begun.exists():
            assert process.poll() is None
            time.sleep(0.01)
        assert seconds_until_ended(process) < LONGEST_END
