"""A batch that is done, but whose results never come, is given up: no wait without a limit."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.build import pools
from pipeline.build.jobs import Outcome, WorkerLostError


class Done:
    """Stands for a Dask future of a task that ended well."""

    status = "finished"
    key = "work-1"

    def add_done_callback(self, call: Callable[[Any], None]) -> None:
        call(self)


class Cluster:
    """Stands for a Dask client whose workers' events are all lost."""

    status = "running"

    def nthreads(self) -> dict[str, int]:
        return {"worker": 1}

    def subscribe_topic(self, topic: str, handler: Callable[[Any], None]) -> None:
        self.handler = handler

    def submit(self, *arguments: Any, **options: Any) -> Done:
        return Done()


@pytest.fixture
def told() -> list[Outcome]:
    return []


def test_results_that_never_come_are_told_as_lost(
    monkeypatch: pytest.MonkeyPatch, told: list[Outcome]
) -> None:
    pool = pools.RemotePool(Cluster(), told.append)  # type: ignore[arg-type]
    pool.submit(7, len, [])
    pool.tend()
    assert told == []
    monkeypatch.setattr(pools, "ANSWER_SECONDS", -1.0)
    pool.tend()
    pool.tend()
    (outcome,) = told
    assert outcome.batch == 7
    assert isinstance(outcome.error, WorkerLostError)
