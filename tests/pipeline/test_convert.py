from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from pipeline.convert import convert, quantise
from pipeline.errors import SourceError
from pipeline.readers import SOURCE_TYPES
from pipeline.readers.reading import Reading
from pipeline.readers.video import read as read_video
from pipeline.recipe import CtRecipe, VideoRecipe
from pipeline.scale import scale_ct, scale_video

pytestmark = pytest.mark.unit

HALF = 2.0**-11  # float16: at most half of this is lost between 0.5 and 1
WINDOW = (-1000.0, 400.0)
SHAPES = [(5, 16, 17), (14, 9, 40)]


def zoomed(volume, shape, order=3):
    factors = [target / size for target, size in zip(shape, volume.shape, strict=True)]
    return ndimage.zoom(volume.astype(np.float64), factors, order=order, mode="nearest")


def ct_by_hand(path, recipe):
    """nibabel's canonical voxels, turned from R, A, S to S, P, L; then clip, zoom, scale, all in float64."""
    image = nib.as_closest_canonical(nib.squeeze_image(nib.load(path)))
    return scaled_by_hand(image.get_fdata(dtype=np.float64)[::-1, ::-1].T, recipe)


def scaled_by_hand(hounsfield, recipe):
    low, high = recipe.window
    values = zoomed(np.clip(hounsfield, low, high), recipe.shape, recipe.spline_order)
    return np.clip((values - low) / (high - low), 0, 1)


def assert_close(volume, wanted, dtype="float16"):
    assert volume.dtype == dtype
    assert volume.shape == wanted.shape
    wanted, tolerance = {
        "float16": (wanted, HALF),
        "float32": (wanted, 2e-5),
        "uint8": (wanted * 255, 0.51),
    }[dtype]
    assert np.abs(volume.astype(np.float64) - wanted).max() <= tolerance


@pytest.fixture
def noise(tmp_path, write_nifti):
    def make(dtype="int16", low=-1500, high=2000, shape=(13, 17, 11), **options):
        values = np.random.default_rng(3).integers(low, high, shape).astype(dtype)
        return write_nifti(tmp_path / "scan.nii.gz", values, **options)

    return make


# --- CT -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_ct_equals_nibabel_and_scipy(noise, shape, dtype):
    recipe = CtRecipe(shape=shape, dtype=dtype)
    path = noise(affine=np.array([[0, 0.7, 0.1, 0], [0, 0.1, -2, 0], [0.8, 0, 0, 0], [0, 0, 0, 1]]))
    conversion = convert(path, recipe)
    assert_close(conversion.volume, ct_by_hand(path, recipe), dtype)
    assert conversion.facts["warnings"] == []
    assert conversion.facts["orientation"] == "SRP"


@pytest.mark.parametrize("order", range(6))
def test_every_spline_order(noise, order):
    recipe = CtRecipe(shape=SHAPES[0], dtype="float32", spline_order=order)
    path = noise()
    assert_close(convert(path, recipe).volume, ct_by_hand(path, recipe), "float32")


@pytest.mark.parametrize(
    "window", [(-1000, 400), (-160.5, 240.25), (-40000, 40000), (0, 1), (-1e6, 1e6)], ids=str
)
def test_every_window(noise, window):
    recipe = CtRecipe(shape=SHAPES[0], dtype="float32", window=tuple(map(float, window)))
    path = noise()
    assert_close(convert(path, recipe).volume, ct_by_hand(path, recipe), "float32")


SOURCE_DTYPES = [
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
]


