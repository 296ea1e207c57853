"""What a video file says of itself, read from its own headers before FFmpeg sees it.

AVI (RIFF), MP4 and MOV (ISO base media), Matroska and WebM (EBML) name the codec of each video stream;
MPEG streams do not. Headers are walked from one length to the next, at most ``MAX_STEPS`` of them, and
nothing but them, and the index of an AVI, is read. Any bytes give an answer or a SourceError. Sound is
not looked at.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import SourceError

MAX_STEPS = 20_000
MAX_HEADER_BYTES = 1 << 16
MAX_INDEX_BYTES = 1 << 22  # of an AVI: 262,144 frames
MAX_DEPTH = 8
FAR = 1 << 40  # behind the end of any video, where file systems still let a reader go
NOT_CODED_BYTES = 8  # MPEG-4 says in so few that a frame repeats the last one, or came packed with it
RAW = "raw"
# Fourccs and CodecIDs, in lower case: what cameras, editors and data sets use. FFmpeg has hundreds more.
NAMES = """
    xvid divx dx50 mp4v fmp4 v_mpeg4/iso/asp v_mpeg4/iso/sp mjpg jpeg v_mjpeg h264 x264 avc1 avc3
    v_mpeg4/iso/avc hevc hvc1 hev1 h265 x265 v_mpegh/iso/hevc mpg1 pim1 mpeg m1v v_mpeg1 mpg2 m2v1 v_mpeg2
    vp80 vp08 v_vp8 vp90 vp09 v_vp9 av01 v_av1 ffv1 v_ffv1 hfyu ffvh mpng png
    raw dib i420 iyuv yv12 yuy2 uyvy grey y800 y8 v_uncompressed
"""
CODECS = frozenset(NAMES.split())
# MPEG-4 Visual, H.264, HEVC, MPEG-2 profiles, MPEG-1, JPEG, PNG: ISO/IEC 14496-1, "objectTypeIndication".
MPEG4 = 0x20
OBJECT_TYPES = frozenset({MPEG4, 0x21, 0x23, *range(0x60, 0x66), 0x6A, 0x6C, 0x6D})


@dataclass(frozen=True)
class Container:
    """Codecs and sizes (rows, columns) of the video streams.

    ``frames`` of the first stream are listed by the index (None: no telling), of which ``repeats`` hold
    no image of their own. ``packets`` is how many of an AVI's have any bytes. ``cut`` means that the file is
    shorter than its header says.
    """

    codecs: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    frames: int | None = None
    repeats: int = 0
    packets: int | None = None
    cut: bool = False


class _EndlessError(Exception):
    """More headers than any video has."""


def look(path: Path, file: BinaryIO) -> Container:
    """What the file says; of a stream of MPEG, that it is one. Raises SourceError with code not-video."""
    start, size = _at(file, 0, 16), path.stat().st_size
    try:
        if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
            return _avi(file, size)
        if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _iso(file, size)
        if start[:4] == b"\x1aE\xdf\xa3":
            return _matroska(file, size)
    except _EndlessError:
        raise SourceError.of(path, "not-video", "its headers are without end", "export it again") from None
    if start[:4] in (b"\0\0\1\xba", b"\0\0\1\xb3"):
        return Container(("mpeg",), ())
    raise SourceError.of(path, "not-video", "its content is not AVI, MP4, Matroska or MPEG", "remove it")


def known_codec(name: str) -> bool:
    """Whether a fourcc, or a CodecID of Matroska, is one of those that may be decoded."""
    return name.lower().strip() in CODECS


def _at(file: BinaryIO, start: int, count: int) -> bytes:
    """Bytes from a place in the file; fewer, or none, where it ends."""
    file.seek(min(start, FAR))
    return file.read(count)


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _name(fourcc: bytes) -> str:
    return fourcc.decode("ascii", "backslashreplace") if fourcc.strip(b"\0 ") else RAW


# --- AVI ----------------------------------------------------------------------------------------


def _avi(file: BinaryIO, size: int) -> Container:
    """As FFmpeg does: chunks in a row, lists opened, up to ``movi``; behind it, the index."""
    codecs, sizes, streams = [], [], []
    lengths: list[int] = []
    for tag, start, length in _riff_chunks(file, size):
        data = _at(file, start, min(length, 64))
        if tag == b"avih":
            sizes.append((_little(data[36:40]), _little(data[32:36])))
        elif tag == b"strh":
            streams.append(data[:4])
            if data[:4] in (b"vids", b"iavs"):
                codecs.append(_name(data[4:8]) if data[:4] == b"vids" else "iavs")
        elif tag == b"strf" and streams[-1:] == [b"vids"]:
            rows = int.from_bytes(data[8:12], "little", signed=True)
            sizes.append((abs(rows), _little(data[4:8])))
            codecs.append(RAW if _little(data[16:20]) in (0, 3) else _name(data[16:20]))
        elif tag == b"idx1" and b"vids" in streams and length < MAX_INDEX_BYTES:
            lengths = _indexed(_at(file, start, length), streams.index(b"vids"))
    outer = _little(_at(file, 4, 4)) + 8
    if _at(file, outer, 4) == b"RIFF":  # a second part, of which this index does not speak
        lengths = []
    repeats = sum(length < NOT_CODED_BYTES for length in lengths)
    packets = len(lengths) - lengths.count(0) if lengths else None
    return Container(tuple(codecs), tuple(sizes), len(lengths) or None, repeats, packets, outer > size)


def _riff_chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Tag, start and length of each chunk of an AVI; lists are opened, but for ``movi``."""
    position = 12
    for _ in range(MAX_STEPS):
        head = _at(file, position, 12)
        if position + 8 > size or len(head) < 8:
            return
        tag, length = head[:4], _little(head[4:8])
        if tag == b"LIST" and head[8:] != b"movi":
            position += 12
            continue
        yield tag, position + 8, length
        position += 8 + length + length % 2
    raise _EndlessError


