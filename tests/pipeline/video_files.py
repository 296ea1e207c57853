"""Clips made to order: by PyAV, with a say in every detail, and AVI files put together chunk by chunk."""

import itertools
import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

FRAMES, ROWS, COLUMNS = 60, 48, 64
Images = NDArray[np.uint8]


def moving_noise(frames: int = FRAMES, rows: int = ROWS, columns: int = COLUMNS) -> Images:
    """Colour frames (frames, rows, columns, 3) of blocks of 8 pixels, no two alike."""
    noise = np.random.default_rng(0).integers(0, 256, (frames, rows // 8, columns // 8, 3), np.uint8)
    return noise.repeat(8, axis=1).repeat(8, axis=2)


def grey_ramp(frames: int, rows: int = ROWS, columns: int = COLUMNS) -> Images:
    """Smooth frames (frames, rows, columns), 20 to 230 across, each a little lighter than the last."""
    ramp = np.linspace(20, 200, columns)[None, None] + np.linspace(0, 30, frames)[:, None, None]
    return np.broadcast_to(ramp, (frames, rows, columns)).astype(np.uint8)


def encode(
    path: Path,
    frames: Iterable[av.VideoFrame],
    codec: str,
    *,
    times: Sequence[int] | None = None,
    matrix: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    rate: int = 25,
) -> Path:
    """Encode frames in their own pixel format; ``times`` in ms, ``matrix`` (a, b, c, d) of the display."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = Fraction(1, rate) if times is None else Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        stream: Any = None
        for number, frame in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=options)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                stream.codec_context.time_base = base
                stream.codec_context.color_range = frame.color_range
                if matrix is not None:
                    a, b, c, d = (value << 16 for value in matrix)
                    stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
            frame.pts, frame.time_base = number if times is None else times[number], base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


BY_SUFFIX = {  # codec and pixel format of a usual clip
    ".avi": ("mpeg4", "yuv420p"),
    ".mp4": ("libx264", "yuv420p"),
    ".m4v": ("mpeg4", "yuv420p"),
    ".mov": ("mjpeg", "yuvj420p"),
    ".3gp": ("mpeg4", "yuv420p"),
    ".mkv": ("ffv1", "yuv420p"),
    ".webm": ("libvpx-vp9", "yuv420p"),
    ".mpg": ("mpeg2video", "yuv420p"),
    ".mpeg": ("mpeg1video", "yuv420p"),
    ".flv": ("flv", "yuv420p"),
    ".gif": ("gif", "gray"),
}


def encode_as(path: Path, planes: Images | None = None) -> Path:
    """A clip as its suffix suggests, of these gray levels (frames, rows, columns), or of a ramp."""
    codec, pixels = BY_SUFFIX[path.suffix]
    return encode(path, luma_frames(grey_ramp(FRAMES) if planes is None else planes, pixels), codec)


def rgb_frames(images: Images) -> list[av.VideoFrame]:
    """Frames of (frames, rows, columns, 3), red first."""
    return [av.VideoFrame.from_ndarray(image, format="rgb24") for image in images]


def luma_frames(planes: Images, pixels: str = "yuv420p", color_range: int = 0) -> list[av.VideoFrame]:
    """Frames with these Y planes (frames, rows, columns) and no colour."""
    return [_luma_frame(plane, pixels, color_range) for plane in planes]


def _luma_frame(values: Images, pixels: str, color_range: int) -> av.VideoFrame:
    frame = av.VideoFrame(values.shape[1], values.shape[0], pixels)
    frame.color_range = color_range
    for number, plane in enumerate(frame.planes):
        filled = np.full((plane.height, plane.line_size), 128, np.uint8)
        if number == 0:
            filled[:, : values.shape[1]] = values
        plane.update(filled.tobytes())
    return frame


def without_element(path: Path, tag: bytes) -> Path:
    """Turn a Matroska element with a size of one byte into one that says nothing (EBML Void)."""
    data = path.read_bytes()
    place = data.index(tag)
    length = data[place + len(tag)] & 0x7F
    stop = place + len(tag) + 1 + length
    void = b"\xec" + bytes([0x80 | stop - place - 2]) + bytes(stop - place - 2)
    path.write_bytes(data[:place] + void + data[stop:])
    return path


# --- AVI, chunk by chunk ------------------------------------------------------------------------


def chunk(tag: bytes, body: bytes) -> bytes:
    return struct.pack("<4sI", tag, len(body)) + body + b"\0" * (len(body) % 2)


def parts(tag: bytes, kind: bytes, *chunks: bytes) -> bytes:
    return chunk(tag, kind + b"".join(chunks))


def avi_bytes(packets: Sequence[bytes], fourcc: bytes = b"MJPG") -> bytes:
    """An AVI of coded pictures; its header says 48 rows and 64 columns, whatever they are."""
    head = struct.pack("<4s4s12x7I8x", b"vids", fourcc, 1, 25, 0, len(packets), 0, 0, 0)
    form = struct.pack("<I2i2H4s20x", 40, COLUMNS, ROWS, 1, 24, fourcc)
    stream = parts(b"LIST", b"strl", chunk(b"strh", head), chunk(b"strf", form))
    frames = [chunk(b"00dc", packet) for packet in packets]
    starts = itertools.accumulate(map(len, frames), initial=4)
    entries = zip(starts, map(len, packets), strict=False)
    index = b"".join(struct.pack("<4s3I", b"00dc", 16, *entry) for entry in entries)
    avih = chunk(b"avih", struct.pack("<32x2I16x", COLUMNS, ROWS))
    movi = parts(b"LIST", b"movi", *frames)
    return parts(b"RIFF", b"AVI ", parts(b"LIST", b"hdrl", avih, stream), movi, chunk(b"idx1", index))


def jpeg(rows: int, columns: int, sampling: int | None = None) -> bytes:
    """One coded picture of noise: grey, or with one of OpenCV's sampling factors."""
    image = np.random.default_rng(0).integers(0, 256, (rows, columns, 3), np.uint8)
    if sampling is None:
        return cv2.imencode(".jpg", image[..., 0])[1].tobytes()
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling])[1].tobytes()


def packets_of(path: Path) -> list[bytes]:
    """The coded pictures of a clip."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def patched(path: Path, tag: bytes, offset: int, form: str, *values: Any) -> Path:
    """Overwrite fields of an AVI chunk, named by its tag."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, data.index(tag) + 8 + offset, *values)
    path.write_bytes(data)
    return path
