"""Videos to luma frames, decoded one after the other from the first to the last.

Arrays are (depth, height, width) uint8: frames, rows, columns; luma is OpenCV's
``0.299 R + 0.587 G + 0.114 B``, rounded. A rotation in the metadata is applied. The header's frame
count is recorded but not believed: what is decoded counts.

Does not seek, resample in time, keep colour or sound, or open anything but local files of the
containers listed here.
"""

import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.readers.reading import Facts, Reading, check_regular_file, check_size

SUFFIXES = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpeg", ".mpg")
FETCH = "fetch or export it again"
ENOUGH = 0.9  # of the declared frames; edit lists and delayed frames account for a few
Sides = tuple[int, int]
MIN_FRAME_BYTES = 8  # less per declared frame than a chunk header needs: the declared count is false


def read(path: Path, *, size: Sides | None = None) -> Reading:
    """Decode all frames, (frames, rows, columns), with their facts.

    With ``size`` (rows, columns), each frame is resized before it becomes luma, by ``cv2.resize`` as it
    comes: bilinear, without smoothing, the ratio of the sides not kept. The facts are those of the clip.

    Raises SourceError with one of the codes not-a-regular-file, unreadable, empty-file, not-video,
    truncated, no-frames, frame-count-mismatch, format-change, too-large.
    """
    capture = _open(path)
    try:
        facts = _facts(path, capture)
        frames, sides = _decode(path, capture, size)
    finally:
        capture.release()
    facts["frames_decoded"] = len(frames)
    facts["shape"] = [len(frames), *sides]
    _check_count(path, facts)
    return Reading(frames, facts)


def inspect(path: Path) -> Facts:
    """Facts from the header alone; ``shape`` holds the declared number of frames. Raises as ``read``."""
    capture = _open(path)
    try:
        return _facts(path, capture)
    finally:
        capture.release()


def _open(path: Path) -> Any:
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise SourceError.of(
            path, "unreadable", str(error.strerror), "check permissions and the disk"
        ) from None
    _check_container(path, start)
    # Remarks of FFmpeg and OpenCV go to stderr past Python; what matters is told by the counts.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    cv2.setNumThreads(1)
    # Bytes: a name that is not UTF-8 as text crashes OpenCV. Absolute: `http:a.avi` is a file, not a host.
    name: Any = os.fsencode(path.absolute())
    capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        capture.release()
        reason = "no video stream can be opened (cut before its index, sound only, or an unknown codec)"
        raise SourceError.of(path, "not-video", reason, FETCH)
    return capture


def _check_container(path: Path, start: bytes) -> None:
    """Only containers that the suffixes promise, by content: FFmpeg would also open lists of other files."""
    riff = start[:4] == b"RIFF" and start[8:12] == b"AVI "
    known = (
        riff
        or start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
        or start[:4] in (b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")
    )
    if not known:
        raise SourceError.of(path, "not-video", "its content is not AVI, MP4, Matroska or MPEG", "remove it")
    size = path.stat().st_size
    declared = struct.unpack("<I", start[4:8])[0] + 8 if riff else 0
    if declared > size:
        reason = f"{size} bytes; its header declares {declared}"
        raise SourceError.of(path, "truncated", reason, FETCH)


def _facts(path: Path, capture: Any) -> Facts:
    declared = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    declared = int(declared) if 0 <= declared < 1 << 31 else 0
    fourcc = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
    rotation = int(capture.get(cv2.CAP_PROP_ORIENTATION_META))
    size = [int(capture.get(axis)) for axis in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)]
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return {
        "shape": [declared, *size],
        "frames_declared": declared,
        "codec": fourcc.decode("ascii", "replace"),
        "fps": round(fps, 3) if np.isfinite(fps) else 0.0,
        "rotation": rotation,
        "warnings": [],
    }


def _decode(path: Path, capture: Any, size: Sides | None) -> tuple[NDArray[np.uint8], Sides]:
    """All frames as luma, and the rows and columns that they had before they were resized."""
    frames: list[NDArray[np.uint8]] = []
    sides = (0, 0)
    while True:
        done, frame = capture.read()
        if not done:
            break
        if frames and frame.shape[:2] != sides:
            raise SourceError.of(path, "format-change", "its frames change size", "export it with one size")
        sides = frame.shape[:2]
        frames.append(_luma(frame, size))
        check_size(path, (len(frames), *sides))
    if not frames:
        raise SourceError.of(path, "no-frames", "not one frame can be decoded", FETCH)
    return np.stack(frames), sides


def _luma(frame: Any, size: Sides | None) -> NDArray[np.uint8]:
    """One frame (rows, columns[, BGR]) to luma, resized before if a size is given."""
    resized = frame if size is None else cv2.resize(frame, size[::-1])
    luma: Any = cv2.cvtColor(resized, cv2.COLOR_BGR2GRAY) if resized.ndim == 3 else resized
    return np.asarray(luma, np.uint8)


def _check_count(path: Path, facts: Facts) -> None:
    declared, decoded = facts["frames_declared"], facts["frames_decoded"]
    if declared == decoded:
        return
    believable = declared * MIN_FRAME_BYTES < path.stat().st_size
    if believable and decoded < ENOUGH * declared:
        reason = f"{decoded} frames decoded of {declared} declared"
        raise SourceError.of(path, "frame-count-mismatch", reason, FETCH)
    facts["warnings"].append(f"{decoded} frames decoded, {declared} declared")
