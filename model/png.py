"""Gray pictures as PNG: uint8 (height, width) to bytes, with the standard library alone.

W3C, "Portable Network Graphics (PNG) Specification (Third Edition)", 2025: chunks in section 5.3, the
header in 11.2.1, filter type 1 ("Sub") in 9.2.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SUB = 1


def png(picture: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG file."""
    height, width = picture.shape
    # Differences of neighbours are small, and take half the bytes of the values.
    left = np.concatenate([np.zeros((height, 1), np.uint8), picture[:, :-1]], axis=1)
    lines = np.concatenate([np.full((height, 1), SUB, np.uint8), picture - left], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
