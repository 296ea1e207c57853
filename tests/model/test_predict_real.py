"""Predictions of real scans, against nibabel, SciPy and the network alone."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from test_predict import numbers, predict, rows_of, trained

from model.loading import load_network


def test_real_scans_against_nibabel_and_scipy(
    shared: Path, tmp_path: Path, ct_dataset: Callable[..., Path]
) -> None:
    """Nothing of the pipeline stands between these files and the numbers that are expected."""
    shape = (12, 32, 32)
    run = trained(ct_dataset(tmp_path, recipe={"shape": list(shape)}))
    names = [
        "chestimagingplatform__ct-64",
        "elastix__3DCT_lung_baseline_small",
        "totalsegmentator__example_ct_sm",
    ]
    paths = [shared / f"ct/{name}.nii.gz" for name in names]
    volumes = []
    for path in paths:
        image = nib.as_closest_canonical(nib.load(path))
        hounsfield = image.get_fdata()[::-1, ::-1, :].transpose(2, 1, 0).clip(-1000, 400)
        factors = np.divide(shape, hounsfield.shape)
        volumes.append(
            np.clip((ndimage.zoom(hounsfield, factors, order=3, mode="nearest") + 1000) / 1400, 0, 1)
        )
    expected = np.asarray(load_network(run)[1](np.stack(volumes)[..., None]))
    assert np.ptp(expected, axis=0).max() > 0.02
    result = predict(run, *paths)
    assert [row["id"] for row in rows_of(result.stdout)] == names
    np.testing.assert_allclose(numbers(result.stdout), expected, atol=1e-3)
