"""Memory of workers: too little is refused at once, and a worker's own needs are not held against it."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import pytest
from test_stopped_workers import COMMAND, Question

from pipeline.build import Options, build, default_workers, make_plan, options
from pipeline.build.execute import run_jobs
from pipeline.build.watchdog import SPARE_BYTES, Limits, data_segment, limited
from pipeline.catalog import load_catalog
from pipeline.errors import ResourceError

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not see the tests

LONGEST = 30.0
LIMIT = 1 << 30


@pytest.mark.parametrize("limit", ["10MB", "100MB", "150MB"])
def test_too_little_memory_is_refused_before_any_source_is_blamed(tmp_path, ct_dataset, limit):
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=6)).datasets.values()
    tight = Options(workers=2, memory=limit)
    start = time.monotonic()
    with pytest.raises(ResourceError) as caught:
        build(make_plan(dataset, tight), tight)
    assert time.monotonic() - start < LONGEST
    ((code, reason),) = [(problem.code, problem.reason) for problem in caught.value.problems]
    assert code == "memory"
    assert reason.startswith(f"a worker has {limit.removesuffix('MB')} MB; before its first source it needs ")
    assert not dataset.store.exists()
    assert not dataset.quarantine_file.exists()
    assert build(make_plan(dataset, Options()), Options()).samples == 6


def test_a_system_that_gives_too_little_memory(tmp_path, ct_dataset):
    catalog = str(ct_dataset(tmp_path, scans=6))
    program = [sys.executable, "-c", COMMAND, "build", "--catalog", catalog]
    command = ["sh", "-c", 'ulimit -m 200000; exec "$@"', "sh", *program]
    process = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    assert process.returncode == ResourceError.exit_code, process.stderr
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("workers: ")]
    assert line.startswith("workers: memory: a worker has ")


@pytest.mark.parametrize(
    ("memory", "cores", "workers"), [(64 << 30, 8, 8), (4 << 30, 8, 4), (1 << 29, 8, 1), (1 << 40, 1, 1)]
)
def test_no_more_workers_than_memory_feeds(monkeypatch, memory, cores, workers):
    monkeypatch.setattr(options.system, "MEMORY_LIMIT", memory)
    assert default_workers(cores) == workers


def memory_limit(job: Question) -> tuple[int, int]:
    """The process, and its limit while it works on a source."""
    return os.getpid(), resource.getrlimit(resource.RLIMIT_DATA)[0]


def test_a_worker_is_limited_only_while_it_works(tmp_path):
    """Or what Dask does in it between two sources would fail, and the worker would neither work nor end."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with limited(Limits(60.0, 16 << 30), tmp_path / "trace"):
        assert resource.getrlimit(resource.RLIMIT_DATA) == (16 << 30, before[1])
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with pytest.raises(ZeroDivisionError), limited(Limits(60.0, 16 << 30), tmp_path / "trace"):
        raise ZeroDivisionError
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def hoard(job: Question) -> int:
    """Take nearly all memory that there is, and keep it, as a decoder's cache may."""
    if job.source == "0":
        resource.kept = bytearray(LIMIT - data_segment() - SPARE_BYTES // 2)
    return os.getpid()


def test_what_earlier_sources_left_behind_does_not_end_a_build(tmp_path):
    """Only a worker that had too little at its start is refused."""
    jobs = [Question(str(number), tmp_path / "x", tmp_path / f"{number}.trace") for number in range(6)]
    found = list(run_jobs(jobs, Options(workers=1, memory=str(LIMIT)), hoard))
    assert len(found) == len(jobs)
    assert len(set(found)) == 1


def test_a_worker_limits_itself_for_each_source(tmp_path):
    jobs = [Question(str(number), Path(tmp_path / "x"), tmp_path / f"{number}.trace") for number in range(4)]
    assert {limit for _, limit in run_jobs(jobs, Options(memory="1GB"), memory_limit)} == {10**9}
