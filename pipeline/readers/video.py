"""Videos to luma frames, decoded one after the other from the first to the last.

Arrays are (depth, height, width) uint8: frames, rows, columns; ``video_frames`` says what luma is.

FFmpeg decodes, by way of PyAV, in one thread. It may use the containers and codecs of a short list, and it
reads the open file alone: no other file, no address. A clip is refused if FFmpeg logs an error while it opens
or decodes it, if frames are missing, or if frames differ in size or pixel format.

How many frames there must be: the index of AVI, MP4 and MOV lists them. One in a hundred may be missing, but
always one; of an AVI also those, up to one in ten, that only repeat the last. Elsewhere the count in a
header, or duration times frame rate where the rate is steady, is a guess: one in ten may be missing.

Does not seek, resample in time, or read sound.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import av
import av.logging
import numpy as np
from av import VideoFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.readers.content import check_regular_file
from pipeline.readers.reading import MAX_VALUES, Facts, Reading, check_size
from pipeline.readers.video_frames import AS_STORED, Luma, LumaReader, Orientation, Sides, orientation_of

SUFFIXES = (".avi", ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".mpeg", ".mpg", ".flv", ".gif")
# FFmpeg calls MP4 and 3GP mov. WMV is left out: nothing tells that a file of it is cut.
CONTAINERS = "avi,mov,matroska,mpeg,mpegvideo,flv,gif"
LISTING = ("avi", "mov")  # containers whose index lists every frame
# What cameras, editors and data sets use. FFmpeg has hundreds of decoders more, many hardly maintained.
CODECS = (
    *("mpeg4", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "vp8", "vp9", "libdav1d", "h263", "flv"),
    *("gif", "png", "ffv1", "huffyuv", "ffvhuff", "rawvideo", "msmpeg4", "msmpeg4v2"),
)
CODEC_OPTIONS = {"codec_whitelist": ",".join(CODECS), "err_detect": "crccheck"}
CONTAINER_OPTIONS = {
    "codec_whitelist": CODEC_OPTIONS["codec_whitelist"],
    "format_whitelist": CONTAINERS,
    "protocol_whitelist": "none",
}
SOUND_REFUSED = "not on whitelist"  # what FFmpeg logs of each stream of sound
EVERY_FRAME = range(sys.maxsize)
FETCH = "fetch or export it again"
MISSING = 0.01  # of the frames that an index lists; always one, which a decoder may hold back
UNSURE = 0.1  # of a count that is a guess, or of frames that hold no image of their own
NOT_CODED_BYTES = 8  # MPEG-4 says in so few that a frame repeats the last one, or came packed with it
MIN_FRAME_BYTES = 8  # a file with less for each declared frame declares a false count
MAX_WORDS = 120  # letters of an error that are quoted
PIECE_BYTES = 1 << 28  # of frames that are held as decoded; beyond, they are shrunk
MAX_BYTES = MAX_VALUES  # of all frames that are held

Shrink = Callable[[Luma], NDArray[np.float32]]
Result = TypeVar("Result")


def read(
    path: Path, *, keep: range = EVERY_FRAME, size: Sides | None = None, shrink: Shrink | None = None
) -> Reading:
    """Decode all frames, and return those whose numbers are in ``keep``, (frames, rows, columns).

    With ``size`` (rows, columns), each frame is resized by OpenCV before it becomes luma. With ``shrink``,
    frames that together are too large to be held are given to it, some at a time, (n, rows, columns), and
    the array is made of what it returns. The facts are those of the clip: all frames, at their own size.

    Raises SourceError with one of the codes not-a-regular-file, unreadable, empty-file, not-video,
    codec-not-allowed, too-large, format-change, no-frames, frame-count-mismatch, truncated, decode-warnings
    (the first that applies, in about this order).
    """
    with _opened(path) as clip:
        declared = _Declared.of(clip)
        reader, stack = LumaReader(size), _Stack(path, shrink)
        for number, frame in enumerate(clip.frames()):
            if number in keep:
                stack.add(reader.luma(frame, clip.orientation))
        facts = _facts(clip, declared)
        _check_count(clip, declared)
    _check_errors(clip)
    facts["frames_decoded"] = facts["shape"][0] = clip.decoded
    if declared.count not in (0, clip.decoded):
        facts["warnings"].append(f"{clip.decoded} frames decoded, {declared.count} declared")
    return Reading(stack.array(), facts)


def inspect(path: Path) -> Facts:
    """Facts from the header and the first frame; ``shape`` holds the declared number of frames.

    Raises as ``read`` does, apart from what only all frames can tell.
    """
    with _opened(path) as clip:
        if clip.cut:
            raise _truncated(path)
        declared = _Declared.of(clip)
        next(clip.frames(), None)
        return _facts(clip, declared)


# --- an open clip -------------------------------------------------------------------------------


@dataclass
class _Clip:
    """An open clip. While it is decoded it counts packets, frames, and the errors that FFmpeg logs."""

    path: Path
    container: InputContainer
    stream: VideoStream
    log: list[tuple[int, str, str]]
    cut: bool
    packets: int = 0
    decoded: int = 0
    errors: int = 0
    first_error: str = ""
    form: tuple[int, int, str] | None = None
    orientation: Orientation = AS_STORED

    def frames(self) -> Iterator[VideoFrame]:
        """All frames that can be decoded. Raises SourceError with code format-change if two are unlike."""
        packets = self.container.demux(self.stream)
        while (packet := self._attempt(lambda: next(packets, None))) is not None:
            self.packets += packet.size > 0
            if packet.is_corrupt:
                self._count_error("a packet is cut short")
            for frame in self._attempt(packet.decode) or ():
                self._note(frame)
                yield frame

    def _attempt(self, step: Callable[[], Result]) -> Result | None:
        """What a step of FFmpeg returns, or None if it fails; errors are counted in both cases."""
        try:
            return step()
        except FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            self._count_error(str(error.strerror))
            return None
        finally:
            for _, _, words in self.log:
                if SOUND_REFUSED not in words:
                    self._count_error(words)
            self.log.clear()  # a damaged clip may log any number of messages

    def _note(self, frame: VideoFrame) -> None:
        form = (frame.width, frame.height, frame.format.name)
        if self.form is None:
            self.form, self.orientation = form, orientation_of(frame)
        if self.form != form:
            forms = " and ".join(f"{columns}x{rows} {pixels}" for columns, rows, pixels in (self.form, form))
            remedy = "export it with one size and one pixel format"
            raise SourceError.of(self.path, "format-change", f"its frames are {forms}", remedy)
        self.decoded += 1
        if frame.is_corrupt:
            self._count_error("a frame is damaged")

    def _count_error(self, words: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or _plain(words)


@contextmanager
def _opened(path: Path) -> Iterator[_Clip]:
    """Open a clip for the time of a block. Raises SourceError if it cannot, or must not, be decoded."""
    check_regular_file(path)
    # Both hold for the whole process. Without the second, PyAV swallows an error that equals the one before,
    # even if that was of another clip.
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with path.open("rb") as file, av.logging.Capture() as log:
            cut = _is_cut(file)
            with _container(path, file) as container:
                yield _Clip(path, container, _video_stream(path, container), log, cut)
    except OSError as error:
        reason = str(error.strerror)
        raise SourceError.of(path, "unreadable", reason, "check permissions and the disk") from None


def _is_cut(file: BinaryIO) -> bool:
    """Whether an AVI is shorter than its outermost header says; FFmpeg does not tell."""
    head, length = file.read(12), file.seek(0, 2)
    file.seek(0)
    return head[:4] == b"RIFF" and head[8:] == b"AVI " and int.from_bytes(head[4:8], "little") + 8 > length


def _container(path: Path, file: BinaryIO) -> InputContainer:
    try:
        return av.open(file, "r", container_options=CONTAINER_OPTIONS, metadata_errors="replace")
    except FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        raise _not_video(path) from None


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    """The first stream of moving images, ready to be decoded; the others are passed over."""
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        raise _not_video(path)
    for stream in container.streams:
        stream.discard = Discard.none if stream is moving[0] else Discard.all
    codec: Any = moving[0].codec_context  # None where FFmpeg has no decoder
    if codec is None or codec.name not in CODECS:
        reason = f"its codec is {codec.name}" if codec else "its codec is unknown"
        raise SourceError.of(path, "codec-not-allowed", reason, "convert it, for instance to H.264 or FFV1")
    check_size(path, (1, codec.height, codec.width))
    codec.options = CODEC_OPTIONS
    codec.thread_count, codec.thread_type = 1, "NONE"  # there is a worker for each core
    return moving[0]


# --- how many frames ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Declared:
    """What a container says about its frames before they are read.

    ``count`` is its own number of frames, of which at least ``guess`` are expected. Its index has
    ``entries``, of which ``listed`` are to be shown, and ``repeats`` hold no image of their own.
    """

    count: int
    guess: float
    entries: int
    listed: int
    repeats: int

    @classmethod
    def of(cls, clip: _Clip) -> "_Declared":
        stream, container = clip.stream, clip.container
        rate, seconds = stream.average_rate or 0, (container.duration or 0) / av.time_base
        count = stream.frames or round(seconds * rate)
        count = count if 0 <= count < MAX_VALUES else 0
        # FFmpeg estimates a rate that the file does not name; then it equals neither of these two.
        steady = rate in (stream.base_rate, stream.codec_context.framerate)
        believable = count * MIN_FRAME_BYTES < clip.path.stat().st_size and (stream.frames or steady)
        lists_frames = container.format.name.split(",")[0] in LISTING
        entries = list(stream.index_entries) if lists_frames else []
        return cls(
            count=count,
            guess=(1 - UNSURE) * count if believable else 0,
            entries=len(entries),
            listed=sum(not entry.is_discard for entry in entries),
            repeats=sum(entry.size < NOT_CODED_BYTES for entry in entries),
        )


def _check_count(clip: _Clip, declared: _Declared) -> None:
    """Raises SourceError if frames are missing, by the index if there is one."""
    if not clip.decoded:
        reason = f"not one frame can be decoded: {clip.first_error or 'there is none'}"
        raise SourceError.of(clip.path, "no-frames", reason, FETCH)
    listed = declared.listed
    if declared.entries != len(clip.stream.index_entries):
        listed = 0  # there is none: FFmpeg has made one while it was reading
    missing = max(1, MISSING * listed, min(declared.repeats, UNSURE * listed))
    least, wanted = (listed - missing, listed) if listed else (declared.guess, declared.count)
    if clip.decoded < least or (clip.cut and clip.decoded != declared.count):
        raise _mismatch(clip, f"{clip.decoded} frames decoded of {wanted} declared")
    # Lost packets may hide among the frames that a decoder may leave out.
    if listed and clip.packets < declared.entries - max(1, MISSING * declared.entries):
        raise _mismatch(clip, f"{clip.packets} coded frames found of {declared.entries} that its index lists")
    if clip.cut:
        raise _truncated(clip.path)


def _mismatch(clip: _Clip, reason: str) -> SourceError:
    return SourceError.of(clip.path, "frame-count-mismatch", reason, FETCH)


def _check_errors(clip: _Clip) -> None:
    if clip.errors:
        errors = "1 error" if clip.errors == 1 else f"{clip.errors} errors, the first"
        reason = f"while it was decoded, {errors}: {clip.first_error}"
        remedy = "fetch it again, or encode it anew if it looks right"
        raise SourceError.of(clip.path, "decode-warnings", reason, remedy)


# --- what is returned ---------------------------------------------------------------------------


class _Stack:
    """The frames that are kept, in a bounded amount of memory."""

    def __init__(self, path: Path, shrink: Shrink | None) -> None:
        self._path = path
        self._shrink = shrink
        self._frames: list[Luma] = []
        self._pieces: list[NDArray[np.float32]] = []

    def add(self, frame: Luma) -> None:
        """Keep one more. Raises SourceError with code too-large if all together take too much room."""
        self._frames.append(frame)
        if self._shrink and len(self._frames) * frame.nbytes > PIECE_BYTES:
            self._pieces.append(self._shrink(np.stack(self._frames)))
            self._frames = []
        held = len(self._frames) * frame.nbytes + sum(piece.nbytes for piece in self._pieces)
        if held > MAX_BYTES:
            reason = f"its frames take more than {MAX_BYTES >> 30} GiB"
            remedy = "say `frames: every N` in the recipe, with an N of 2 or more, or cut the clip"
            raise SourceError.of(self._path, "too-large", reason, remedy)

    def array(self) -> NDArray[Any]:
        """All of them, (frames, rows, columns): as they came, or all shrunk."""
        if self._shrink and self._pieces and self._frames:
            self._pieces.append(self._shrink(np.stack(self._frames)))
        return np.concatenate(self._pieces) if self._pieces else np.stack(self._frames)


def _facts(clip: _Clip, declared: _Declared) -> Facts:
    """JSON values about a clip; its size is that of the upright frames."""
    codec, orientation = clip.stream.codec_context, clip.orientation
    columns, rows, _ = clip.form or (codec.width, codec.height, "")
    sides = [rows, columns] if orientation.turns % 2 == 0 else [columns, rows]
    return {
        "shape": [declared.count, *sides],
        "frames_declared": declared.count,
        "codec": codec.name,
        "fps": round(float(clip.stream.average_rate or 0), 3),
        "rotation": 90 * orientation.turns,
        "mirrored": orientation.mirrored,
        "warnings": [],
    }


def _plain(words: str) -> str:
    text = "".join(letter if letter.isascii() and letter.isprintable() else " " for letter in words)
    return " ".join(text.split())[:MAX_WORDS]


def _not_video(path: Path) -> SourceError:
    reason = "no images can be found (cut before its index, sound only, or not a video)"
    return SourceError.of(path, "not-video", reason, FETCH)


def _truncated(path: Path) -> SourceError:
    reason = f"{path.stat().st_size} bytes; its header declares more"
    return SourceError.of(path, "truncated", reason, FETCH)
