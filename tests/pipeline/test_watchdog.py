"""Poison among good sources, on real workers: it costs itself, and its reason is told."""

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cloudpickle
import pytest

from pipeline.build import Options, build, make_plan
from pipeline.build.pools import BATCHES_HELD
from pipeline.catalog import load_catalog

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not see the tests


class Segfault(type(Path())):
    """A source whose reading crashes the process, as a decoder's bug may."""

    def stat(self, **options: object) -> os.stat_result:
        ctypes.string_at(0)
        raise AssertionError


class Hang(type(Path())):
    """A source whose reading never ends."""

    def stat(self, **options: object) -> os.stat_result:
        time.sleep(3600)
        raise AssertionError


class Killer(type(Path())):
    """A source over which the process is killed from outside, as by the system short of memory."""

    def stat(self, **options: object) -> os.stat_result:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Glutton(type(Path())):
    """A source that wants more memory than there is."""

    def stat(self, **options: object) -> os.stat_result:
        hoard = [bytearray(1 << 28) for _ in range(1000)]
        raise AssertionError(len(hoard))


class Clumsy(type(Path())):
    """A source whose decoder raises what nobody expected."""

    def stat(self, **options: object) -> os.stat_result:
        raise ZeroDivisionError("in the decoder")


class Curious(type(Path())):
    """A source that tells of its worker: threads where it was forked, log, signals."""

    def stat(self, **options: object) -> os.stat_result:
        threads = len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))
        level = logging.getLogger("distributed.batched").getEffectiveLevel()
        blocked = {signal.SIGINT, signal.SIGTERM} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
        raise ZeroDivisionError(
            f"forked from {threads} thread, log level {level}, signals blocked: {blocked}"
        )


POISON = {
    1: (Segfault, "crash"),
    3: (Hang, "timeout"),
    5: (Killer, "crash"),
    7: (Glutton, "memory"),
    9: (Clumsy, "decoder-failed"),
}


@pytest.mark.slow
def test_poison_costs_only_itself(tmp_path, ct_dataset):
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=16)).datasets.values()
    options = Options(workers=2, timeout=15, memory="1GB")
    plan = make_plan(dataset, options)
    samples = list(plan.samples)
    for index, (kind, _) in POISON.items():
        samples[index] = replace(samples[index], path=kind(samples[index].path))
    summary = build(replace(plan, samples=tuple(samples)), options)
    found = {item.source: item.problem.code for item in summary.quarantined}
    assert found == {samples[index].source: code for index, (_, code) in POISON.items()}
    assert summary.samples == 16 - len(POISON)
    assert not list(dataset.store.parent.glob("*.building"))


def test_a_crash_is_tried_again_by_the_next_build(tmp_path, ct_dataset):
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=4)).datasets.values()
    options = Options(workers=1)
    plan = make_plan(dataset, options)
    crashing = (replace(plan.samples[0], path=Segfault(plan.samples[0].path)), *plan.samples[1:])
    assert len(build(replace(plan, samples=crashing), options).quarantined) == 1
    summary = build(plan, Options(scheduler="sync"))
    assert (summary.converted, summary.reused, summary.quarantined) == (1, 3, ())


def test_workers_start_without_threads_and_end_without_a_word(tmp_path, ct_dataset):
    """A fork copies one thread alone: a lock that another one held would never be freed. A signal that all
    processes get is for the one that can end the others in good order.
    """
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=2)).datasets.values()
    plan = make_plan(dataset, Options())
    curious = (replace(plan.samples[0], path=Curious(plan.samples[0].path)), *plan.samples[1:])
    (item,) = build(replace(plan, samples=curious), Options()).quarantined
    assert item.problem.reason == (
        "its decoder failed: ZeroDivisionError: forked from 1 thread, log level 50, signals blocked: True"
    )


def test_what_is_set_for_workers_is_not_left_behind(tmp_path, ct_dataset, monkeypatch):
    """As it would be inherited by every program that is started later."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=2)).datasets.values()
    build(make_plan(dataset, Options()), Options())
    assert "PYTHONSAFEPATH" not in os.environ


class Fragile:
    """Meets a signal where Python cannot raise an exception."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def on_sigint() -> Iterator[Callable[[object], object]]:
    """Sets what SIGINT does; the tests may themselves run where it is ignored."""
    before = signal.getsignal(signal.SIGINT)
    yield partial(signal.signal, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("at", [1, 12], ids=["first", "last"])
def test_a_signal_is_not_lost_wherever_it_comes(tmp_path, ct_dataset, on_sigint, at):
    on_sigint(signal.default_int_handler)
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=12)).datasets.values()
    options = Options(scheduler="threads", workers=2)
    results = []

    def report(result):
        results.append(result)
        if len(results) == at:
            Fragile()

    with pytest.raises(KeyboardInterrupt):
        build(make_plan(dataset, options), options, report=report)
    assert len(results) <= at + BATCHES_HELD * options.workers  # those that were done already
    assert not dataset.store.exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert build(make_plan(dataset, options), options).reused >= at


def test_a_signal_that_is_ignored_stays_ignored(tmp_path, ct_dataset, on_sigint):
    on_sigint(signal.SIG_IGN)
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=2)).datasets.values()
    options = Options(scheduler="threads")
    summary = build(
        make_plan(dataset, options), options, report=lambda result: signal.raise_signal(signal.SIGINT)
    )
    assert summary.samples == 2
