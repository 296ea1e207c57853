"""A Dask cluster of somebody else's: scheduler and workers are processes that know nothing of this one."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client
from test_build import tree_hash
from test_watchdog import Segfault

from pipeline.build import Options, build, make_plan
from pipeline.catalog import load_catalog
from pipeline.errors import ConfigError, ResourceError

COMMON = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a scheduler, and a function that starts two workers for it."""
    folder = tmp_path_factory.mktemp("cluster")
    address = folder / "scheduler.json"
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with ExitStack() as stack, (folder / "log").open("w") as log:

        def start(*arguments):
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, "--scheduler-file", address, *COMMON],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start("scheduler", "--port", "0")
        while not address.exists():
            time.sleep(0.05)

        with Client(scheduler_file=address) as client:
            yield (
                client.scheduler.address,
                lambda: (
                    start("worker", "--nworkers", "2", "--nthreads", "1"),
                    client.wait_for_workers(2, timeout=60),
                ),
            )


@pytest.mark.slow
def test_builds_on_a_cluster(cluster, tmp_path, ct_dataset):
    """In order, because workers are started once."""
    address, start_workers = cluster
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=8)).datasets.values()
    options = Options(scheduler=address)
    plan = make_plan(dataset, options)

    with pytest.raises(ResourceError, match="no-workers"):
        build(plan, options)
    start_workers()

    alone = dataset.model_copy(update={"store": tmp_path / "alone/ct.zarr"})
    build(make_plan(alone, Options(scheduler="sync")), Options(scheduler="sync"))
    assert build(plan, options).samples == 8
    assert tree_hash(dataset.store) == tree_hash(alone.store)

    elsewhere = dataset.model_copy(update={"store": tmp_path / "elsewhere/ct.zarr"})
    samples = list(plan.samples)
    samples[3] = replace(samples[3], path=Segfault(samples[3].path))
    poisoned = replace(plan, dataset=elsewhere, samples=tuple(samples))
    summary = build(poisoned, options)
    ((source, code),) = [(item.source, item.problem.code) for item in summary.quarantined]
    assert (source, code, summary.samples) == (samples[3].source, "crash", 7)


@pytest.mark.slow  # as long as it waits for an answer
def test_an_address_where_nobody_listens(tmp_path, ct_dataset):
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=2)).datasets.values()
    options = Options(scheduler="tcp://127.0.0.1:9")
    with pytest.raises(ConfigError, match="no-scheduler"):
        build(make_plan(dataset, options), options)
