"""The size and the sampling of pictures, read from the coded packets of a video without decoding them.

Formats may change from one packet to the next, and a decoder that scales all frames to one size does not
tell. Known are MPEG-1 and MPEG-2, MPEG-4 part 2, H.264, MJPEG, PNG, VP8 and VP9; packets of other codecs say
nothing. Of each only the headers are read, a bounded number of bytes; any bytes give a picture or none.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

MAX_HEADER = 1024  # bytes of a header that are looked at: no parameter set is longer
MAX_SEGMENTS = 256  # of a JPEG, before its frame header
MAX_ZEROS = 31  # of an Exp-Golomb code
CHROMA = ("grey", "4:2:0", "4:2:2", "4:4:4")  # chroma_format_idc of H.264, chroma_format of MPEG


@dataclass(frozen=True)
class Picture:
    """Columns and rows, and what is stored for each pixel, in words that only need to differ."""

    columns: int
    rows: int
    sampling: str

    def differing(self, other: "Picture") -> str:
        """What the two are, in a few words."""
        sizes = [f"{picture.columns}x{picture.rows}" for picture in (self, other)]
        if sizes[0] == sizes[1]:
            return f"{sizes[0]} as {self.sampling} and as {other.sampling}"
        return " and ".join(sizes)


def change(codec: str, packets: Iterable[bytes]) -> tuple[Picture, Picture] | None:
    """The first picture of a stream and the first that is unlike it; if none is, all packets are read.

    ``codec`` is OpenCV's name for it.
    """
    pictures = _PICTURES.get(codec.lower(), partial(_each, _unknown))(packets)
    first = next(pictures, None)
    return None if first is None else next(((first, other) for other in pictures if other != first), None)


class _Bits:
    """Whole numbers from a header, bit by bit. Raises EOFError where it ends."""

    def __init__(self, data: bytes) -> None:
        self._left = 8 * len(data)
        self._value = int.from_bytes(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._value >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """An unsigned Exp-Golomb code (ITU-T H.264, 9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > MAX_ZEROS:
                raise EOFError
        return (1 << zeros) - 1 + self.take(zeros)

    def signed_golomb(self) -> int:
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)


_Parser = Callable[[bytes], Picture | None]


def _each(parse: _Parser, packets: Iterable[bytes]) -> Iterator[Picture]:
    """One picture for each packet that tells of one."""
    for packet in packets:
        picture = _parsed(parse, packet)
        if picture is not None:
            yield picture


def _unknown(packet: bytes) -> None:
    """Of another codec: it says nothing."""


def _parsed(parse: _Parser, data: bytes) -> Picture | None:
    try:
        picture = parse(data)
    except EOFError:
        return None
    return picture if picture and picture.columns > 0 and picture.rows > 0 else None


def _behind(code: re.Pattern[bytes], packet: bytes) -> bytes:
    """The bytes of the header that follow a start code, none where it is missing."""
    found = code.search(packet)
    return packet[found.end() : found.end() + MAX_HEADER] if found else b""


# --- MPEG ---------------------------------------------------------------------------------------

_SEQUENCE = re.compile(rb"\x00\x00\x01\xb3")
_EXTENSION = re.compile(rb"\x00\x00\x01\xb5(?=[\x10-\x1f])")
_LAYER = re.compile(rb"\x00\x00\x01[\x20-\x2f]")


def _mpeg(packet: bytes) -> Picture | None:
    """A sequence header (ISO/IEC 11172-2, 2.4.2.3), with the extension of MPEG-2 (13818-2, 6.2.2.3)."""
    header = _behind(_SEQUENCE, packet)
    bits = _Bits(header)
    columns, rows = bits.take(12), bits.take(12)
    extension = _behind(_EXTENSION, header)
    if not extension:
        return Picture(columns, rows, CHROMA[1])
    more = _Bits(extension)
    more.take(13)  # which extension, profile and level, progressive
    chroma, wider, higher = more.take(2), more.take(2), more.take(2)
    return Picture(columns + (wider << 12), rows + (higher << 12), CHROMA[chroma])


