"""What is no CT scan, or a contradiction, is told in plain words, by `check --deep` and by `build`."""

import gzip
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stack_files import slices_dataset

from pipeline.build import Options, build, make_plan
from pipeline.build.collect import equal_pictures
from pipeline.catalog import load_catalog
from pipeline.check import check
from pipeline.readers import nifti
from pipeline.readers.nifti import doubts
from pipeline.store import Row, open_store

SYNC = Options(scheduler="sync")
NOISE = np.random.default_rng(5).integers(-1000, 1000, (20, 18, 7))
RAMP = np.linspace(0, 1, NOISE.size).reshape(NOISE.shape)
DOUBTFUL = {
    "label map": (np.digitize(RAMP, [0.5, 0.8]) - 300, "only 3 different values: a label map, not a scan?"),
    "shifted": (NOISE + 1024, "no value below -200 (lowest 24): not Hounsfield units?"),
    "stack of pictures": (
        np.round(255 * RAMP),
        "values from 0 to 255: a stack of pictures, not Hounsfield units?",
    ),
    "one slice": (NOISE[:, :, :1], "one slice only, which is repeated to the depth of the volume"),
}
PLAIN = {
    "scan": NOISE,
    "window of a body": np.clip(NOISE, -201, 1000),
    "few values and one more": np.round(64 * RAMP) * 20 - 1000,
}


def only_dataset(catalog: Path) -> Any:
    (dataset,) = load_catalog(catalog).datasets.values()
    return dataset


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_looks_like_no_scan_is_told_twice(tmp_path, ct_dataset, write_nifti, name):
    array, reason = DOUBTFUL[name]
    dataset = only_dataset(ct_dataset(tmp_path, scans=3))
    path = write_nifti(dataset.path / "TRN_0001.nii.gz", array, dtype="int16")
    checked = check(dataset, SYNC, deep=True)
    built = build(make_plan(dataset, SYNC), SYNC)
    for warnings in (checked.doubtful, built.warnings):
        assert [(item.where, item.code, item.reason) for item in warnings] == [
            (str(path), "doubtful", reason)
        ]
    assert build(make_plan(dataset, SYNC), SYNC).warnings == built.warnings  # of volumes that are kept, too
    assert check(dataset, SYNC, deep=False).doubtful == ()


@pytest.mark.parametrize("name", PLAIN)
def test_a_scan_is_not_doubted(tmp_path, write_nifti, name):
    reading = nifti.read(write_nifti(tmp_path / "scan.nii", PLAIN[name], dtype="int16"))
    assert doubts(reading.statistics, reading.facts) == []


