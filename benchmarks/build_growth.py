"""How does a build grow with samples and workers, in time and in memory of a worker?

Generated scans of 256x256x80. Ratios within this run, the start of the cluster left out.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from pipeline.build import Options, build, make_plan
from pipeline.catalog import NiftiDataset, load_catalog

CATALOG = """
version: 1
datasets:
  scans:
    type: nifti
    path: ct
    labels: {regex: '(?P<label>[ab])_'}
    classes: [a, b]
    store: scans.zarr
    split: {file: scans.json}
"""


def write_scans(folder: Path, count: int) -> NiftiDataset:
    (folder / "ct").mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).integers(-1000, 400, (256, 256, 80), np.int16)
        name = f"{'ab'[number % 2]}_{number:03}.nii.gz"
        nib.save(nib.Nifti1Image(noise, np.diag([-1, -1, 2, 1])), folder / "ct" / name)
    (folder / "data_catalog.yaml").write_text(CATALOG)
    dataset = load_catalog(folder / "data_catalog.yaml").datasets["scans"]
    assert isinstance(dataset, NiftiDataset)
    return dataset


def seconds(dataset: NiftiDataset, store: Path, options: Options) -> float:
    """From the first result to the last: the cluster has started by then."""
    times: list[float] = []
    plan = make_plan(dataset.model_copy(update={"store": store}), options)
    build(plan, options, report=lambda result: times.append(time.perf_counter()))
    return times[-1] - times[0]


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = write_scans(folder, 48)
        one = Options(workers=1)
        base = seconds(dataset, folder / "12.zarr", replace(one, limit=12)) / 11
        print("time per sample, one worker, relative to 12 samples")
        for limit in (24, 48):
            taken = seconds(dataset, folder / f"{limit}.zarr", replace(one, limit=limit)) / (limit - 1)
            print(f"  {limit} samples: {taken / base:.2f}")
        print(f"speed of 48 samples, relative to one worker ({os.cpu_count()} cores)")
        for workers in (1, 2, 4):
            taken = seconds(dataset, folder / f"w{workers}.zarr", Options(workers=workers)) / 47
            print(f"  {workers} workers: {base / taken:.2f}")
        again = time.perf_counter()
        summary = build(make_plan(dataset.model_copy(update={"store": folder / "48.zarr"}), one), one)
        assert not summary.published
        print(f"nothing to do: {(time.perf_counter() - again) / (base * 48):.2f} of the time of the build")
    return 0


if __name__ == "__main__":
    sys.exit(main())
