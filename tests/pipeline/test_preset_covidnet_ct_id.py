"""What COVIDNet-CT-Identification makes of slices, against arrays that its notebook made."""

import numpy as np
import pytest

from pipeline.preset_covidnet_ct_id import read_slice, standardise

pytestmark = pytest.mark.unit

SIZES = ["300x360", "300x512", "512x300", "341x381", "339x379", "511x509", "343x387", "512x1024", "944x1024"]


@pytest.fixture(scope="module")
def transforms(shared):
    path = shared / "oracle_covid/transforms.npz"
    if not path.is_file():
        pytest.skip("the arrays of the original notebook are not here")
    with np.load(path) as arrays:
        yield arrays


@pytest.mark.parametrize("case", ["slice0", "slice1", "slice2", "rgb", *(f"size_{size}" for size in SIZES)])
def test_slices_are_exact(transforms, case):
    np.testing.assert_array_equal(read_slice(transforms[f"{case}_input"]), transforms[f"{case}_expected"][0])


def test_gray_as_colours_is_the_same(transforms):
    gray = transforms["slice0_input"]
    np.testing.assert_array_equal(read_slice(np.stack([gray] * 3, axis=-1)), read_slice(gray))


def test_standardised_slices_are_exact(transforms):
    mean, deviation = float(transforms["stream_mean"]), float(transforms["stream_std"])
    standard = standardise(read_slice(transforms["slice0_input"]), mean, deviation)
    np.testing.assert_array_equal(standard, transforms["slice0_expected_normalised"][0])
