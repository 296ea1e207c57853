"""Builds on real files: what is stored, what is kept, what is quarantined, and who may build."""

import csv
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.build import Options, build, make_plan
from pipeline.catalog import load_catalog
from pipeline.errors import BusyError, ConfigError, TooManyBadError
from pipeline.store import open_store

SYNC = Options(scheduler="sync")


def tree_hash(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def only_dataset(catalog: Path):
    (dataset,) = load_catalog(catalog).datasets.values()
    return dataset


def run(catalog: Path, options: Options = SYNC):
    return build(make_plan(only_dataset(catalog), options), options)


def quarantine(catalog: Path) -> dict[str, str]:
    path = only_dataset(catalog).quarantine_file
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row["source"]: row["code"] for row in csv.DictReader(file)}


@pytest.fixture
def ct(tmp_path, ct_dataset) -> Path:
    return ct_dataset(tmp_path, scans=6)


def store_of(catalog: Path) -> Path:
    return only_dataset(catalog).store


# --- a build ------------------------------------------------------------------------------------


def test_builds_a_store_with_sorted_rows(ct):
    summary = run(ct)
    store = open_store(store_of(ct))
    assert (summary.samples, summary.converted, summary.published) == (6, 6, True)
    assert [row.id for row in store.rows] == [f"TRN_{number:04d}" for number in range(6)]
    assert [row.group for row in store.rows] == [f"P{number:03d}" for number in range(6)]
    source = ct.parent / "ct" / "TRN_0003.nii.gz"
    assert store.rows[3].source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert json.loads(store.rows[3].facts)["shape"] == [7, 18, 20]
    assert store.digest == summary.digest
    assert not store_of(ct).with_name("ct.zarr.building").exists()


def test_second_build_does_nothing(ct):
    run(ct)
    before = tree_hash(ct.parent)
    times = {path: path.stat().st_mtime_ns for path in store_of(ct).rglob("*")}
    summary = run(ct)
    assert (summary.converted, summary.reused, summary.published) == (0, 6, False)
    assert tree_hash(ct.parent) == before
    assert {path: path.stat().st_mtime_ns for path in store_of(ct).rglob("*")} == times


def test_changed_source_redoes_only_itself(ct, ct_dataset, tmp_path_factory):
    run(ct)
    other = ct_dataset(tmp_path_factory.mktemp("other"), scans=6, seed=1)
    shutil.copy(other.parent / "ct/TRN_0002.nii.gz", ct.parent / "ct/TRN_0002.nii.gz")
    before = open_store(store_of(ct)).rows
    summary = run(ct)
    after = open_store(store_of(ct)).rows
    assert (summary.converted, summary.reused) == (1, 5)
    assert [old == new for old, new in zip(before, after, strict=True)] == [
        True,
        True,
        False,
        True,
        True,
        True,
    ]


def test_added_and_removed_sources(ct, write_nifti):
    run(ct)
    labels = ct.parent / "ct/labels.csv"
    (ct.parent / "ct/TRN_0000.nii.gz").unlink()
    write_nifti(ct.parent / "ct/TRN_0009.nii.gz", np.arange(4 * 5 * 6).reshape(4, 5, 6), dtype="int16")
    labels.write_text(labels.read_text().replace("TRN_0000.nii.gz,1,P000", "TRN_0009.nii.gz,2,P009"))
    summary = run(ct)
    assert (summary.converted, summary.reused) == (1, 5)
    assert [row.id for row in open_store(store_of(ct)).rows][-1] == "TRN_0009"


def test_changed_label_keeps_the_volumes(ct):
    run(ct)
    labels = ct.parent / "ct/labels.csv"
    labels.write_text(labels.read_text().replace("TRN_0000.nii.gz,1", "TRN_0000.nii.gz,2"))
    summary = run(ct)
    assert (summary.converted, summary.reused, summary.published) == (0, 6, True)
    assert open_store(store_of(ct)).rows[0].label == 1


def test_changed_recipe_redoes_everything(ct):
    run(ct)
    dataset = only_dataset(ct)
    recipe = dataset.recipe.model_copy(update={"spline_order": 1})
    summary = build(make_plan(dataset.model_copy(update={"recipe": recipe}), SYNC), SYNC)
    assert (summary.converted, summary.reused, summary.published) == (6, 0, True)
    assert open_store(store_of(ct)).header.recipe["spline_order"] == 1


def test_limit_takes_the_first_by_id(ct):
    assert run(ct, replace(SYNC, limit=2)).samples == 2
    assert [row.id for row in open_store(store_of(ct)).rows] == ["TRN_0000", "TRN_0001"]
    summary = run(ct)
    assert (summary.converted, summary.reused) == (4, 2)