@pytest.mark.parametrize("endian", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("dtype", SOURCE_DTYPES)
def test_every_dtype_of_the_source(noise, dtype, endian):
    low, high = (-128, 128) if dtype == "int8" else (0, 256) if dtype == "uint8" else (0, 2000)
    recipe = CtRecipe(shape=SHAPES[0], dtype="float32")
    path = noise(dtype, low, high, endian=endian)
    assert_close(convert(path, recipe).volume, ct_by_hand(path, recipe), "float32")


def test_extreme_integers_do_not_wrap(noise):
    recipe = CtRecipe(shape=SHAPES[1], dtype="float32", window=(-40000.0, 40000.0))
    path = noise(low=-32768, high=32768)
    assert_close(convert(path, recipe).volume, ct_by_hand(path, recipe), "float32")


def test_stored_values_with_intercept(noise):
    recipe = CtRecipe(shape=SHAPES[0])
    path = noise("uint16", 0, 4096, slope=1, inter=-1024)
    assert_close(convert(path, recipe).volume, ct_by_hand(path, recipe))


def test_values_stay_within_0_and_1(noise):
    for dtype, top in (("float16", 1), ("float32", 1), ("uint8", 255)):
        volume = convert(noise(), CtRecipe(shape=(20, 30, 31), dtype=dtype)).volume
        assert (volume.min(), volume.max()) == (0, top)  # noise in a spline overshoots on both sides


def test_clipping_comes_before_the_spline():
    """A metal implant of 30000 HU must not ring beyond its neighbours."""
    volume = np.full((9, 9, 9), -300.0)
    volume[4, 4, 4] = 30000
    recipe = CtRecipe(shape=(17, 17, 17), dtype="float32")
    assert_close(scale_ct(volume, recipe), scaled_by_hand(volume, recipe), "float32")
    late = np.clip((zoomed(volume, recipe.shape) + 1000) / 1400, 0, 1)
    assert np.abs(late - scaled_by_hand(volume, recipe)).max() > 0.1


def test_the_source_array_is_not_changed():
    for dtype in ("int16", "float32", "float64"):
        volume = np.random.default_rng(0).integers(-2000, 2000, (5, 6, 7)).astype(dtype)
        before = volume.copy()
        scale_ct(volume, CtRecipe(shape=(5, 6, 7)))
        np.testing.assert_array_equal(volume, before)


def test_one_slice_is_repeated(noise):
    recipe = CtRecipe(shape=SHAPES[0])
    path = noise(shape=(13, 17, 1))
    volume = convert(path, recipe).volume
    assert_close(volume, ct_by_hand(path, recipe))
    assert (volume == volume[:1]).all()


# --- values that are not finite, or all the same ------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_a_few_voxels_that_are_not_finite_are_air(tmp_path, write_nifti, value):
    values = np.random.default_rng(4).integers(-900, 900, (10, 11, 12)).astype(np.float32)
    values[4, 5, 6] = values[0, 0, 0] = value
    path = write_nifti(tmp_path / "a.nii", values)
    recipe = CtRecipe(shape=SHAPES[0])
    conversion = convert(path, recipe)
    values[4, 5, 6] = values[0, 0, 0] = WINDOW[0]
    assert_close(conversion.volume, scaled_by_hand(values.T.astype(np.float64), recipe))
    assert conversion.facts["nonfinite"] == 2
    assert conversion.facts["warnings"] == ["2 voxels are not finite"]


@pytest.mark.parametrize(("count", "refused"), [(10, False), (11, True), (1000, True)])
def test_more_than_one_in_a_hundred_are_too_many(tmp_path, write_nifti, refusal, count, refused):
    values = np.arange(1000, dtype=np.float32)
    values[:count] = np.nan
    path = write_nifti(tmp_path / "a.nii", values.reshape(10, 10, 10))
    if refused:
        (problem,) = refusal(SourceError, lambda: convert(path, CtRecipe(shape=SHAPES[0])))
        assert (problem.where, problem.code) == (str(path), "non-finite")
        assert str(count) in problem.reason
    else:
        assert np.isfinite(convert(path, CtRecipe(shape=SHAPES[0])).volume).all()


def test_scaling_beyond_float32_is_refused(noise, refusal):
    path = noise(slope=1e38, inter=0)
    (problem,) = refusal(SourceError, lambda: convert(path, CtRecipe(shape=SHAPES[0])))
    assert problem.code == "non-finite"


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", 1e30),
        ("float64", 1e300),
        ("float64", -1e300),
        ("float32", 1.1e6),
        ("int32", -(2**31)),
        ("uint64", 2**64 - 1),
    ],
)
def test_values_that_no_scanner_gives_are_refused(tmp_path, write_nifti, refusal, dtype, value):
    values = np.random.default_rng(5).integers(0, 900, (10, 11, 12)).astype(dtype)
    values[4, 5, 6] = value
    path = write_nifti(tmp_path / "a.nii", values)
    (problem,) = refusal(SourceError, lambda: convert(path, CtRecipe(shape=SHAPES[0])))
    assert (problem.where, problem.code) == (str(path), "out-of-range")
    assert f"{abs(value):.3g} HU" in problem.reason


PADDING = [
    ("int16", -2000),
    ("int16", -32768),
    ("int16", 32767),
    ("float32", -3024),
    ("uint16", 65535),
    ("int32", -(10**6)),
    ("float32", 1e6),
]


@pytest.mark.parametrize(("dtype", "value"), PADDING)
def test_ordinary_padding_is_clipped(tmp_path, write_nifti, dtype, value):
    values = np.random.default_rng(5).integers(0, 900, (10, 11, 12)).astype(dtype)
    values[:3], values[4, 5, 6] = value, value
    recipe = CtRecipe(shape=SHAPES[0])
    conversion = convert(write_nifti(tmp_path / "a.nii", values), recipe)
    assert_close(conversion.volume, scaled_by_hand(values.T.astype(np.float64), recipe))


@pytest.mark.parametrize("value", [-3000, -1000, 0, 3000])
def test_a_constant_volume_is_told(tmp_path, write_nifti, value):
    path = write_nifti(tmp_path / "a.nii", np.full((6, 7, 8), value, np.int16))
    conversion = convert(path, CtRecipe(shape=SHAPES[0]))
    assert conversion.facts["warnings"] == ["all values are equal"]
    wanted = np.clip((value + 1000) / 1400, 0, 1)
    assert np.abs(conversion.volume - wanted).max() <= HALF