def _indexed(index: bytes, stream: int) -> list[int]:
    """Lengths of the frames of a stream; none where the index is damaged."""
    entries = [index[start : start + 16] for start in range(0, len(index) - 15, 16)]
    if not all(re.match(rb"[0-9]{2}[a-z]{2}|rec ", entry) for entry in entries):
        return []
    own = [entry for entry in entries if entry[:2] == b"%02d" % stream and entry[2:4] != b"pc"]
    return [_little(entry[12:]) for entry in own]


# --- MP4, MOV -----------------------------------------------------------------------------------

NESTED = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")
# Of a track that is neither image nor sound: time codes, subtitles, measurements of the camera.
DATA_NAMES = "tmcd mebx text tx3g wvtt stpp c608 c708 rtp gpmd fdsc mett metx mp4s camm"
DATA_ENTRIES = frozenset(DATA_NAMES.split())


@dataclass
class _Track:
    """What is known of the track that is being walked."""

    handler: bytes = b""
    samples: int = 0
    seconds: float = 0.0
    shown: float = 0.0


def _iso(file: BinaryIO, size: int) -> Container:
    codecs: list[str] = []
    sizes: list[tuple[int, int]] = []
    tracks: list[_Track] = []
    scale = 0
    for tag, start, length in _boxes(file, 0, size, MAX_DEPTH, iter(range(MAX_STEPS))):
        data = _at(file, start, min(length, MAX_HEADER_BYTES))
        track = tracks[-1] if tracks else _Track()
        if tag == b"trak":
            tracks.append(_Track())
        elif tag == b"mvhd":
            scale = _time(data)[0]
        elif tag == b"mdhd":
            ticks, duration = _time(data)
            track.seconds = duration / ticks if ticks else 0.0
        elif tag == b"elst":
            track.shown = _edited(data) / scale if scale else 0.0
        elif tag == b"hdlr" and not track.handler:
            track.handler = data[8:12]
        elif tag == b"stsz":
            track.samples = _big(data[8:12])
        elif tag == b"stsd" and track.handler != b"soun":
            for codec, shape in _sample_entries(data, track.handler == b"vide"):
                codecs.append(codec)
                sizes.append(shape)
    images = [track for track in tracks if track.handler == b"vide"]
    return Container(tuple(codecs), tuple(sizes), _shown(images[0]) if images else None)


def _boxes(
    file: BinaryIO, start: int, stop: int, depth: int, steps: Iterator[int]
) -> Iterator[tuple[bytes, int, int]]:
    """Tag, start and length of each box, those of the nested ones behind it."""
    while start + 8 <= stop:
        if next(steps, None) is None:
            raise _EndlessError
        head = _at(file, start, 16)
        length, tag, body = _big(head[:4]), head[4:8], start + 8
        if length == 1:
            length, body = _big(head[8:]), start + 16
        end = min(start + length, stop) if length else stop
        if end < body:
            return
        yield tag, body, end - body
        if tag in NESTED and depth:
            yield from _boxes(file, body, end, depth - 1, steps)
        start = end