def _mpeg4(packet: bytes) -> Picture | None:
    """A rectangular video object layer (ISO/IEC 14496-2, 6.2.3)."""
    bits = _Bits(_behind(_LAYER, packet))
    bits.take(9)  # random access, kind of object
    if bits.take(1):
        bits.take(7)  # version and priority
    if bits.take(4) == 15:
        bits.take(16)  # aspect ratio
    if bits.take(1):
        bits.take(3)  # chroma, which is always 4:2:0, and delay
        if bits.take(1):
            bits.take(79)  # buffer of the decoder
    if bits.take(2):
        return None  # not a rectangle
    bits.take(1)
    ticks = bits.take(16)
    bits.take(1)
    if bits.take(1):
        bits.take(max(1, (ticks - 1).bit_length()))
    bits.take(1)
    columns = bits.take(13)
    bits.take(1)
    return Picture(columns, bits.take(13), CHROMA[1])


# --- H.264 --------------------------------------------------------------------------------------

SLICE_OF_IDR, SEQUENCE_SET, PICTURE_SET = 5, 7, 8
# Start code and kind, behind two bits that say how often it is referred to.
_UNIT = re.compile(rb"\x00\x00\x01([\x05\x07\x08\x25\x27\x28\x45\x47\x48\x65\x67\x68])")
MAX_SETS = 256
MAX_UNITS = 64  # of these kinds in one packet: sets come first, and all slices of a picture use the same
WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


def _h264(packets: Iterable[bytes]) -> Iterator[Picture]:
    """The pictures that a stream of Annex B decodes to: a parameter set counts when it is used."""
    pictures: dict[int, Picture] = {}
    sets: dict[int, int] = {}  # picture parameter set → sequence parameter set
    for packet in packets:
        for found in islice(_UNIT.finditer(packet), MAX_UNITS):
            body = packet[found.end() : found.end() + MAX_HEADER].replace(b"\0\0\3", b"\0\0")
            yield from _unit(found[1][0] & 31, _Bits(body), pictures, sets)


def _unit(kind: int, bits: _Bits, pictures: dict[int, Picture], sets: dict[int, int]) -> Iterator[Picture]:
    try:
        if kind == SEQUENCE_SET:
            number, picture = _sequence_set(bits)
            if number < MAX_SETS and picture.columns > 0 and picture.rows > 0:
                pictures[number] = picture
        elif kind == PICTURE_SET:
            number = bits.golomb()
            if number < MAX_SETS:
                sets[number] = bits.golomb()
        else:
            bits.golomb(), bits.golomb()  # first macroblock, kind of slice
            used = sets.get(bits.golomb(), -1)
            if used in pictures:
                yield pictures[used]
    except EOFError:
        return


def _sequence_set(bits: _Bits) -> tuple[int, Picture]:
    """Number and picture of a sequence parameter set (ITU-T H.264, 7.3.2.1.1 and 7.4.2.1.1)."""
    profile = bits.take(8)
    bits.take(16)  # constraints and level
    number = bits.golomb()
    chroma, depth = _chroma_of_set(bits) if profile in WITH_CHROMA else (1, 8)
    bits.golomb()
    _skip_order(bits)
    bits.golomb()
    bits.take(1)
    columns, rows = 16 * (bits.golomb() + 1), 16 * (bits.golomb() + 1)
    fields = 1 if bits.take(1) else 2
    bits.take(fields)
    across, down = (2 if chroma in (1, 2) else 1), (2 if chroma == 1 else 1) * fields
    left, right, top, bottom = (bits.golomb() for _ in range(4)) if bits.take(1) else (0, 0, 0, 0)
    columns, rows = columns - across * (left + right), rows * fields - down * (top + bottom)
    return number, Picture(columns, rows, f"{CHROMA[chroma]} of {depth} bits")


def _chroma_of_set(bits: _Bits) -> tuple[int, int]:
    """Chroma format and bits of a sample; scaling lists are passed over."""
    chroma = bits.golomb()
    if chroma >= len(CHROMA):
        raise EOFError
    if chroma == len(CHROMA) - 1:
        bits.take(1)
    depth = 8 + bits.golomb()
    bits.golomb()
    bits.take(1)
    if bits.take(1):
        for number in range(12 if chroma == len(CHROMA) - 1 else 8):
            if bits.take(1):
                _skip_scaling(bits, 16 if number < 6 else 64)
    return chroma, depth