REAL = {
    "ct/chestimagingplatform__ct-64.nii.gz": "",
    "ct/covidctmd_covid_P002_every5.nii.gz": "",
    "ct/elastix__3DCT_lung_baseline_small.nii.gz": "",
    "ct/totalsegmentator__example_ct.nii.gz": "",
    "ct/niivue-demo-images__CT_AVM.nii.gz": "no value below -200 (lowest 0)",
    "ct/niivue-demo-images__CT_pitch.nii.gz": "values from 0 to 255",
    "ct_more/totalsegmentator__example_seg.nii.gz": "only 42 different values: a label map",
    "ct_variants/P002d4_uint8_windowed.nii.gz": "values from 0 to 255",
    "ct_variants/P002d4_uint16_inter-1024.nii.gz": "",
    "nifti_edge/nibabel__standard.nii.gz": "only 2 different values: a label map",
    "nifti_edge/orient__RAS.nii.gz": "no value below -200 (lowest 0)",
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_told_apart(shared, name):
    said = doubts_of(shared / name)
    assert said.startswith(REAL[name])
    assert bool(said) == bool(REAL[name])


def doubts_of(path: Path) -> str:
    reading = nifti.read(path)
    return "; ".join(doubts(reading.statistics, reading.facts))


# --- the same volume from different files -------------------------------------------------------


def same_scan_twice(catalog: Path, name: str) -> Any:
    """The scan of TRN_0000 in another gzip stream, in place of another one."""
    dataset = only_dataset(catalog)
    whole = gzip.decompress((dataset.path / "TRN_0000.nii.gz").read_bytes())
    (dataset.path / name).write_bytes(gzip.compress(whole, 1))
    return dataset


@pytest.mark.parametrize(
    ("number", "scans_per_patient", "told"),
    [
        (1, 1, " with different labels and groups, a contradiction"),
        (2, 1, " with different groups, a contradiction"),
        (1, 2, ""),
    ],
)
def test_equal_volumes_of_different_files(tmp_path, ct_dataset, number, scans_per_patient, told):
    name = f"TRN_000{number}.nii.gz"
    dataset = same_scan_twice(ct_dataset(tmp_path, scans=4, scans_per_patient=scans_per_patient), name)
    summary = build(make_plan(dataset, SYNC), SYNC)
    assert [(item.code, item.reason) for item in summary.warnings] == [
        ("duplicate-content", f"equal volumes from 2 different files{told}: TRN_0000.nii.gz, {name}")
    ]
    assert summary.samples == 4
    rows = open_store(dataset.store).rows
    first, second = rows[0], rows[number]
    assert first.sha256 == second.sha256
    assert first.source_sha256 != second.source_sha256


def test_equal_labels_of_different_classes_are_told_though_one_pair_has_equal_bytes(tmp_path, ct_dataset):
    dataset = same_scan_twice(ct_dataset(tmp_path, scans=4), "TRN_0001.nii.gz")
    shutil.copy(dataset.path / "TRN_0000.nii.gz", dataset.path / "TRN_0002.nii.gz")
    reasons = [item.reason for item in build(make_plan(dataset, SYNC), SYNC).warnings]
    assert [reason.split(":")[0] for reason in reasons] == [
        "the same bytes under 2 names in several groups, so that a split may leak",
        "equal volumes from 3 different files with different labels and groups, a contradiction",
    ]


# --- the same picture twice ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("CP_1_1_0003.png", "2 pictures have the same bytes as others with another label or group, such as"),
        ("Normal_4_4_0000.png", "2 pictures have the same bytes as others with another label or group, such"),
        ("Normal_0_0_0001.png", ""),  # the next slice of the same scan
    ],
    ids=["another label", "another group", "neither"],
)
def test_one_picture_in_two_places_is_told_where_it_is_a_contradiction(tmp_path, name, told):
    dataset = slices_dataset(tmp_path)
    shutil.copy(dataset.path / "Normal_0_0_0000.png", dataset.path / name)
    summary = build(make_plan(dataset, SYNC), SYNC)
    said = [item.reason for item in summary.warnings if "same bytes" in item.reason]
    assert len(said) == bool(told)
    assert all(line.startswith(told) for line in said)
    pair = {"Normal_0_0_0000", name.removesuffix(".png")}
    assert all(set(line.rpartition("such as ")[2].split(" and ")) == pair for line in said)
    assert summary.quarantined == ()


def test_equal_pictures_are_counted_by_their_bytes():
    rows = [
        Row(f"{stack}/{number}", label, group, "", "", sha256, "{}", stack=stack, position=number)
        for number, (stack, label, group, sha256) in enumerate(
            [
                ("A", 0, "P", "x"),
                ("A", 1, "P", "x"),
                ("B", 0, "P", "x"),
                ("B", 0, "Q", "y"),
                ("C", 0, "R", "y"),
            ]
        )
    ]
    (warning,) = equal_pictures(Path("slices"), rows)
    assert warning.reason.startswith("5 pictures")
    assert equal_pictures(Path("slices"), [rows[0], rows[2], rows[3]]) == []
    assert equal_pictures(Path("scans"), [replace(row, stack="") for row in rows]) == []
