"""Poison among good sources, on real workers: it costs itself, and its reason is told."""

import ctypes
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest

from pipeline.build import Options, build, make_plan
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