def _skip_scaling(bits: _Bits, length: int) -> None:
    last = 8
    for _ in range(length):
        last = (last + bits.signed_golomb()) % 256
        if not last:
            return


def _skip_order(bits: _Bits) -> None:
    """How pictures are put in order."""
    kind = bits.golomb()
    if kind == 0:
        bits.golomb()
    elif kind == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()
        for _ in range(min(bits.golomb(), MAX_SETS)):
            bits.golomb()


# --- JPEG, PNG ----------------------------------------------------------------------------------

FRAME_HEADERS = (0xC0, 0xC1, 0xC2, 0xC3)
SCAN = 0xDA


def _jpeg(packet: bytes) -> Picture | None:
    """A frame header (ITU-T T.81, B.2.2): its size, and the sampling factors of its components."""
    place = 2
    for _ in range(MAX_SEGMENTS):
        head = packet[place : place + 4]
        if len(head) < 4 or head[0] != 0xFF or head[1] == SCAN:
            return None
        if head[1] in FRAME_HEADERS:
            return _frame_header(packet[place + 4 : place + 4 + MAX_HEADER])
        place += 1 if head[1] == 0xFF else 2 + int.from_bytes(head[2:])
    return None


def _frame_header(data: bytes) -> Picture:
    bits = _Bits(data)
    depth, rows, columns, components = bits.take(8), bits.take(16), bits.take(16), bits.take(8)
    factors = [(bits.take(8), bits.take(4), bits.take(4), bits.take(8))[1:3] for _ in range(components)]
    words = " ".join(f"{across}x{down}" for across, down in factors) if components > 1 else CHROMA[0]
    return Picture(columns, rows, f"{words} of {depth} bits")


def _png(packet: bytes) -> Picture | None:
    """The header of a PNG: width, height, bits of a sample, kind of colour (W3C PNG, 11.2.1)."""
    if packet[:8] != b"\x89PNG\r\n\x1a\n":
        return None
    bits = _Bits(packet[16:26])
    columns, rows, depth, kind = bits.take(32), bits.take(32), bits.take(8), bits.take(8)
    return Picture(columns, rows, f"colour type {kind} of {depth} bits")


# --- VP8, VP9 -----------------------------------------------------------------------------------


def _vp8(packet: bytes) -> Picture | None:
    """A key frame (RFC 6386, 9.1); the two upper bits of each side only ask for scaling."""
    if packet[3:6] != b"\x9d\x01\x2a" or packet[0] & 1:
        return None
    columns, rows = (int.from_bytes(packet[start : start + 2], "little") & 0x3FFF for start in (6, 8))
    return Picture(columns, rows, CHROMA[1])


def _vp9(packet: bytes) -> Picture | None:
    """A key frame (VP9 bitstream specification, 6.2 and 6.2.2)."""
    bits = _Bits(packet[:16])
    mark, low, high = bits.take(2), bits.take(1), bits.take(1)
    profile = low + 2 * high
    if mark != 2 or (profile == 3 and bits.take(1)) or bits.take(2):
        return None  # another frame is shown again, or it is no key frame
    bits.take(2)
    if bits.take(24) != 0x498342:
        return None
    depth = 10 + 2 * bits.take(1) if profile > 1 else 8
    chroma = "4:2:0"
    if bits.take(3) == 7:
        chroma = "RGB"
        bits.take(profile % 2)
    else:
        bits.take(1)
        if profile % 2:
            chroma = f"subsampling {bits.take(2)}"
            bits.take(1)
    return Picture(1 + bits.take(16), 1 + bits.take(16), f"{chroma} of {depth} bits")


_PICTURES: dict[str, Callable[[Iterable[bytes]], Iterator[Picture]]] = {
    "mpg1": partial(_each, _mpeg),
    "mpg2": partial(_each, _mpeg),
    "fmp4": partial(_each, _mpeg4),
    "h264": _h264,
    "mjpg": partial(_each, _jpeg),
    "mpng": partial(_each, _png),
    "vp80": partial(_each, _vp8),
    "vp90": partial(_each, _vp9),
}
