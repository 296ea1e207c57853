"""The main job on the real files at full size, against nibabel, FFmpeg and SciPy alone."""

from pathlib import Path

import av
import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from pipeline.build import Options, build, make_plan
from pipeline.catalog import load_catalog
from pipeline.store import open_store

SHAPE = (70, 224, 224)
HALF_STEP = 2**-12  # float16 between 0.5 and 1 steps by 2**-11
SIZ_ERROR = 1e-5


def built(shared: Path, name: str, folder: Path):
    dataset = load_catalog(shared / "data_catalog.yaml").datasets[name]
    dataset = dataset.model_copy(update={"store": folder / f"{name}.zarr"})
    options = Options(workers=2)
    summary = build(make_plan(dataset, options), options)
    assert summary.quarantined == ()
    return dataset, open_store(dataset.store)


def zoomed(volume: np.ndarray) -> np.ndarray:
    factors = [target / size for target, size in zip(SHAPE, volume.shape, strict=True)]
    return ndimage.zoom(volume, factors, order=3, mode="nearest")


@pytest.mark.slow
def test_every_ct_volume_equals_the_reference(shared, tmp_path):
    dataset, store = built(shared, "ct_real", tmp_path)
    assert len(store.rows) == 8
    for index, row in enumerate(store.rows):
        image = nib.as_closest_canonical(nib.load(dataset.path / row.source))  # right, anterior, superior
        hounsfield = image.get_fdata()[::-1, ::-1, :].transpose(2, 1, 0)  # superior, posterior, left
        expected = np.clip((zoomed(hounsfield.clip(-1000, 400)) + 1000) / 1400, 0, 1)
        assert np.abs(store.read(index) - expected).max() <= HALF_STEP + SIZ_ERROR, row.id


def luma(path: Path) -> np.ndarray:
    """The Y planes of a clip in 4:2:0 and limited range, to 0 to 255 by BT.601, rounded."""
    with av.open(str(path)) as container:
        whole = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
        rows = container.streams.video[0].height
    planes = np.stack(whole)[:, :rows].astype(np.float64)
    return np.rint(np.clip((planes - 16) * 255 / 219, 0, 255))


@pytest.mark.slow
def test_every_clip_equals_the_reference(shared, tmp_path):
    dataset, store = built(shared, "ucf_real", tmp_path)
    assert len(store.rows) == 20
    for index, row in enumerate(store.rows):
        expected = np.clip(zoomed(luma(dataset.path / row.source)) / 255, 0, 1)
        assert np.abs(store.read(index) - expected).max() <= HALF_STEP + SIZ_ERROR, row.id
