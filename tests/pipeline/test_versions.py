"""What made a volume is told of each volume, and a raised converter number makes its volumes anew."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.build import Options, build, make_plan, preview, versions
from pipeline.build import plan as planning
from pipeline.catalog import load_catalog
from pipeline.readers import SOURCE_TYPES
from pipeline.store import Store, open_store

SYNC = Options(scheduler="sync")


def run(catalog: Path, name: str) -> tuple[Any, Store]:
    dataset = load_catalog(catalog).datasets[name]
    return build(make_plan(dataset, SYNC), SYNC), open_store(dataset.store)


@pytest.fixture
def made_by_scipy_0(tmp_path, ct_dataset, video_dataset, monkeypatch) -> Path:
    """The catalog of a dataset of scans and one of clips, built as if by another version of SciPy."""
    ct_dataset(tmp_path, scans=5)
    catalog = video_dataset(tmp_path, groups=1)
    own = versions.versions()
    with monkeypatch.context() as patch:
        for module in (versions, planning):
            patch.setattr(module, "versions", lambda: {**own, "scipy": "0.1"})
        versions.made_with.cache_clear()
        run(catalog, "ct")
        run(catalog, "video")
    versions.made_with.cache_clear()
    return catalog


def test_volumes_keep_the_versions_that_made_them(made_by_scipy_0, write_nifti):
    """And the header tells of all, never of the present ones alone."""
    own, source = versions.versions(), made_by_scipy_0.parent / "ct/TRN_0001.nii.gz"
    write_nifti(source, [[[-1000, 0], [5, 9]], [[3, 2], [9, 400]]], dtype="int16")
    summary, store = run(made_by_scipy_0, "ct")
    assert (summary.converted, summary.reused) == (1, 4)
    made = [json.loads(row.made_with)["scipy"] for row in store.rows]
    assert made == ["0.1", own["scipy"], "0.1", "0.1", "0.1"]
    assert set(store.header.created_with["scipy"].split(", ")) == {"0.1", own["scipy"]}
    assert {name: store.header.created_with[name] for name in own if name != "scipy"} == {
        name: version for name, version in own.items() if name != "scipy"
    }


def test_a_store_that_is_up_to_date_keeps_what_its_header_says(made_by_scipy_0):
    summary, store = run(made_by_scipy_0, "ct")
    assert (summary.converted, summary.published) == (0, False)
    assert store.header.created_with["scipy"] == "0.1"


def test_a_raised_number_redoes_the_volumes_of_that_type_alone(made_by_scipy_0, monkeypatch):
    raised = replace(SOURCE_TYPES["nifti"], converter=SOURCE_TYPES["nifti"].converter + 1)
    monkeypatch.setitem(SOURCE_TYPES, "nifti", raised)
    dataset = load_catalog(made_by_scipy_0).datasets["ct"]
    assert preview(make_plan(dataset, SYNC)).convert == {"another converter": 5}
    before = open_store(dataset.store)
    summary, store = run(made_by_scipy_0, "ct")
    assert (summary.converted, summary.reused) == (5, 0)
    assert {json.loads(row.made_with)["converter"] for row in store.rows} == {raised.converter}
    assert store.header.created_with == versions.versions()
    assert store.digest == before.digest  # the same bytes, as only the number was raised
    assert run(made_by_scipy_0, "ct")[0].published is False
    assert run(made_by_scipy_0, "video")[0].converted == 0