def _time(data: bytes) -> tuple[int, int]:
    """Ticks per second and duration in ticks, of ``mvhd`` and ``mdhd`` of both versions."""
    return (
        (_big(data[20:24]), _big(data[24:32]))
        if data[:1] == b"\1"
        else (_big(data[12:16]), _big(data[16:20]))
    )


def _edited(data: bytes) -> int:
    """What an edit list shows, in ticks of the movie; an edit from -1 is a pause."""
    width = 8 if data[:1] == b"\1" else 4
    edits = [data[place : place + 2 * width] for place in range(8, len(data), 2 * width + 4)]
    edits = edits[: _big(data[4:8])]
    return sum(_big(edit[:width]) for edit in edits if edit[width:] != b"\xff" * width)


def _shown(track: _Track) -> int | None:
    """Samples of the track that its edits show."""
    share = min(1.0, track.shown / track.seconds) if track.shown and track.seconds else 1.0
    return round(track.samples * share) or None


def _sample_entries(data: bytes, image: bool) -> Iterator[tuple[str, tuple[int, int]]]:
    position = 8
    while position + 8 <= len(data):
        entry = data[position : position + max(8, _big(data[position : position + 4]))]
        name = _name(entry[4:8])
        if image or name.strip() not in DATA_ENTRIES:
            kind = _object_type(entry) if name == "mp4v" else MPEG4
            codec = name if kind in OBJECT_TYPES else f"mp4v of type 0x{kind:02x}"
            yield codec, (_big(entry[34:36]), _big(entry[32:34]))
        position += len(entry)


def _object_type(entry: bytes) -> int:
    """What ``mp4v`` stands for, by descriptors 3 and 4 of ISO/IEC 14496-1, 7.2.6; 0 if they are damaged."""
    _, found, data = entry.partition(b"esds")
    data = _descriptor(data[4:], 3)
    flags, skipped = _big(data[2:3]), 3
    if flags & 0x80:
        skipped += 2
    if flags & 0x40:
        skipped += 1 + _big(data[skipped : skipped + 1])
    if flags & 0x20:
        skipped += 2
    return _big(_descriptor(data[skipped:], 4)[:1]) if found else MPEG4


def _descriptor(data: bytes, tag: int) -> bytes:
    """What follows a descriptor's tag and its length, of which one to four bytes say that more follow."""
    if _big(data[:1]) != tag:
        return b""
    place = 1
    while place < 4 and _big(data[place : place + 1]) & 0x80:
        place += 1
    return data[place + 1 :]


# --- Matroska, WebM -----------------------------------------------------------------------------

SEGMENT, TRACKS, ENTRY, VIDEO = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
CODEC, PRIVATE, COLUMNS, ROWS = b"\x86", b"\x63\xa2", b"\xb0", b"\xba"


def _matroska(file: BinaryIO, size: int) -> Container:
    codecs, rows, columns = [], [], []
    for tag, start, length in _elements(file, size):
        data = _at(file, start, min(length, 64))
        if tag == CODEC and data[:1] in (b"V", b"v"):
            codecs.append(_name(data.rstrip(b"\0")))
        elif tag == PRIVATE and codecs[-1:] == ["V_MS/VFW/FOURCC"]:
            codecs[-1] = _name(data[16:20])  # BITMAPINFOHEADER.biCompression
        elif tag == COLUMNS:
            columns.append(_big(data[:8]))
        elif tag == ROWS:
            rows.append(_big(data[:8]))
    return Container(tuple(codecs), tuple(zip(rows, columns, strict=False)))


def _elements(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Tag, start and length of each element; those around the tracks are opened, the others passed over."""
    position = 0
    for _ in range(MAX_STEPS):
        head = _at(file, position, 12)
        if position >= size or len(head) < 2 or not head[0]:
            return
        width = 9 - head[0].bit_length()
        tag, rest = head[:width], head[width:]
        if width > 4 or not rest or not rest[0]:
            return
        digits = 9 - rest[0].bit_length()
        length = _big(rest[:digits]) & ((1 << 7 * digits) - 1)
        position += width + digits
        if tag in (SEGMENT, TRACKS, ENTRY, VIDEO):
            continue
        if length == (1 << 7 * digits) - 1:  # a live stream's cluster, as long as there is no other
            return
        yield tag, position, length
        position += length
    raise _EndlessError
