"""Luma from the Y plane, the display matrix, containers and codecs, and which frames are kept."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from scipy import ndimage
from video_files import (
    BY_SUFFIX,
    COLUMNS,
    ROWS,
    encode,
    encode_as,
    grey_ramp,
    luma_frames,
    moving_noise,
    rgb_frames,
)

from pipeline.convert import convert
from pipeline.errors import SourceError
from pipeline.readers import SOURCE_TYPES, video
from pipeline.readers.reading import Source
from pipeline.readers.video import inspect, read
from pipeline.recipe import VideoRecipe

pytestmark = pytest.mark.unit

FULL = 2  # of AVColorRange
LOSSY = 24  # levels that a codec of the nineties may be off at a bit rate for telephones

# --- luma ---------------------------------------------------------------------------------------

LEVELS = {16: 0, 17: 1, 126: 128, 127: 129, 235: 255, 0: 0, 255: 255}  # BT.601: (Y - 16) * 255 / 219


def planes_of(levels, frames=3):
    """Frames of stripes of these levels."""
    stripes = np.repeat(np.array(levels, np.uint8), 16)
    return np.broadcast_to(stripes, (frames, 32, len(stripes))).copy()


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p", "yuv410p", "yuv411p"])
def test_the_limited_range_is_stretched(tmp_path, pixels):
    path = encode(tmp_path / "a.mkv", luma_frames(planes_of(list(LEVELS)), pixels), "ffv1")
    np.testing.assert_array_equal(read(path).array, planes_of(list(LEVELS.values())))


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
def test_a_stream_that_says_so_has_the_full_range(tmp_path, pixels):
    planes = planes_of([0, 1, 16, 128, 235, 254, 255])
    path = encode(tmp_path / "a.mkv", luma_frames(planes, pixels, FULL), "ffv1")
    np.testing.assert_array_equal(read(path).array, planes)


def test_gray_has_the_full_range(tmp_path):
    planes = planes_of([0, 1, 16, 128, 235, 254, 255])
    np.testing.assert_array_equal(
        read(encode(tmp_path / "a.mkv", luma_frames(planes, "gray"), "ffv1")).array, planes
    )


def test_jpeg_has_the_full_range(tmp_path):
    planes = planes_of([0, 16, 128, 235, 255])
    path = encode(tmp_path / "a.avi", luma_frames(planes, "yuvj420p", FULL), "mjpeg")
    assert np.abs(read(path).array.astype(int) - planes).max() <= 1


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p12le"])
def test_more_bits_are_rounded_to_eight(tmp_path, pixels):
    """They go through colours, where swscale may be two levels off."""
    frames = [frame.reformat(format=pixels) for frame in luma_frames(planes_of([16, 60, 126, 200, 235]))]
    array = read(encode(tmp_path / "a.mkv", frames, "ffv1")).array.astype(int)
    assert np.abs(array - planes_of([0, 51, 128, 214, 255])).max() <= 2


def test_colours_are_weighed_as_BT601_says(tmp_path):
    images = moving_noise(4)
    path = encode(tmp_path / "a.mov", rgb_frames(images), "png")
    assert np.abs(read(path).array - images @ [0.299, 0.587, 0.114]).max() <= 0.51


def test_luma_differs_little_from_opencvs(shared):
    """At most two levels, but where a colour lies outside of RGB, which OpenCV clips."""
    path = shared / "ultrasound/convex__Pneu_liftl_pneu_case3_clip3.mp4"
    capture, gray = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    while (frame := capture.read())[0]:
        gray.append(cv2.cvtColor(frame[1], cv2.COLOR_BGR2GRAY).astype(int))
    assert np.abs(read(path).array - np.stack(gray)).max() <= 2


# --- the display matrix -------------------------------------------------------------------------

#   A B C     each letter a square of its own level; what a matrix (a, b, c, d) makes of it, by hand:
#   D E F     a point (x, y), y downward, goes to (a x + c y, b x + d y).
MATRICES = {
    (1, 0, 0, 1): (["ABC", "DEF"], 0, False),
    (0, 1, -1, 0): (["DA", "EB", "FC"], 90, False),
    (-1, 0, 0, -1): (["FED", "CBA"], 180, False),
    (0, -1, 1, 0): (["CF", "BE", "AD"], 270, False),
    (-1, 0, 0, 1): (["CBA", "FED"], 0, True),
    (0, 1, 1, 0): (["AD", "BE", "CF"], 270, True),
    (1, 0, 0, -1): (["DEF", "ABC"], 180, True),
    (0, -1, -1, 0): (["FC", "EB", "DA"], 90, True),
}


def squares(lines):
    """Rows of letters to 16 x 16 pixels each, A darkest."""
    levels = np.array([[20 + 40 * (ord(letter) - ord("A")) for letter in line] for line in lines], np.uint8)
    return levels.repeat(16, axis=0).repeat(16, axis=1)


@pytest.mark.parametrize(("matrix", "shown"), MATRICES.items(), ids=str)
def test_the_display_matrix_turns_and_mirrors(tmp_path, matrix, shown):
    lines, rotation, mirrored = shown
    images = np.repeat(squares(["ABC", "DEF"])[None, ..., None], 3, axis=-1)
    path = encode(tmp_path / "a.mov", rgb_frames(np.repeat(images, 3, axis=0)), "png", matrix=matrix)
    reading, wanted = read(path), squares(lines)
    np.testing.assert_array_equal(reading.array, np.stack([wanted] * 3))
    assert (reading.facts["rotation"], reading.facts["mirrored"]) == (rotation, mirrored)
    assert inspect(path)["shape"] == reading.facts["shape"] == [3, *wanted.shape]


@pytest.mark.parametrize(("matrix", "shown"), MATRICES.items(), ids=str)
def test_the_luma_plane_and_the_preset_are_turned_alike(tmp_path, matrix, shown):
    planes = np.repeat(squares(["ABC", "DEF"])[None], 3, axis=0)
    path = encode(tmp_path / "a.mp4", luma_frames(planes), "mpeg4", matrix=matrix)
    wanted = (squares(shown[0]).astype(int) - 16) * 255 / 219
    assert np.abs(read(path).array - wanted).max() <= 12  # lossy
    resized = read(path, size=wanted.shape).array  # to the size that it has
    assert np.abs(resized - wanted).max() <= 12


def test_data_that_pyav_cannot_name_hides_no_rotation(tmp_path):
    """A JPEG of a camera held upright: its Exif says 90 degrees clockwise."""
    image = cv2.imencode(".jpg", squares(["ABC", "DEF"]))[1].tobytes()
    tiff = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + bytes(4)
    exif = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        for number in range(3):
            packet = av.Packet(image[:2] + exif + image[2:])
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base = Fraction(1, 25)
            container.mux(packet)
    reading = read(path)
    assert reading.facts["rotation"] == 90
    assert np.abs(reading.array - squares(["DA", "EB", "FC"]).astype(int)).max() <= 4


# --- containers and codecs ----------------------------------------------------------------------


def test_every_suffix_is_tried_here():
    assert set(BY_SUFFIX) == set(SOURCE_TYPES["video"].suffixes)


@pytest.mark.parametrize("suffix", BY_SUFFIX)
def test_every_container_is_read(tmp_path, suffix):
    planes = grey_ramp(20)
    path = encode_as(tmp_path / f"a{suffix}", planes)
    reading = read(path)
    full = BY_SUFFIX[suffix][1] in ("gray", "yuvj420p")
    wanted = planes.astype(float) if full else (planes.astype(float) - 16) * 255 / 219
    assert reading.array.shape == (20, ROWS, COLUMNS)
    assert np.abs(reading.array - wanted).mean() < 3
    assert np.abs(reading.array - wanted).max() <= LOSSY
    declared = reading.facts["frames_declared"]
    assert declared == 20 or suffix in (".mpg", ".mpeg")  # which do not tell
    assert inspect(path)["shape"] == [declared, ROWS, COLUMNS]


CODECS = [
    ("libx265", ".mp4", "yuv420p", {"x265-params": "log-level=none"}),
    ("libvpx", ".webm", "yuv420p", {}),
    ("libx264", ".flv", "yuv420p", {}),
    ("libx264", ".mkv", "yuv444p", {}),
    ("huffyuv", ".avi", "yuv422p", {}),
    ("msmpeg4", ".avi", "yuv420p", {}),
    ("rawvideo", ".avi", "yuv420p", {}),
]


@pytest.mark.parametrize(("codec", "suffix", "pixels", "options"), CODECS, ids=lambda value: str(value))
def test_other_codecs_are_read(tmp_path, codec, suffix, pixels, options):
    planes = grey_ramp(20)
    path = encode(tmp_path / f"a{suffix}", luma_frames(planes, pixels), codec, options=options)
    wanted = (planes.astype(float) - 16) * 255 / 219
    assert np.abs(read(path).array - wanted).max() <= LOSSY


def test_h263_of_old_telephones(tmp_path):
    planes = grey_ramp(20, 144, 176)  # H.263 has five sizes only
    path = encode(tmp_path / "a.3gp", luma_frames(planes), "h263")
    assert np.abs(read(path).array - (planes.astype(float) - 16) * 255 / 219).max() <= LOSSY


# --- which frames are kept ----------------------------------------------------------------------


@pytest.fixture
def numbered(tmp_path):
    """A lossless clip of 23 frames of noise, and its luma."""
    planes = np.random.default_rng(7).integers(0, 256, (23, 24, 32), np.uint8)
    return encode(tmp_path / "a.mkv", luma_frames(planes, "gray"), "ffv1"), planes


@pytest.mark.parametrize(
    ("frames", "taken"),
    [("all", slice(None)), ("first", slice(5)), ("every 2", slice(None, None, 2)), ("every 30", slice(1))],
)
def test_the_recipe_says_which_frames(numbered, frames, taken):
    path, planes = numbered
    recipe = VideoRecipe(shape=(5, 16, 17), frames=frames, dtype="float32")
    reading = read(path, keep=recipe.kept_frames)
    np.testing.assert_array_equal(reading.array, planes[taken])
    assert reading.facts["shape"] == [23, 24, 32]
    chosen = planes[taken].astype(np.float64)
    factors = [target / size for target, size in zip(recipe.shape, chosen.shape, strict=True)]
    wanted = np.clip(ndimage.zoom(chosen, factors, order=3, mode="nearest") / 255, 0, 1)
    assert np.abs(convert(path, recipe).volume - wanted).max() <= 2e-5


def test_frames_that_are_not_kept_are_checked(numbered, refusal):
    path, _ = numbered
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])
    refusal(SourceError, lambda: read(path, keep=range(3)))


# --- long clips ---------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", ["all", "every 2"])
@pytest.mark.parametrize("piece_frames", [1, 4, 22])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_long_clip_is_zoomed_piece_by_piece(numbered, monkeypatch, frames, piece_frames, order):
    path, _ = numbered
    recipe = VideoRecipe(shape=(5, 16, 17), frames=frames, dtype="float32", spline_order=order)
    whole = convert(path, recipe)
    monkeypatch.setattr(video, "PIECE_BYTES", piece_frames * 24 * 32)
    pieces = convert(path, recipe)
    assert np.abs(pieces.volume - whole.volume).max() <= 1e-6
    assert pieces.facts == whole.facts


def test_pieces_are_shrunk_as_soon_as_they_are_full(numbered, monkeypatch):
    path, planes = numbered
    monkeypatch.setattr(video, "PIECE_BYTES", 9 * 24 * 32)
    given = []

    def shrink(frames):
        given.append(len(frames))
        return frames[:, ::2, ::2].astype(np.float32)

    np.testing.assert_array_equal(read(path, shrink=shrink).array, planes[:, ::2, ::2])
    assert given == [10, 10, 3]


def test_a_clip_that_is_too_large_even_so_is_told_what_to_do(numbered, refusal, monkeypatch):
    path, _ = numbered
    zoomed = 16 * 17 * 4
    monkeypatch.setattr(video, "PIECE_BYTES", 24 * 32)
    monkeypatch.setattr(video, "MAX_BYTES", 15 * zoomed)
    recipe = VideoRecipe(shape=(5, 16, 17))
    (problem,) = refusal(SourceError, lambda: convert(path, recipe))
    assert problem.code == "too-large"
    assert "`frames: every N`" in problem.remedy
    assert SOURCE_TYPES["video"].examine(Source(path)).facts["frames_decoded"] == 23
    for frames in ("every 2", "first"):
        convert(path, recipe.model_copy(update={"frames": frames}))


@pytest.mark.slow
def test_35_seconds_in_full_HD_are_converted(tmp_path):
    """1036 frames of 1080 x 1920 are more than 2 GiB of luma."""
    still = luma_frames(np.full((1, 1080, 1920), 126, np.uint8))[0]
    path = encode(tmp_path / "a.mp4", (still for _ in range(1040)), "mpeg4")
    conversion = convert(path, VideoRecipe(dtype="float32"))
    assert conversion.facts["shape"] == [1040, 1080, 1920]
    assert conversion.volume.shape == (70, 224, 224)
    assert np.abs(conversion.volume - 128 / 255).max() < 0.01
