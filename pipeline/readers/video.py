"""Videos to luma frames, decoded one after the other from the first to the last.

Arrays are (depth, height, width) uint8: frames, rows, columns; luma is OpenCV's
``0.299 R + 0.587 G + 0.114 B``, rounded. A rotation in the metadata is applied. The header's frame
count is recorded but not believed: what is decoded counts. Where a container's index lists its frames
(AVI, MP4, MOV), one in a hundred may be missing, but always one; also those, up to one in ten, that only
repeat the last. Where the count is a guess from duration and frame rate, one in ten.

A clip over which FFmpeg remarks an error is refused: most damage leaves the number of frames as it is. So is
one whose packets change the size or the sampling of their pictures, which OpenCV would scale to the first.

Does not seek, resample in time, keep colour or sound, or open anything but local files of the
containers and codecs listed in ``containers``.
"""

import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, ResourceError, SourceError
from pipeline.readers import pictures
from pipeline.readers.containers import RAW, Container, known_codec, look
from pipeline.readers.reading import Facts, Reading, SourceType, Statistics, check_regular_file, check_size
from pipeline.readers.remarks import Remarks, ask_for_errors, listening
from pipeline.recipe import VideoRecipe
from pipeline.scale import choose_frames, scale_video
from pipeline.statistics import describe

SUFFIXES = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpeg", ".mpg")
FETCH = "fetch or export it again"
HISTOGRAM = (0.0, 256.0)  # gray levels
MISSING = 0.01  # of the frames that an index lists; always one, which a decoder may hold back
UNSURE = 0.1  # of a count that is a guess, or of frames that hold no image of their own
FFMPEG_OPTIONS = "format_whitelist;avi,mov,matroska,mpeg,mpegvideo|protocol_whitelist;file"
Sides = tuple[int, int]
CUT_MP4 = b"\0\0\0\x18ftypisom" + bytes(12)  # FFmpeg always remarks that it has no index
MIN_FRAME_BYTES = 8  # less per declared frame than a chunk header needs: the declared count is false


def read(path: Path, *, size: Sides | None = None) -> Reading:
    """Decode all frames, (frames, rows, columns), with their facts.

    With ``size`` (rows, columns), each frame is resized before it becomes luma, by ``cv2.resize`` as it
    comes: bilinear, without smoothing, the ratio of the sides not kept. The facts are those of the clip.

    Raises SourceError with one of the codes not-a-regular-file, unreadable, empty-file, not-video,
    codec-not-allowed, truncated, no-frames, too-large, format-change, frame-count-mismatch, decode-warnings
    (the first that applies, in about this order); ConfigError for an OpenCV that has no FFmpeg or does not
    tell what it remarks, or for a process without standard output; ResourceError without a temporary folder.
    """
    container = _look(path)
    _check_ffmpeg()
    _check_heard()
    with listening() as remarks:
        capture = _open(path, [])
        try:
            facts = _facts(path, capture)
            frames, sides = _decode(path, capture, size, remarks)
        finally:
            capture.release()
    facts["frames_decoded"] = len(frames)
    facts["shape"] = [len(frames), *sides]
    packets = _count_packets(path, facts["codec"])
    _check_count(path, container, facts)
    _check_packets(path, container, packets)
    _check_remarks(path, remarks)
    return Reading(frames, facts)


def inspect(path: Path) -> Facts:
    """Facts from the header alone; ``shape`` holds the declared number of frames. Raises as ``read``."""
    container = _look(path)
    if container.cut:
        raise _truncated(path)
    _check_ffmpeg()
    with listening():  # and say nothing: only headers are looked at
        capture = _open(path, [])
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


def _check_ffmpeg() -> None:
    if cv2.CAP_FFMPEG not in cv2.videoio_registry.getBackends():
        remedy = "run `pip install --force-reinstall opencv-python-headless`"
        raise ConfigError.of("cv2", "no-ffmpeg", "this OpenCV was built without FFmpeg", remedy)


