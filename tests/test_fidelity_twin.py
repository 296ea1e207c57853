"""What ``docs/fidelity.md`` claims, on a phantom and a clip that are generated here: nothing need be fetched.

Files are written by nibabel and OpenCV, and the expected volumes come from nibabel, SciPy, OpenCV and the
Y planes of PyAV, step by step; the program under test has no part in them.
"""

from pathlib import Path

import av
import cv2
import nibabel as nib
import numpy as np
import pytest
from code_of_2021 import clip_of_2021, scan_of_2021, turned_by_scipy
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.convert import convert
from pipeline.readers import video
from pipeline.recipe import CtRecipe, VideoRecipe

pytestmark = pytest.mark.unit

SHAPE = (9, 20, 24)
SIZE = (32, 32, 14)  # to right, to front, up; seven zooms of it lose no edge in SciPy
DEFAULT = CtRecipe(shape=SHAPE, dtype="float32")
PRESET = CtRecipe(shape=SHAPE, preset="viptt-2021")
OBLIQUE = np.array([[0.8, 0.1, 0, -12], [-0.1, 0.8, 0.2, -10], [0, -0.2, 2.5, 30], [0, 0, 0, 1]])
# Axes, dtype, slope, intercept, and whether there is a fourth axis of one.
STORED = {
    "RAS int16": ("RAS", "<i2", 1, 0, False),
    "LPS int16": ("LPS", "<i2", 1, 0, False),
    "LAS big endian": ("LAS", ">i2", 1, 0, False),
    "PIR uint16 from -1024": ("PIR", "<u2", 1, -1024, False),
    "SRP halves": ("SRP", "<i2", 0.5, 0, False),
    "ASL float32": ("ASL", "<f4", 1, 0, False),
    "IPL 4-D": ("IPL", "<i2", 1, 0, True),
}


# --- scans --------------------------------------------------------------------------------------


def phantom() -> NDArray[np.float64]:
    """Hounsfield units of a body with two lungs and a lesion, equal to no mirror image of itself."""
    across, along, up = np.meshgrid(*(np.linspace(-1, 1, size) for size in SIZE), indexing="ij")
    hounsfield = np.where((across / 0.9) ** 2 + (along / 0.7) ** 2 < 1, 40.0, -1000.0)
    for side, size in ((-0.45, 0.3), (0.45, 0.25)):
        hounsfield[((across - side) / size) ** 2 + (along / 0.5) ** 2 + (up / 0.9) ** 2 < 1] = -800
    hounsfield[(across - 0.4) ** 2 + (along - 0.2) ** 2 + (up - 0.4) ** 2 < 0.05] = 900
    noise = np.random.default_rng(0).normal(0, 20, SIZE)
    return np.clip(np.rint(ndimage.gaussian_filter(hounsfield, 0.7) + noise), -1024, None)


@pytest.fixture
def stored(tmp_path: Path):
    """``stored(name)``: the phantom in a file, in one of the ways of STORED."""

    def store(name: str) -> Path:
        axes, dtype, slope, inter, fourth = STORED[name]
        values = (phantom() - inter) / slope
        image = nib.Nifti1Image(values[..., None] if fourth else values, OBLIQUE)
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
        )
        turned = image.as_reoriented(turn)
        header = nib.Nifti1Header(endianness=dtype[0])
        header.set_data_dtype(dtype)
        file = nib.Nifti1Image(np.asanyarray(turned.dataobj).astype(dtype), turned.affine, header)
        file.header.set_slope_inter(slope, inter)
        file.to_filename(tmp_path / f"{axes}.nii.gz")
        return tmp_path / f"{axes}.nii.gz"

    return store


def expected(path: Path, order: int = 3) -> NDArray[np.float64]:
    """Depth to Superior, height to Posterior, width to Left; window, zoom, scale, clip."""
    canonical = nib.as_closest_canonical(nib.squeeze_image(nib.load(path))).get_fdata()
    volume = np.clip(canonical.transpose(2, 1, 0)[:, ::-1, ::-1], -1000, 400)
    factors = [target / size for target, size in zip(SHAPE, volume.shape, strict=True)]
    zoomed = ndimage.zoom(volume, factors, order=order, mode="nearest")
    return np.clip((zoomed + 1000) / 1400, 0, 1)


def apart(first: NDArray[np.float32], second: NDArray[np.float64]) -> float:
    assert first.shape == second.shape
    return float(np.abs(first - second).max())


@pytest.mark.parametrize("name", STORED)
def test_the_default_recipe_is_these_steps(stored, name):
    assert apart(convert(stored(name), DEFAULT).volume, expected(stored(name))) <= 1e-5


