"""Another user of the machine can neither use, read nor stop the local cluster of a build."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import LocalCluster
from distributed.security import Security
from intruder import files_with
from test_chaos import workers_of

from pipeline.build import Options, build, make_plan, pools
from pipeline.catalog import load_catalog

INTRUDER = Path(__file__).with_name("intruder.py")
NO_PAGE = {"HTTP/1.1 404 Not Found", "HTTP/1.1 400 Bad Request"}


def intruder(*arguments: object) -> list[str]:
    """What another user finds; if this one is no superuser, the same user without the cluster's key."""
    command = [sys.executable, str(INTRUDER), *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: list[str] = json.loads(process.stdout)
    return found


def family() -> list[psutil.Process]:
    return [psutil.Process(), *psutil.Process().children(recursive=True)]


def listening() -> set[tuple[str, int]]:
    """Address and port of every TCP socket that takes connections, of this process and all below it."""
    return {
        (connection.laddr.ip, connection.laddr.port)
        for process in family()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def found_during_a_build(catalog: Path, options: Options, look: Callable[[], Any]) -> Any:
    """What ``look()`` finds while a build is under way, which ends well all the same."""
    (dataset,) = load_catalog(catalog).datasets.values()
    found: list[Any] = []

    def report(result: object) -> None:
        if not found:
            found.append(look())

    assert build(make_plan(dataset, options), options, report=report).quarantined == ()
    return found[0]


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_nothing_listens_where_there_is_no_cluster(tmp_path, ct_dataset, scheduler):
    before = listening()
    options = Options(workers=2, scheduler=scheduler)
    assert found_during_a_build(ct_dataset(tmp_path, scans=3), options, listening) == before


@pytest.mark.slow
def test_nobody_else_can_use_or_stop_the_cluster(tmp_path, ct_dataset):
    before = listening()

    def attack() -> tuple[set[tuple[str, int]], list[str]]:
        found = listening() - before
        return found, intruder("tcp", *(port for _, port in found))

    found, answers = found_during_a_build(ct_dataset(tmp_path, scans=3), Options(workers=2), attack)
    assert {address for address, _ in found} == {"127.0.0.1"}
    assert len(found) >= 3  # the scheduler, a worker, and what watches over it
    assert [answer for answer in answers if not harmless(answer)] == []


def harmless(answer: str) -> bool:
    """Whether nobody answered, or a web server without pages did."""
    kind, _, said = answer.partition(": ")
    return kind == "refused" or (kind == "page" and said.partition("\r\n")[0] in {"", *NO_PAGE})


@pytest.mark.slow
def test_the_intruder_succeeds_where_there_is_no_protection():
    """Or the test above would prove nothing."""
    before = listening()
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"):
        answers = intruder("tcp", *(port for _, port in listening() - before))
    assert any(answer.startswith("ran: ") for answer in answers)
    assert any(answer.startswith("page: HTTP/1.1 200 OK") for answer in answers)


@pytest.mark.skipif(os.getuid() != 0, reason="only a superuser can become another user")
def test_nobody_else_reaches_the_server_that_forks_workers(tmp_path, ct_dataset):
    def attack() -> list[str]:
        sockets = {item.laddr for process in family() for item in process.net_connections("unix")}
        return intruder("unix", *sorted(sockets - {""}))

    answers = found_during_a_build(ct_dataset(tmp_path, scans=3), Options(workers=2), attack)
    assert set(answers) == {"refused: PermissionError"}


def test_nobody_else_can_read_the_key(tmp_path, ct_dataset, monkeypatch):
    """It is in no environment, no command line, and in no file that another user can read, or that stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    keys: list[str] = []

    class Known(Security):
        @classmethod
        def temporary(cls, **options: object) -> Security:
            security = Security.temporary(**options)
            keys.append(security.tls_worker_key.splitlines()[5])
            return security

    monkeypatch.setattr(pools, "Security", Known)

    def look() -> tuple[list[bytes], list[str]]:
        processes = [psutil.Process(), *workers_of(psutil.Process())]
        folders = [Path(f"/proc/{process.pid}") for process in processes]
        told = [(folder / name).read_bytes() for folder in folders for name in ("environ", "cmdline")]
        places = [*(folder / "fd" for folder in folders), tempfile.gettempdir(), "/dev/shm"]
        return told, intruder("read", keys[0], *places)

    told, readable = found_during_a_build(ct_dataset(tmp_path, scans=3), Options(workers=2), look)
    assert len(keys[0]) == 64
    assert [text for text in told if keys[0].encode() in text] == []
    assert readable == []
    assert files_with(keys[0], [str(tmp_path)]) == []