@cache
def _check_heard() -> None:
    """Once in a process: damage would pass in silence if OpenCV kept to itself what FFmpeg remarks."""
    try:
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file, listening() as remarks:
            file.write(CUT_MP4)
            file.flush()
            _capture(Path(file.name), []).release()
    except OSError as error:
        reason = f"no temporary file can be written: {error.strerror}"
        raise ResourceError.of("cv2", "no-temporary-file", reason, "free the disk, or set TMPDIR") from None
    if not remarks.count:
        reason = "OpenCV does not tell what FFmpeg remarks: this process opened a video by itself before"
        raise ConfigError.of("cv2", "remarks-unheard", reason, "set OPENCV_FFMPEG_LOGLEVEL=16 for it")


def _capture(path: Path, options: list[int]) -> Any:
    ask_for_errors()
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = FFMPEG_OPTIONS
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    cv2.setNumThreads(1)
    # Bytes: a name that is not UTF-8 as text crashes OpenCV. Absolute: `http:a.avi` is a file, not a host.
    name: Any = os.fsencode(path.absolute())
    return cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1, *options])


def _open(path: Path, options: list[int]) -> Any:
    capture = _capture(path, options)
    try:
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


def _decode(
    path: Path, capture: Any, size: Sides | None, remarks: Remarks
) -> tuple[NDArray[np.uint8], Sides]:
    """All frames as luma, and the rows and columns that they had before they were resized."""
    frames: list[NDArray[np.uint8]] = []
    sides = (0, 0)
    while True:
        done, frame = capture.read()
        remarks.make_room()
        if not done:
            break
        if frames and frame.shape[:2] != sides:
            raise _format_change(path, "its frames change size")
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


def _count_packets(path: Path, codec: str) -> int:
    """A second pass, over the packets as they are coded, which takes little time beside the first.

    Raises SourceError with code format-change if their pictures differ in size or sampling.
    """
    count = 0

    def packets() -> Iterator[bytes]:
        nonlocal count
        yield from _beside(capture)
        for packet in _packets(capture):
            count += 1
            yield packet

    with listening():  # what FFmpeg remarks was told the first time
        capture = _open(path, [cv2.CAP_PROP_FORMAT, -1])
        try:
            change = pictures.change(codec, packets())
        finally:
            capture.release()
    if change:
        raise _format_change(path, f"its pictures are {change[0].differing(change[1])}")
    return count


def _beside(capture: Any) -> Iterator[bytes]:
    """What the container holds beside the packets, where MP4 keeps the header of MPEG-4."""
    _, data = capture.retrieve(None, int(capture.get(cv2.CAP_PROP_CODEC_EXTRADATA_INDEX)))
    if data is not None:
        yield data.tobytes()


def _packets(capture: Any) -> Iterator[bytes]:
    while True:
        done, data = capture.read()
        if not done:
            return
        yield data.tobytes()


def _format_change(path: Path, reason: str) -> SourceError:
    return SourceError.of(path, "format-change", reason, "export it with one size and one pixel format")


def _check_packets(path: Path, container: Container, packets: int) -> None:
    """Lost ones may hide among the frames that a decoder may leave out."""
    wanted = container.packets or 0
    if packets < wanted - max(1, MISSING * wanted):
        reason = f"{packets} coded frames found of {wanted} that its index lists"
        raise SourceError.of(path, "frame-count-mismatch", reason, FETCH)


def _check_remarks(path: Path, remarks: Remarks) -> None:
    if remarks.count:
        errors = "1 error" if remarks.count == 1 else f"{remarks.count} errors, the first"
        reason = f"while it was decoded, {errors}: {remarks.first}"
        remedy = "fetch it again, or encode it anew if it looks right"
        raise SourceError.of(path, "decode-warnings", reason, remedy)


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


def convert(path: Path, recipe: VideoRecipe) -> Reading:
    """Values in [0, 1] at the recipe's shape. Raises SourceError as ``read``, and too-short."""
    reading = read(path, size=recipe.shape[1:] if recipe.preset else None)
    values = scale_video(choose_frames(path, reading.array, recipe), recipe)
    return Reading(values, reading.facts, describe(reading.array, HISTOGRAM))


def doubts(statistics: Statistics, facts: Facts) -> list[str]:
    """What makes a clip look like a still picture."""
    return ["one frame only, which is repeated to the depth of the volume"] if facts["shape"][0] == 1 else []


SOURCE = SourceType(
    "video", SUFFIXES, VideoRecipe, inspect, read, convert, kind="codec", converter=1, doubts=doubts
)