def test_same_bytes_whatever_runs_it(tmp_path, ct_dataset):
    """Workers, schedulers and TZ leave no trace in a store."""
    trees = []
    variants = [SYNC, Options(workers=2, scheduler="local"), Options(workers=3, scheduler="threads")]
    for number, options in enumerate(variants):
        catalog = ct_dataset(tmp_path / str(number), scans=5)
        run(catalog, options)
        trees.append(tree_hash(store_of(catalog)))
    assert trees[0] == trees[1] == trees[2]


def test_video_dataset_builds(tmp_path, video_dataset):
    catalog = video_dataset(tmp_path)
    summary = run(catalog)
    facts = json.loads(open_store(store_of(catalog)).rows[0].facts)
    assert summary.samples == 8
    assert facts["frames_declared"] == facts["frames_decoded"] == 8


# --- bad sources --------------------------------------------------------------------------------


@pytest.fixture
def ct_with_bad(ct) -> Path:
    folder = ct.parent / "ct"
    (folder / "TRN_0001.nii.gz").write_bytes(b"")
    whole = (folder / "TRN_0003.nii.gz").read_bytes()
    (folder / "TRN_0003.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "TRN_0004.nii.gz").write_bytes(b"not a volume " * 100)
    return ct


BAD = {"TRN_0001.nii.gz": "empty-file", "TRN_0003.nii.gz": "truncated", "TRN_0004.nii.gz": "not-nifti"}


def test_bad_sources_cost_only_themselves(ct_with_bad):
    summary = run(ct_with_bad)
    assert summary.samples == 3
    assert quarantine(ct_with_bad) == BAD
    assert [row.id for row in open_store(store_of(ct_with_bad)).rows] == ["TRN_0000", "TRN_0002", "TRN_0005"]


def test_quarantine_stands_while_nothing_changes(ct_with_bad):
    run(ct_with_bad)
    summary = run(ct_with_bad)
    assert (summary.converted, summary.published) == (0, False)
    assert quarantine(ct_with_bad) == BAD


def test_mended_source_leaves_the_quarantine(ct_with_bad, ct_dataset, tmp_path_factory):
    run(ct_with_bad)
    good = ct_dataset(tmp_path_factory.mktemp("good"), scans=6)
    for name in BAD:
        shutil.copy(good.parent / "ct" / name, ct_with_bad.parent / "ct" / name)
    summary = run(ct_with_bad)
    assert (summary.samples, summary.converted) == (6, 3)
    assert not only_dataset(ct_with_bad).quarantine_file.exists()
    run(good)
    assert tree_hash(store_of(good)) == tree_hash(store_of(ct_with_bad))


@pytest.mark.parametrize("max_bad", [0.0, 0.4])
def test_too_many_bad_sources_publish_nothing(ct_with_bad, max_bad):
    with pytest.raises(TooManyBadError, match="too-many-bad") as caught:
        run(ct_with_bad, replace(SYNC, max_bad=max_bad))
    assert {problem.code for problem in caught.value.problems} == {*BAD.values(), "too-many-bad"}
    assert not store_of(ct_with_bad).exists()
    summary = run(ct_with_bad, replace(SYNC, max_bad=0.5))
    assert (summary.converted, summary.reused) == (0, 3)


def test_same_bytes_with_other_labels_are_both_quarantined(ct):
    folder = ct.parent / "ct"
    shutil.copy(folder / "TRN_0000.nii.gz", folder / "TRN_0001.nii.gz")
    summary = run(ct)
    assert quarantine(ct) == {f"TRN_000{n}.nii.gz": "duplicate-content" for n in (0, 1)}
    assert summary.samples == 4


def test_same_bytes_with_the_same_label_are_a_warning(ct):
    folder = ct.parent / "ct"
    shutil.copy(folder / "TRN_0000.nii.gz", folder / "TRN_0002.nii.gz")
    summary = run(ct)
    assert summary.samples == 6
    assert [problem.code for problem in summary.warnings] == ["duplicate-content"]


def test_what_a_reader_doubts_is_told_and_stored(ct, write_nifti):
    volume = np.arange(20 * 18 * 7, dtype=np.float32).reshape(20, 18, 7) - 1000
    volume[3, 4, 5] = np.nan
    write_nifti(ct.parent / "ct/TRN_0002.nii.gz", volume)
    summary = run(ct)
    assert [(problem.code, problem.reason) for problem in summary.warnings] == [
        ("doubtful", "1 voxels are not finite")
    ]
    assert json.loads(open_store(store_of(ct)).rows[2].facts)["nonfinite"] == 1


REAL_CATALOG = """
version: 1
datasets:
  real:
    type: nifti
    path: ct
    labels: {file: ct/labels.csv, id: file, label: class}
    classes: {0: A, 1: B}
    recipe: {shape: [7, 22, 22]}
    store: real.zarr
    split: {file: real.json}
"""


def test_real_bad_files_among_good_ones(shared, tmp_path):
    """Empty, cut, and foreign files of other programs, each with its own reason."""
    folder = tmp_path / "ct"
    folder.mkdir()
    bad = {
        "ct_variants/P002d4_truncated.nii.gz": "truncated",
        "nifti_edge/nifti.jl__empty.nii.gz": "empty-file",
        "nifti_edge/nifti-reader-js__not-nifti.nii": "not-nifti",
        "nifti_edge/nibabel__example_nifti2.nii.gz": "not-3d",
    }
    good = ["ct/totalsegmentator__example_ct_sm.nii.gz", "ct_variants/P002d4_nan.nii.gz"]
    names = [Path(name).name for name in (*bad, *good)]
    for name in (*bad, *good):
        shutil.copy(shared / name, folder)
    lines = "\n".join(f"{name},{index % 2}" for index, name in enumerate(names))
    (folder / "labels.csv").write_text(f"file,class\n{lines}\n")
    catalog = tmp_path / "data_catalog.yaml"
    catalog.write_text(REAL_CATALOG)
    summary = run(catalog)
    assert summary.samples == 2
    assert quarantine(catalog) == {Path(name).name: code for name, code in bad.items()}


# --- who may build ------------------------------------------------------------------------------


def test_a_folder_of_somebody_else_is_never_replaced(ct):
    store_of(ct).mkdir(parents=True)
    (store_of(ct) / "thesis.docx").write_text("years of work")
    with pytest.raises(ConfigError, match="not-ours"):
        run(ct)
    assert (store_of(ct) / "thesis.docx").read_text() == "years of work"


def test_a_staging_folder_of_somebody_else_is_never_used(ct):
    staging = store_of(ct).with_name("ct.zarr.building")
    staging.mkdir(parents=True)
    (staging / "thesis.docx").write_text("years of work")
    with pytest.raises(ConfigError, match="not-ours"):
        run(ct)
    assert [path.name for path in staging.iterdir()] == ["thesis.docx"]


def test_only_one_build_at_a_time(ct):
    staging = store_of(ct).with_name("ct.zarr.building")
    staging.mkdir(parents=True)
    descriptor = os.open(staging, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another build holds it"):
            run(ct)
    finally:
        os.close(descriptor)
    assert run(ct).samples == 6


def test_previous_store_comes_back_after_half_an_exchange(ct):
    """Killed between the two renames, a build leaves the old store aside: the next one puts it back first."""
    run(ct)
    before = tree_hash(store_of(ct))
    staging = store_of(ct).with_name("ct.zarr.building")
    staging.mkdir()
    (staging / "viptt-staging.json").write_text("{}")
    store_of(ct).rename(staging / "old")
    summary = run(ct)
    assert (summary.reused, summary.published) == (6, False)
    assert tree_hash(store_of(ct)) == before


def test_damaged_volume_is_converted_anew(ct):
    run(ct)
    before = tree_hash(store_of(ct))
    chunk = open_store(store_of(ct)).chunk(2)
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    summary = run(ct)
    assert (summary.converted, summary.reused, summary.published) == (1, 5, True)
    assert tree_hash(store_of(ct)) == before


def test_damaged_table_is_built_anew(ct):
    run(ct)
    before = tree_hash(store_of(ct))
    (store_of(ct) / "id/c/0").write_bytes(b"")
    summary = run(ct)
    assert summary.published
    assert [problem.code for problem in summary.warnings] == ["metadata-damaged"]
    assert tree_hash(store_of(ct)) == before


@pytest.mark.slow
def test_killed_build_resumes_to_the_same_bytes(tmp_path, ct_dataset):
    """SIGKILL whenever another source is done: never an early store, and in the end the same bytes."""
    calm, catalog = (ct_dataset(tmp_path / name, scans=8, size=(60, 50, 40)) for name in ("calm", "killed"))
    run(calm)
    staging = store_of(catalog).with_name("ct.zarr.building")
    code = (
        "import sys; from cli import main; main(['build', '--scheduler', 'sync', '--catalog', sys.argv[1]])"
    )
    for done in (1, 3, 6):
        process = subprocess.Popen([sys.executable, "-c", code, str(catalog)], stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(staging.glob("journal/*.json"))) < done:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not store_of(catalog).exists()
        assert len(list(staging.glob("journal/*.json"))) >= done
    summary = run(catalog)
    assert summary.reused >= 6
    assert tree_hash(store_of(catalog)) == tree_hash(store_of(calm))
