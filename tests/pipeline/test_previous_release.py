"""What version 0.1.0 made, this version makes as well, byte for byte, and goes on with.

The older version is taken from the repository's history; without it there is nothing to compare with.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipeline.build import Options, build, make_plan
from pipeline.catalog import load_catalog
from pipeline.store import open_store

PROJECT = Path(__file__).resolve().parents[2]
RELEASE = "792ff36"  # 0.1.0
PROGRAM = "import sys; from cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """The folder of the older version."""
    archive = subprocess.run(
        ["git", "archive", RELEASE, "pipeline", "cli.py"], cwd=PROJECT, capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip(f"the repository's history does not reach back to {RELEASE}")
    folder = tmp_path_factory.mktemp("release")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def viptt(folder: Path, *arguments: str) -> int:
    """The exit code of a command of the version in a folder."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    ).returncode


def scans(folder: Path, ct_dataset, write_nifti) -> Path:
    """A dataset with what readers meet: axes in other order, scaling, gaps of values, bad files."""
    catalog = ct_dataset(folder, scans=14, scans_per_patient=2, split={"seed": 3})
    rng = np.random.default_rng(0)
    noise = rng.integers(-1100, 1200, (15, 17, 9))
    ct = folder / "ct"
    turned = np.array([[0, 0, 3.0, 0], [-0.8, 0, 0, 5], [0, 0.9, 0, 7], [0, 0, 0, 1]])
    write_nifti(ct / "TRN_0000.nii.gz", noise, dtype="int16", affine=turned)
    write_nifti(ct / "TRN_0001.nii.gz", noise + 1100, dtype="uint16", slope=1.0, inter=-1100.0)
    write_nifti(ct / "TRN_0002.nii.gz", noise, dtype="float32", endian=">", version=2)
    write_nifti(ct / "TRN_0003.nii.gz", noise[:, :, :1], dtype="int16")
    (ct / "TRN_0004.nii.gz").write_bytes(b"no scan " * 100)
    whole = (ct / "TRN_0005.nii.gz").read_bytes()
    (ct / "TRN_0005.nii.gz").write_bytes(whole[: len(whole) // 2])
    return catalog


def volumes(store: Path) -> np.ndarray:
    return np.asarray(zarr.open_group(store, mode="r")["volume"][:])


def quarantined(store: Path) -> dict[str, str]:
    with store.with_name("ct.quarantine.csv").open(newline="") as file:
        return {row["source"]: row["code"] for row in csv.DictReader(file)}


@pytest.mark.slow
def test_the_same_bytes_splits_and_exit_codes(release, tmp_path, ct_dataset, write_nifti):
    """With the library versions of today, which both use."""
    codes, stores, splits = [], [], []
    for version, folder in ((release, tmp_path / "old"), (PROJECT, tmp_path / "new")):
        catalog = str(scans(folder, ct_dataset, write_nifti))
        sync = ("--scheduler", "sync")
        codes.append(
            [
                viptt(version, "build", *sync, "--strict", "--catalog", catalog),
                viptt(version, "build", *sync, "--catalog", catalog),
                viptt(version, "verify", "--catalog", catalog),
                viptt(version, "split", "--catalog", catalog),
                viptt(version, "build", *sync, "nothing", "--catalog", catalog),
            ]
        )
        stores.append(folder / "cache/ct.zarr")
        splits.append(json.loads((folder / "splits/ct.json").read_bytes()))
    old, new = stores
    assert codes[0] == codes[1] == [3, 3, 0, 0, 2]
    assert volumes(old).tobytes() == volumes(new).tobytes()
    assert quarantined(old) == quarantined(new)
    assert len(quarantined(old)) == 2
    assert open_store(old).digest == open_store(new).digest
    assert splits[0]["splits"] == splits[1]["splits"]
    assert splits[0]["store_digest"] == splits[1]["store_digest"]


def test_goes_on_with_a_store_of_the_older_version(release, tmp_path, ct_dataset):
    catalog = ct_dataset(tmp_path, scans=6)
    (dataset,) = load_catalog(catalog).datasets.values()
    assert viptt(release, "build", "--scheduler", "sync", "--catalog", str(catalog)) == 0
    before = open_store(dataset.store)
    made_by = before.header.created_with["viptt"]
    assert {row.made_with for row in before.rows} == {""}

    shutil.copy(dataset.path / "TRN_0000.nii.gz", dataset.path / "TRN_0002.nii.gz")
    sync = Options(scheduler="sync")
    summary = build(make_plan(dataset, sync), sync)
    assert (summary.converted, summary.reused) == (1, 5)
    after = open_store(dataset.store)
    assert [json.loads(row.made_with)["viptt"] == made_by for row in after.rows] == [
        True, True, after.header.created_with["viptt"] == made_by, True, True, True,
    ]  # fmt: skip
    assert made_by in after.header.created_with["viptt"].split(", ")
    assert [row.sha256 for row in after.rows[3:]] == [row.sha256 for row in before.rows[3:]]


def test_goes_on_with_an_unfinished_build_of_the_older_version(release, tmp_path, ct_dataset):
    catalog = ct_dataset(tmp_path, scans=6)
    (dataset,) = load_catalog(catalog).datasets.values()
    whole = (dataset.path / "TRN_0005.nii.gz").read_bytes()
    (dataset.path / "TRN_0005.nii.gz").write_bytes(whole[:99])
    assert viptt(release, "build", "--scheduler", "sync", "--strict", "--catalog", str(catalog)) == 3
    assert not dataset.store.exists()

    (dataset.path / "TRN_0005.nii.gz").write_bytes(whole)
    sync = Options(scheduler="sync")
    summary = build(make_plan(dataset, sync), sync)
    assert (summary.converted, summary.reused) == (1, 5)