@pytest.mark.parametrize("name", STORED)
def test_a_scan_is_the_same_however_it_is_stored(stored, name):
    image = nib.load(stored(name))
    assert (image.dataobj.slope, image.dataobj.inter) == STORED[name][2:4]
    assert image.get_data_dtype() == STORED[name][1]
    reference = convert(stored("RAS int16"), DEFAULT).volume
    np.testing.assert_array_equal(convert(stored(name), DEFAULT).volume, reference)
    for axis in range(3):
        assert apart(np.flip(reference, axis), reference) > 0.5, "a mirrored phantom would not be noticed"


def test_half_the_bytes_round_by_at_most_this(stored):
    path = stored("LPS int16")
    rounded = convert(path, DEFAULT.model_copy(update={"dtype": "float16"})).volume
    assert rounded.dtype == np.float16
    assert apart(rounded.astype(np.float32), convert(path, DEFAULT).volume) <= 2**-12


@pytest.mark.parametrize("name", ["RAS int16", "LPS int16", "LAS big endian", "SRP halves"])
def test_the_preset_is_the_code_of_2021(stored, name):
    path = stored(name)
    turn = np.rot90 if name.startswith("SRP") else turned_by_scipy  # slices of SRP are not square
    assert apart(convert(path, PRESET).volume, scan_of_2021(path, SHAPE, turn=turn)) <= 1e-6


@pytest.mark.parametrize(("name", "axis"), [("LPS int16", 1), ("RAS int16", 2)])
def test_the_preset_turns_LPS_upside_down_and_mirrors_RAS(stored, name, axis):
    path = stored(name)
    assert apart(np.flip(convert(path, PRESET).volume, axis), expected(path, order=1)) <= 1e-5


def test_the_preset_blackens_the_last_row_and_column_of_512(tmp_path):
    path = tmp_path / "bone.nii"
    nib.Nifti1Image(np.full((512, 512, 2), 400, np.int16), np.eye(4)).to_filename(path)
    size = {"shape": (2, 224, 224), "dtype": "float32"}
    assert convert(path, CtRecipe(**size)).volume.min() > 0.9999
    volume = convert(path, CtRecipe(preset="viptt-2021", **size)).volume
    assert not volume[:, -1].any()
    assert not volume[:, :, -1].any()
    assert volume[:, :-1, :-1].min() > 0.9999


# --- clips --------------------------------------------------------------------------------------

FRAMES = 12


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A coloured disc that crosses a shaded scene, MPEG-4 in AVI, written by OpenCV."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"XVID"), 25, (64, 48))
    shade = np.linspace(40, 200, 64, dtype=np.uint8)
    for number in range(FRAMES):
        image = np.dstack([np.broadcast_to(shade, (48, 64))] * 3).copy()
        cv2.circle(image, (8 + 4 * number, 20), 9, (60, 90, 170), -1)
        writer.write(image)
    writer.release()
    return path


def luma_planes(path: Path) -> NDArray[np.float64]:
    """The Y planes, 16 to 235 stretched to 0 to 255 (ITU-R BT.601), rounded."""
    with av.open(str(path)) as container:
        planes = np.array([frame.to_ndarray(format="yuv420p")[:48] for frame in container.decode(video=0)])
    return np.clip(np.rint((planes - 16.0) * 255 / 219), 0, 255)


def test_luma_is_the_stretched_Y_plane(clip):
    np.testing.assert_array_equal(video.read(clip).array, luma_planes(clip))


def test_luma_is_within_two_levels_of_opencv_nearly_everywhere(clip):
    capture = cv2.VideoCapture(str(clip))
    frames = [cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2GRAY) for _ in range(FRAMES)]
    difference = video.read(clip).array.astype(int) - frames
    assert (np.abs(difference) <= 2).mean() >= 0.99
    assert 0 < difference.mean() < 2


def test_the_default_spline_runs_over_all_frames(clip):
    planes = luma_planes(clip)
    factors = [target / size for target, size in zip(SHAPE, planes.shape, strict=True)]
    wanted = np.clip(ndimage.zoom(planes, factors, order=3, mode="nearest") / 255, 0, 1)
    assert apart(convert(clip, VideoRecipe(shape=SHAPE, dtype="float32")).volume, wanted) <= 2e-5


def test_the_preset_equals_opencvs_frames_exactly(clip):
    recipe = VideoRecipe(shape=(7, 20, 20), preset="viptt-2021")
    np.testing.assert_array_equal(convert(clip, recipe).volume, clip_of_2021(clip, 7, 20))
