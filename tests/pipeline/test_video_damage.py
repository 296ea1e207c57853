"""Damage, false counts, sizes and codecs, and frames that are unlike: what is refused, and how."""

import re
import struct
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_files import (
    COLUMNS,
    FRAMES,
    ROWS,
    avi_bytes,
    encode,
    encode_as,
    grey_ramp,
    jpeg,
    luma_frames,
    moving_noise,
    packets_of,
    patched,
    without_element,
)

from pipeline.errors import SourceError
from pipeline.readers import video
from pipeline.readers.video import inspect, read


@pytest.fixture
def clip(tmp_path, write_clip):
    """A clip in OpenCV's own encoding."""

    def make(fourcc="XVID", name="clip.avi", frames=FRAMES):
        return write_clip(tmp_path / name, moving_noise(frames), fourcc)

    return make


def code_of(problems):
    (problem,) = problems
    return problem.code


def avi_of(path, packets, fourcc=b"MJPG"):
    path.write_bytes(avi_bytes(packets, fourcc))
    return path


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fourcc", ["XVID", "MJPG"])
@pytest.mark.parametrize(("share", "frames"), [(0.25, (5, 20)), (0.5, (20, 35)), (0.8, (40, 55))])
def test_cut_avi_files_are_refused(clip, refusal, fourcc, share, frames):
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
def test_a_cut_file_is_refused_whatever_its_counts(clip, refusal, count):
    path = with_count(clip("MJPG"), count)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"idx1")])  # all frames are there
    code = "truncated" if count == FRAMES else "frame-count-mismatch"
    assert code_of(refusal(SourceError, lambda: read(path))) == code


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_cut_mp4_files_are_refused(clip, refusal, share):
    path = clip("mp4v", "a.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    (problem,) = refusal(SourceError, lambda: read(path))
    assert problem.code == "not-video"
    assert "cut before its index" in problem.reason


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("fourcc", ["XVID", "MJPG"])
def test_a_hole_in_the_middle_is_refused_or_told(clip, fourcc, share):
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
def test_what_ffmpeg_remarks_refuses_a_clip(shared, tmp_path, refusal, name, damage):
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
def test_one_frame_of_the_index_may_be_missing(clip, refusal, missing, refused):
    path = emptied(clip("MJPG"), missing)
    if refused:
        (problem,) = refusal(SourceError, lambda: read(path))
        assert problem.code == "frame-count-mismatch"
        assert problem.reason == f"{FRAMES - missing} frames decoded of {FRAMES} declared"
    else:
        assert len(read(path).array) == FRAMES - missing


@pytest.mark.parametrize(("missing", "refused"), [(3, False), (4, True)])
def test_one_in_a_hundred_may_be_missing(clip, refusal, missing, refused):
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


@pytest.mark.parametrize(("length", "refused"), [(0, False), (1, True), (8, True)])
def test_frames_without_bytes_may_be_missing(clip, refusal, length, refused):
    """So an AVI says that a frame repeats the last."""
    path = indexed_as(emptied(clip("MJPG"), 4), length, range(10, 14))
    if refused:
        assert code_of(refusal(SourceError, lambda: read(path))) == "frame-count-mismatch"
    else:
        assert len(read(path).array) == FRAMES - 4


@pytest.mark.parametrize(("repeats", "refused"), [(0, False), (1, False), (5, False), (6, False), (8, True)])
def test_frames_that_only_repeat_the_last_may_be_missing(tmp_path, clip, refusal, repeats, refused):
    """One in ten at most: MPEG-4 says in 7 bytes that a frame is not coded, and none is decoded."""
    not_coded = bytes([0, 0, 1, 0xB6, 0b01_0_1_0000, 0b0_1_0_01111, 0x7F])  # ISO/IEC 14496-2, 6.2.5
    packets = packets_of(clip("XVID"))
    path = avi_of(tmp_path / "a.avi", packets[:-1] + [not_coded] * repeats + packets[-1:], b"XVID")
    if refused:
        assert code_of(refusal(SourceError, lambda: read(path))) == "frame-count-mismatch"
    else:
        assert len(read(path).array) == FRAMES


def test_lost_frames_do_not_hide_among_repeated_ones(shared, tmp_path, refusal):
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


@pytest.mark.parametrize("count", [0, 1, FRAMES - 1, FRAMES + 1, 2 * FRAMES, 100_000, 2**31 + 5, 2**32 - 1])
def test_the_declared_count_is_not_believed(clip, count):
    reading = read(with_count(clip("MJPG"), count))
    assert len(reading.array) == FRAMES
    assert reading.facts["frames_decoded"] == FRAMES
    assert reading.facts["shape"] == [FRAMES, ROWS, COLUMNS]
    declared = 0 if count > 2**31 else count or reading.facts["frames_declared"]
    assert reading.facts["frames_declared"] == declared
    differ = [f"{FRAMES} frames decoded, {declared} declared"]
    assert reading.facts["warnings"] == (differ if declared not in (0, FRAMES) else [])


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


@pytest.mark.parametrize("sides", [(60000, 60000), (30000, 30000), (2**31 - 1, 1)], ids=str)
@pytest.mark.parametrize("fourcc", ["MJPG", "FFV1", "XVID", "HFYU"])
def test_a_huge_size_in_the_header_is_refused(clip, refusal, fourcc, sides):
    path = patched(clip(fourcc), b"strf", 4, "<2i", *sides)
    assert code_of(refusal(SourceError, lambda: read(path))) in ("no-frames", "decode-warnings", "too-large")


def test_a_size_beyond_the_limit_is_told(tmp_path, refusal):
    line = encode(tmp_path / "a.avi", luma_frames(np.zeros((2, 16, 40_000), np.uint8)), "ffv1")
    for look in (read, inspect):
        (problem,) = refusal(SourceError, lambda look=look: look(line))
        assert (problem.code, "40000" in problem.reason) == ("too-large", True)


@pytest.mark.parametrize("name", [b"M8RG", b"ZZ99", b"\1\0\0\0", b"dvsd", b"\xff\n\0\x80"])
def test_an_unknown_codec_is_refused(clip, refusal, name):
    path = patched(clip("MJPG"), b"strf", 16, "4s", name)
    for look in (read, inspect):
        assert code_of(refusal(SourceError, lambda look=look: look(path))) == "codec-not-allowed"


@pytest.mark.parametrize("suffix", [".avi", ".mov", ".mkv"])
@pytest.mark.parametrize(("fourcc", "name"), [("MAGY", "magicyuv"), ("ULRG", "utvideo"), ("WMV1", "wmv1")])
def test_real_clips_of_other_codecs(clip, refusal, suffix, fourcc, name):
    path = clip(fourcc, f"a{suffix}", frames=2)
    (problem,) = refusal(SourceError, lambda: read(path))
    assert (problem.code, problem.reason) == ("codec-not-allowed", f"its codec is {name}")
    assert "convert it" in problem.remedy


def test_what_mp4v_stands_for_is_looked_at(clip, refusal):
    path = clip("mp4v", "a.mp4")
    data = bytearray(path.read_bytes())
    place = data.index(b"esds") + 8
    kind = data.index(b"\x20\x11", place)  # MPEG-4 Visual, of a stream of images
    data[kind] = 0x6E  # JPEG 2000
    path.write_bytes(data)
    (problem,) = refusal(SourceError, lambda: read(path))
    assert (problem.code, problem.reason) == ("codec-not-allowed", "its codec is jpeg2000")


def test_no_decoder_outside_the_list_is_opened(clip, monkeypatch):
    """FFmpeg decodes a few packets of every stream when it opens a file."""
    path = clip("MAGY")
    monkeypatch.setattr(video, "CODECS", (*video.CODECS, "magicyuv"))
    with pytest.raises(SourceError, match=r"not one frame can be decoded"):
        read(path)


# --- FFmpeg's errors, whoever else uses it -------------------------------------------------------


@pytest.fixture
def scratched(clip):
    """A clip with 8 bytes of zeros within a frame, which leave the number of frames as it is."""
    path = clip("XVID", "scratched.avi")
    data = bytearray(path.read_bytes())
    place = data.index(b"00dc", len(data) // 2) + 300
    data[place : place + 8] = bytes(8)
    path.write_bytes(data)
    return path


def test_the_same_damage_is_refused_again_and_again(scratched, refusal):
    """PyAV by itself leaves out an error that equals the last one."""
    first, *others = [refusal(SourceError, lambda: read(scratched)) for _ in range(3)]
    assert code_of(first) == "decode-warnings"
    assert others == [first, first]


def test_nothing_is_printed(scratched, clip, refusal, capfd):
    read(clip())
    refusal(SourceError, lambda: read(scratched))
    assert capfd.readouterr() == ("", "")


def test_an_error_counts_for_the_clip_of_its_thread_alone(scratched, clip):
    sound, found = clip(), {}

    def read_often(path):
        codes = set()
        for _ in range(10):
            try:
                codes.add(len(read(path).array))
            except SourceError as error:
                codes.add(error.problems[0].code)
        found[path] = codes

    threads = [threading.Thread(target=read_often, args=(path,)) for path in (sound, scratched)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {sound: {FRAMES}, scratched: {"decode-warnings"}}


def test_a_process_that_used_opencv_before_reads_just_as_well(scratched, clip):
    """OpenCV has an FFmpeg of its own, and once kept its errors for itself."""
    code = """
import pathlib, sys, cv2
for name in sys.argv[1:]:
    capture = cv2.VideoCapture(name)
    while capture.read()[0]:
        pass
from pipeline.errors import SourceError
from pipeline.readers import video
for name in sys.argv[1:]:
    try:
        print(len(video.read(pathlib.Path(name)).array))
    except SourceError as error:
        print(error.problems[0].code)
"""
    command = [sys.executable, "-c", code, clip(), scratched]
    root = Path(video.__file__).parents[2]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == [str(FRAMES), "decode-warnings"]


def test_a_source_is_not_modified(clip):
    path = clip()
    before, changed = path.read_bytes(), path.stat().st_mtime_ns
    read(path), inspect(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, changed)


@pytest.mark.parametrize("suffix", [".mkv", ".flv", ".mpg", ".gif", ".3gp", ".webm"])
def test_cut_files_of_other_containers_are_refused(tmp_path, refusal, suffix):
    path = encode_as(tmp_path / f"a{suffix}")
    assert len(read(path).array) == FRAMES
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    codes = ("decode-warnings", "frame-count-mismatch", "not-video")
    assert code_of(refusal(SourceError, lambda: read(path))) in codes


# --- Matroska -----------------------------------------------------------------------------------

DEFAULT_DURATION = b"\x23\xe3\x83"


def test_a_matroska_file_without_default_duration_is_read(tmp_path):
    """Its frame rate is a guess, 1000 a second where frames come at uneven times."""
    times = np.cumsum(np.random.default_rng(1).integers(1, 80, 30)).tolist()
    path = encode(tmp_path / "a.mkv", luma_frames(grey_ramp(30)), "ffv1", times=times)
    reading = read(without_element(path, DEFAULT_DURATION))
    assert reading.array.shape == (30, ROWS, COLUMNS)
    assert reading.facts["warnings"] == []


@pytest.mark.parametrize(("missing", "refused"), [(0, False), (6, False), (7, True)])
def test_with_default_duration_one_frame_in_ten_may_be_missing(tmp_path, refusal, missing, refused):
    times = [40 * number for number in range(FRAMES - missing - 1)] + [40 * (FRAMES - 1)]
    path = encode(tmp_path / "a.mkv", luma_frames(grey_ramp(len(times))), "ffv1", times=times)
    if refused:
        assert code_of(refusal(SourceError, lambda: read(path))) == "frame-count-mismatch"
    else:
        assert len(read(path).array) == FRAMES - missing


# --- one format ---------------------------------------------------------------------------------


COLOUR = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
FORMATS = {
    "size": (jpeg(48, 64, COLOUR), jpeg(96, 128, COLOUR), "64x48 yuvj420p and 128x96 yuvj420p"),
    "smaller": (jpeg(48, 64, COLOUR), jpeg(40, 56, COLOUR), "64x48 yuvj420p and 56x40 yuvj420p"),
    "turned": (jpeg(48, 64), jpeg(64, 48), "64x48 gray and 48x64 gray"),
    "grey": (jpeg(48, 64, COLOUR), jpeg(48, 64), "64x48 yuvj420p and 64x48 gray"),
    "chroma": (
        jpeg(48, 64, COLOUR),
        jpeg(48, 64, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        "64x48 yuvj420p and 64x48 yuvj444p",
    ),
}


@pytest.mark.parametrize(("one", "other", "words"), FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("place", [1, 10, 19])
def test_a_change_of_format_is_refused(tmp_path, refusal, one, other, words, place):
    path = avi_of(tmp_path / "a.avi", [one] * place + [other] * (20 - place))
    (problem,) = refusal(SourceError, lambda: read(path))
    assert (problem.code, problem.reason) == ("format-change", f"its frames are {words}")
    assert "export it with one size" in problem.remedy
    for alone in (one, other):
        assert len(read(avi_of(path, [alone] * 20)).array) == 20


def test_a_single_frame_of_another_size_is_refused(tmp_path, refusal):
    images = [jpeg(48, 64)] * 7 + [jpeg(50, 64)] + [jpeg(48, 64)] * 7
    assert code_of(refusal(SourceError, lambda: read(avi_of(tmp_path / "a.avi", images)))) == "format-change"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("fourcc", "suffix", "name", "pixels"),
    [
        ("XVID", ".avi", b"XVID", "yuv420p"),
        ("MPNG", ".avi", b"MPNG", "rgb24"),
        ("PIM1", ".avi", b"mpg1", "yuv420p"),
        ("MPG2", ".mpg", b"mpg2", "yuv420p"),
        ("VP80", ".webm", b"VP80", "yuv420p"),
        ("VP90", ".webm", b"VP90", "yuv420p"),
    ],
)
def test_of_other_codecs(tmp_path, write_clip, refusal, fourcc, suffix, name, pixels):
    """Packets of two clips one after the other, under one header."""
    packets = {}
    for rows, columns in ((48, 64), (96, 128)):
        frames = moving_noise(12, rows, columns)
        packets[rows] = packets_of(write_clip(tmp_path / f"{rows}{suffix}", frames, fourcc))
    (problem,) = refusal(
        SourceError, lambda: read(avi_of(tmp_path / "a.avi", packets[48] + packets[96], name))
    )
    assert (problem.code, problem.reason) == (
        "format-change",
        f"its frames are 64x48 {pixels} and 128x96 {pixels}",
    )
    same = read(avi_of(tmp_path / "a.avi", packets[48] + packets[48], name))
    assert same.array.shape == (24, 48, 64)


def test_two_mpeg_streams_in_one_file(tmp_path, write_clip, refusal):
    one, other = (
        write_clip(tmp_path / f"{rows}.mpg", moving_noise(FRAMES, rows, columns), "PIM1").read_bytes()
        for rows, columns in ((48, 64), (96, 128))
    )
    path = tmp_path / "both.mpg"
    path.write_bytes(one + other)
    (problem,) = refusal(SourceError, lambda: read(path))
    assert (problem.code, problem.reason) == (
        "format-change",
        "its frames are 64x48 yuv420p and 128x96 yuv420p",
    )


@pytest.mark.parametrize("rate", [(0, 0), (0, 25), (1, 0)], ids=str)
def test_the_frame_rate_does_not_matter(clip, rate):
    path = patched(clip("MJPG"), b"avih", 0, "<I", 0)
    reading = read(patched(path, b"strh", 20, "<2I", *rate))
    assert len(reading.array) == FRAMES
    assert np.isfinite(reading.facts["fps"])