def test_a_volume_outside_the_window_is_told(noise):
    assert convert(noise(low=500, high=900), CtRecipe(shape=SHAPES[0])).facts["warnings"] == [
        "all values are equal"
    ]


def test_a_bad_source_is_refused_by_its_reader(tmp_path, refusal):
    (tmp_path / "a.nii").write_bytes(b"x" * 1000)
    for recipe in (CtRecipe(), VideoRecipe()):
        (problem,) = refusal(SourceError, lambda recipe=recipe: convert(tmp_path / "a.nii", recipe))
        assert problem.where == str(tmp_path / "a.nii")


# --- video --------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path, write_clip):
    """Lossless, so that the luma is known: grey frames."""

    def make(frames=12):
        grey = np.random.default_rng(6).integers(0, 256, (frames, 24, 32, 1), np.uint8).repeat(3, axis=-1)
        return write_clip(tmp_path / "clip.avi", grey, "FFV1"), grey[..., 0]

    return make


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_video_equals_scipy(clip, shape, dtype):
    path, luma = clip()
    volume = convert(path, VideoRecipe(shape=shape, dtype=dtype)).volume
    assert_close(volume, np.clip(zoomed(luma, shape) / 255, 0, 1), dtype)


@pytest.mark.parametrize("depth", [1, 5, 12])
def test_the_first_frames(clip, depth):
    path, luma = clip()
    volume = convert(path, VideoRecipe(shape=(depth, 16, 17), frames="first")).volume
    assert_close(volume, np.clip(zoomed(luma[:depth], (depth, 16, 17)) / 255, 0, 1))


def test_clips_shorter_than_the_first_frames_are_refused(clip, refusal):
    path, _ = clip()
    (problem,) = refusal(SourceError, lambda: convert(path, VideoRecipe(shape=(13, 16, 17), frames="first")))
    assert (problem.where, problem.code) == (str(path), "too-short")
    assert "12 frames" in problem.reason
    assert "13" in problem.reason


def test_one_frame_is_repeated(clip):
    path, luma = clip(1)
    volume = convert(path, VideoRecipe(shape=SHAPES[0])).volume
    assert_close(volume, np.clip(zoomed(luma, SHAPES[0]) / 255, 0, 1))
    assert (volume == volume[:1]).all()


def test_a_constant_clip_is_told(tmp_path, write_clip):
    path = write_clip(tmp_path / "a.avi", np.zeros((8, 24, 32, 3)), "FFV1")
    assert convert(path, VideoRecipe(shape=SHAPES[0])).facts["warnings"] == ["all values are equal"]


def test_frames_are_not_changed():
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 7), np.uint8)
    before = frames.copy()
    scale_video(frames, VideoRecipe(shape=(5, 6, 7)))
    np.testing.assert_array_equal(frames, before)


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [("uint8", [0, 1, 127, 128, 255]), ("float32", None), ("float16", None)],
)
def test_quantise(dtype, wanted):
    values = np.array([0, 1 / 255, 0.499, 0.501, 1], np.float32)
    result = quantise(values, CtRecipe(dtype=dtype))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, values.astype(dtype) if wanted is None else wanted)


# --- real files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["chestimagingplatform__ct-64.nii.gz", "totalsegmentator__example_ct_sm.nii.gz"]
)
def test_real_scans_equal_nibabel_and_scipy(shared, name):
    recipe = CtRecipe(shape=(30, 64, 65))
    assert_close(convert(shared / "ct" / name, recipe).volume, ct_by_hand(shared / "ct" / name, recipe))


def test_a_real_clip_equals_scipy(shared):
    path = shared / "video/imageio-binaries__realshort.mp4"
    wanted = np.clip(zoomed(read_video(path).array, (20, 60, 61)) / 255, 0, 1)
    assert_close(convert(path, VideoRecipe(shape=(20, 60, 61))).volume, wanted)


def test_real_scans_stored_otherwise_give_the_same_bytes(shared):
    recipe = CtRecipe(shape=(12, 32, 33))
    folder = shared / "ct_variants"
    tags = ["base_int16", "PSR", "float32", "uint16_inter-1024"]
    volumes = {convert(folder / f"P002d4_{tag}.nii.gz", recipe).volume.tobytes() for tag in tags}
    assert len(volumes) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_value_that_is_not_finite_is_ever_stored(tmp_path, refusal, monkeypatch, value):
    """Even if the reader of a type lets one pass."""
    values = np.zeros((3, 8, 8), np.float32)
    values[1, 2, 3] = value
    broken = replace(
        SOURCE_TYPES["nifti"], convert=lambda path, recipe: Reading(values, {"warnings": []}, {})
    )
    monkeypatch.setitem(SOURCE_TYPES, "nifti", broken)
    (problem,) = refusal(SourceError, lambda: convert(tmp_path / "a.nii", CtRecipe(shape=(3, 8, 8))))
    assert problem.code == "non-finite"
