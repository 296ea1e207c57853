"""`check --deep` decodes in workers under limits: a source that ends its worker costs only itself."""

import sys
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest
from test_watchdog import Clumsy, Glutton, Hang, Segfault

from pipeline import check as checking
from pipeline.build import Options
from pipeline.catalog import load_catalog
from pipeline.check import check

cloudpickle.register_pickle_by_value(sys.modules["test_watchdog"])
POISON = {
    1: (Segfault, "crash"),
    4: (Hang, "timeout"),
    6: (Glutton, "memory"),
    8: (Clumsy, "decoder-failed"),
}


@pytest.mark.slow
def test_poison_costs_only_itself(tmp_path, ct_dataset, monkeypatch):
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=12)).datasets.values()
    list_samples = checking.list_samples

    def poisoned(*arguments, **options):
        listing = list_samples(*arguments, **options)
        samples = list(listing.samples)
        for index, (kind, _) in POISON.items():
            samples[index] = replace(samples[index], path=kind(samples[index].path))
        return replace(listing, samples=tuple(samples))

    monkeypatch.setattr(checking, "list_samples", poisoned)
    told = []
    found = check(dataset, Options(workers=2, timeout=5, memory="1GB"), deep=True, report=told.append)
    assert {item.source: item.problem.code for item in found.bad} == {
        f"TRN_{index:04d}.nii.gz": code for index, (_, code) in POISON.items()
    }
    assert sum(found.kinds.values()) == 12 - len(POISON)
    assert len(told) == 12


def test_a_shallow_check_starts_no_worker(tmp_path, ct_dataset, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise AssertionError("a worker")

    monkeypatch.setattr("pipeline.build.execute.open_pool", refuse)
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=3)).datasets.values()
    assert check(dataset, Options(workers=2)).largest == (7, 18, 20)
    with pytest.raises(AssertionError, match="a worker"):
        check(dataset, Options(workers=2), deep=True)


def test_a_deep_check_leaves_nothing_behind(tmp_path, ct_dataset):
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=3)).datasets.values()
    before = sorted(Path(tmp_path).rglob("*"))
    assert check(dataset, Options(workers=1), deep=True).bad == ()
    assert sorted(Path(tmp_path).rglob("*")) == before
