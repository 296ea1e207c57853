"""The recipe preset viptt-2021 against the steps of the code of 2021, written out with SciPy and OpenCV."""

from pathlib import Path

import numpy as np
import pytest
from code_of_2021 import FULL, clip_of_2021, scan_of_2021, turned_by_scipy

from pipeline.build import Options, build, make_plan
from pipeline.catalog import load_catalog
from pipeline.convert import convert
from pipeline.errors import SourceError
from pipeline.readers import recipe_from
from pipeline.recipe import CtRecipe, VideoRecipe
from pipeline.status import status
from pipeline.store import open_store

PRESET = "viptt-2021"
NUMBER_FOR_NUMBER = 1e-6
SYNC = Options(scheduler="sync")
SCANS = [
    "chestimagingplatform__ct-64",
    "covidctmd_covid_P002_every5",
    "covidctmd_covid_P002",
    "elastix__3DCT_lung_baseline_small",
    "niivue-demo-images__CT_AVM",
    "niivue-demo-images__CT_pitch",
    "totalsegmentator__example_ct",
    "totalsegmentator__example_ct_sm",
]


def assert_equal(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= NUMBER_FOR_NUMBER


# --- scans --------------------------------------------------------------------------------------

AXES = {
    "LPS": np.diag([-1.0, -1.0, 2.0, 1.0]),
    "RAS": np.diag([1.0, 1.0, 2.0, 1.0]),
    "SRP": np.array([[0, 0.7, 0.1, 0], [0, 0.1, -2, 0], [0.8, 0, 0, 0], [0, 0, 0, 1]]),
}


@pytest.fixture
def noise(tmp_path, write_nifti):
    def make(size=(20, 20, 9), **options) -> Path:
        values = np.random.default_rng(3).integers(-1500, 2000, size)
        return write_nifti(tmp_path / "scan.nii.gz", values, dtype="int16", **options)

    return make


@pytest.mark.parametrize("axes", AXES)
def test_scans_keep_the_axes_of_the_file(noise, axes):
    path = noise(affine=AXES[axes])
    recipe = CtRecipe(preset=PRESET, shape=(5, 16, 17))
    assert_equal(convert(path, recipe).volume, scan_of_2021(path, (5, 16, 17), turn=turned_by_scipy))


@pytest.mark.parametrize(
    "options", [{"slope": 2.5, "inter": -1024}, {"slope": 0.0}, {"endian": ">"}], ids=str
)
def test_stored_values_are_scaled_as_nibabel_scales_them(noise, options):
    path = noise(**options)
    assert_equal(convert(path, CtRecipe(preset=PRESET)).volume, scan_of_2021(path))


@pytest.mark.parametrize("size", [(512, 512, 3), (64, 64, 82), (232, 232, 120), (30, 224, 70)], ids=str)
def test_the_last_samples_are_lost_where_scipy_loses_them(noise, size):
    path = noise(size)
    wanted = scan_of_2021(path)
    lost = [(np.take(wanted, -1, axis) == 0).all() for axis in range(3)]
    assert any(lost) == (size[0] != 30)
    volume = convert(path, CtRecipe(preset=PRESET)).volume
    assert [(np.take(volume, -1, axis) == 0).all() for axis in range(3)] == lost
    assert_equal(volume, wanted)


def test_slices_that_are_not_square_are_turned_whole_and_told(noise):
    path = noise((30, 20, 9))
    conversion = convert(path, CtRecipe(preset=PRESET))
    assert_equal(conversion.volume, scan_of_2021(path))
    (warning,) = conversion.facts["warnings"]
    assert warning.startswith("slices of 30 x 20: turned whole")
    assert convert(noise(), CtRecipe(preset=PRESET)).facts["warnings"] == []


def test_a_voxel_that_is_not_finite_becomes_air(tmp_path, write_nifti):
    values = np.random.default_rng(4).normal(-500, 300, (20, 20, 9)).astype(np.float32)
    values[5, 6, 7] = np.nan
    path = write_nifti(tmp_path / "nan.nii", values)
    volume = convert(path, CtRecipe(preset=PRESET)).volume
    values[5, 6, 7] = -1000
    assert_equal(volume, scan_of_2021(write_nifti(tmp_path / "air.nii", values)))


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_another_dtype_rounds(noise, dtype):
    path = noise()
    volume = convert(path, CtRecipe(preset=PRESET, dtype=dtype)).volume
    assert volume.dtype == dtype
    full, tolerance = {"float16": (1, 2**-11), "uint8": (255, 0.501)}[dtype]
    assert np.abs(volume.astype(np.float64) - scan_of_2021(path) * full).max() <= tolerance


@pytest.mark.slow
@pytest.mark.parametrize("name", SCANS)
def test_real_scans(shared, name):
    path = shared / f"ct/{name}.nii.gz"
    assert_equal(convert(path, CtRecipe(preset=PRESET)).volume, scan_of_2021(path))


@pytest.mark.parametrize("name", SCANS[:2])
def test_real_scans_turned_by_scipy(shared, name):
    path = shared / f"ct/{name}.nii.gz"
    wanted = scan_of_2021(path, turn=turned_by_scipy)
    assert_equal(convert(path, CtRecipe(preset=PRESET)).volume, wanted)


# --- clips --------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path, write_clip):
    """Colour, lossless."""

    def make(frames=9) -> Path:
        noise = np.random.default_rng(6).integers(0, 256, (frames, 24, 32, 3), np.uint8)
        return write_clip(tmp_path / "clip.avi", noise, "FFV1")

    return make


@pytest.mark.parametrize("side", [16, 24, 224])
def test_clips_are_the_resized_first_frames(clip, side):
    path = clip()
    conversion = convert(path, VideoRecipe(preset=PRESET, shape=(7, side, side)))
    assert conversion.volume.dtype == np.uint8
    np.testing.assert_array_equal(conversion.volume, clip_of_2021(path, 7, side))
    assert conversion.facts["shape"] == [9, 24, 32]


def test_clips_in_float16_are_the_same_over_255(clip):
    path = clip()
    volume = convert(path, VideoRecipe(preset=PRESET, shape=(7, 24, 24), dtype="float16")).volume
    assert np.abs(volume - clip_of_2021(path, 7, 24) / 255).max() <= 2**-11


def test_rows_and_columns_are_not_swapped(clip):
    assert convert(clip(), VideoRecipe(preset=PRESET, shape=(7, 16, 20))).volume.shape == (7, 16, 20)


def test_a_shorter_clip_is_refused(clip, refusal):
    (problem,) = refusal(SourceError, lambda: convert(clip(69), VideoRecipe(preset=PRESET)))
    assert (problem.code, problem.remedy) == ("too-short", "leave the clip out")
    assert convert(clip(70), VideoRecipe(preset=PRESET)).volume.shape == FULL


@pytest.mark.parametrize(
    "name", ["BenchPress/v_BenchPress_g01_c05.avi", "BaseballPitch/v_BaseballPitch_g01_c03.avi"]
)
def test_real_clips(shared, name):
    path = shared / "ucf" / name
    np.testing.assert_array_equal(convert(path, VideoRecipe(preset=PRESET)).volume, clip_of_2021(path))


# --- stores -------------------------------------------------------------------------------------


def test_a_store_of_the_preset_says_so_and_holds_its_numbers(tmp_path, ct_dataset):
    (dataset,) = load_catalog(
        ct_dataset(tmp_path, size=(20, 20, 7), recipe={"preset": PRESET})
    ).datasets.values()
    build(make_plan(dataset, SYNC), SYNC)
    store = open_store(dataset.store)
    assert store.header.recipe == {
        "type": "nifti",
        "preset": "viptt-2021",
        "shape": [5, 16, 16],
        "spline_order": 1,
        "dtype": "float32",
        "window": [-1000.0, 400.0],
    }
    for index, row in enumerate(store.rows):
        assert_equal(store.read(index), scan_of_2021(dataset.path / row.source, (5, 16, 16)))


def test_naming_the_preset_makes_a_store_stale_and_says_why(tmp_path, video_dataset):
    (dataset,) = load_catalog(video_dataset(tmp_path)).datasets.values()
    build(make_plan(dataset, SYNC), SYNC)
    recipe = VideoRecipe(preset=PRESET, shape=(5, 16, 16))
    found = status(dataset.model_copy(update={"recipe": recipe}))
    assert found.state == "stale"
    assert any("preset is viptt-2021" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("type_", "recipe"), [("nifti", CtRecipe(preset=PRESET)), ("video", VideoRecipe(preset=PRESET))]
)
def test_a_run_reads_new_files_by_the_preset_of_its_store(type_, recipe):
    assert recipe_from({"type": type_, **recipe.model_dump(mode="json")}) == recipe
