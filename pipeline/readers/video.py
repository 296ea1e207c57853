"""Videos to luma frames, decoded one after the other from the first to the last.

Arrays are (depth, height, width) uint8: frames, rows, columns; luma is OpenCV's
``0.299 R + 0.587 G + 0.114 B``, rounded. A rotation in the metadata is applied. The header's frame
count is recorded but not believed: what is decoded counts. Where a container's index lists its frames
(AVI, MP4, MOV), one in a hundred may be missing, but always one; also those, up to one in ten, that only
repeat the last. Where the count is a guess from duration and frame rate, one in ten.

Does not seek, resample in time, keep colour or sound, or open anything but local files of the
containers and codecs listed in ``containers``.
"""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.readers.containers import RAW, Container, known_codec, look
from pipeline.readers.reading import Facts, Reading, check_regular_file, check_size

SUFFIXES = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpeg", ".mpg")
FETCH = "fetch or export it again"
MISSING = 0.01  # of the frames that an index lists; always one, which a decoder may hold back
UNSURE = 0.1  # of a count that is a guess, or of frames that hold no image of their own
FFMPEG_OPTIONS = "format_whitelist;avi,mov,matroska,mpeg,mpegvideo|protocol_whitelist;file"
Sides = tuple[int, int]
MIN_FRAME_BYTES = 8  # less per declared frame than a chunk header needs: the declared count is false


def read(path: Path, *, size: Sides | None = None) -> Reading:
    """Decode all frames, (frames, rows, columns), with their facts.

    With ``size`` (rows, columns), each frame is resized before it becomes luma, by ``cv2.resize`` as it
    comes: bilinear, without smoothing, the ratio of the sides not kept. The facts are those of the clip.

    Raises SourceError with one of the codes not-a-regular-file, unreadable, empty-file, not-video,
    codec-not-allowed, truncated, no-frames, frame-count-mismatch, format-change, too-large; and ConfigError
    for an OpenCV without FFmpeg.
    """
    container = _look(path)
    capture = _open(path, container)
    try:
        facts = _facts(path, capture)
        frames, sides = _decode(path, capture, size)
    finally:
        capture.release()
    facts["frames_decoded"] = len(frames)
    facts["shape"] = [len(frames), *sides]
    _check_count(path, container, facts)
    return Reading(frames, facts)


def inspect(path: Path) -> Facts:
    """Facts from the header alone; ``shape`` holds the declared number of frames. Raises as ``read``."""
    container = _look(path)
    if container.cut:
        raise _truncated(path)
    capture = _open(path, container)
    try:
        return _facts(path, capture)
    finally:
        capture.release()


def _look(path: Path) -> Container:
    """What the file's own headers say, if all of it may be given to FFmpeg."""
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            container = look(path, file)
    except OSError as error:
        raise SourceError.of(
            path, "unreadable", str(error.strerror), "check permissions and the disk"
        ) from None
    if not container.codecs:
        raise _not_video(path)
    for codec in container.codecs:
        _check_codec(path, codec)
    for rows, columns in container.sizes:
        check_size(path, (1, rows, columns))
    return container


def _check_codec(path: Path, codec: str) -> None:
    """FFmpeg has decoders that nobody looks after; some have had holes. Known ones only."""
    if not known_codec(codec):
        reason = f"its images are stored as {codec!r}"
        raise SourceError.of(path, "codec-not-allowed", reason, "convert it, for instance to H.264 or FFV1")


def _not_video(path: Path) -> SourceError:
    reason = "no video stream can be opened (cut before its index, sound only, or an unknown codec)"
    return SourceError.of(path, "not-video", reason, FETCH)


def _truncated(path: Path) -> SourceError:
    reason = f"{path.stat().st_size} bytes; its header declares more"
    return SourceError.of(path, "truncated", reason, FETCH)


def _open(path: Path, container: Container) -> Any:
    # Remarks of FFmpeg and OpenCV go to stderr past Python; what matters is told by the counts.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = FFMPEG_OPTIONS
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    cv2.setNumThreads(1)
    # Bytes: a name that is not UTF-8 as text crashes OpenCV. Absolute: `http:a.avi` is a file, not a host.
    name: Any = os.fsencode(path.absolute())
    capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if cv2.CAP_FFMPEG not in cv2.videoio_registry.getBackends():
            remedy = "run `pip install --force-reinstall opencv-python-headless`"
            raise ConfigError.of("cv2", "no-ffmpeg", "this OpenCV was built without FFmpeg", remedy)
        if not capture.isOpened():
            raise _not_video(path)
        _check_codec(path, _codec(capture).strip("\0") or RAW)
        check_size(path, (1, *_size(capture)))
    except SourceError:
        capture.release()
        raise
    return capture


def _codec(capture: Any) -> str:
    """OpenCV's fourcc for the codec, whatever the container calls it; zeros for raw images."""
    fourcc = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
    return fourcc.decode("ascii", "replace")


def _size(capture: Any) -> tuple[int, int]:
    return int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))


def _facts(path: Path, capture: Any) -> Facts:
    declared = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    declared = int(declared) if 0 <= declared < 1 << 31 else 0
    rotation = int(capture.get(cv2.CAP_PROP_ORIENTATION_META))
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return {
        "shape": [declared, *_size(capture)],
        "frames_declared": declared,
        "codec": _codec(capture),
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


def _check_count(path: Path, container: Container, facts: Facts) -> None:
    declared, decoded = facts["frames_declared"], facts["frames_decoded"]
    least = _least(path, container, declared)
    if decoded < least or (container.cut and decoded != declared):
        reason = f"{decoded} frames decoded of {container.frames or declared} declared"
        raise SourceError.of(path, "frame-count-mismatch", reason, FETCH)
    if container.cut:
        raise _truncated(path)
    if declared != decoded:
        facts["warnings"].append(f"{decoded} frames decoded, {declared} declared")


def _least(path: Path, container: Container, declared: int) -> float:
    """How many frames must come out."""
    frames = container.frames
    if frames is not None:
        return frames - max(1, MISSING * frames, min(container.repeats, UNSURE * frames))
    believable = declared * MIN_FRAME_BYTES < path.stat().st_size
    return (1 - UNSURE) * declared if believable else 0
