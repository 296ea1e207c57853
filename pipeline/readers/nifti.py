"""NIfTI-1 and NIfTI-2 files, plain or gzip-compressed, to Hounsfield units in canonical axes.

Arrays are (depth, height, width) with depth toward Superior, height toward Posterior and width toward
Left, found from the affine (sform before qform, as nibabel does). Oblique volumes take the closest
axes; nothing is resampled here.

Values are ``stored * scl_slope + scl_inter``; a slope of 0, or one that is not finite, means that
the stored values are meant (NIfTI-1 standard, "data scaling"), and is noted. Unscaled volumes keep
their dtype, scaled ones are float32. Non-finite values are left in place and counted in the facts.

Files are told apart by content, not by name, and a gzip stream is inflated to its end, so that its
CRC-32 is verified. Bytes after the voxels are noted; but if they are once, twice … as many as the voxels,
or over half as many and 1 KiB, the header is taken to be wrong. Does not read pairs (.hdr, .img), RGB or
complex data, or series of volumes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from isal.igzip_lib import IsalError
from isal.isal_zlib import decompressobj
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.preset_2021 import scale_ct_2021, unlike_2021
from pipeline.readers.content import check_regular_file
from pipeline.readers.orientation import FETCH, Float64, affine_of, axes_of, canonical_view
from pipeline.readers.reading import (
    Facts,
    Picture,
    PictureReading,
    Reading,
    Source,
    SourceType,
    Statistics,
    check_size,
)
from pipeline.recipe import CtRecipe
from pipeline.scale import finite, in_range, scale_ct
from pipeline.statistics import describe

SUFFIXES = (".nii.gz", ".nii")
BAD_GZIP: type[Exception] = IsalError  # type: ignore[assignment]  # its stub calls the class an instance
GZIP = b"\x1f\x8b"
GZIP_WINDOW = 31  # zlib's way to say: a gzip header and trailer are expected
HEADER_BYTES = 1024
EXTENDER_BYTES = 4  # follow the header of a single file
EXTENSION_BYTES = 16  # at least, in each
PIECE_BYTES = 1 << 16
HISTOGRAM = (-1200.0, 2000.0)  # Hounsfield units: from padding and air to dense bone
NOT_HOUNSFIELD = -200  # every scan of a body has air or fat below this
BOMB_BYTES = 1 << 28  # a small file may not declare more than this ...
BOMB_RATIO = 200  # ... if it is this many times as much as the file holds; CT compresses 2 to 20 times


@dataclass(frozen=True)
class _Layout:
    """Where the voxels lie in the (inflated) bytes and what they mean; axes as stored (i, j, k)."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    affine: Float64
    warnings: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


def read(path: Path, *, canonical: bool = True) -> Reading:
    """Read a volume in Hounsfield units, (depth, height, width), with its facts.

    Without ``canonical`` the axes are the file's own, (k, j, i), wherever the affine says they point;
    the facts are those of the canonical volume all the same.

    Raises SourceError with one of the codes not-a-regular-file, unreadable, empty-file, not-nifti,
    truncated, gzip-crc, bad-header, bad-dims, not-3d, empty-volume, unsupported-dtype, bad-offset,
    bad-extension, bad-scaling, bad-affine, bad-spacing, size-mismatch, too-large.
    """
    layout = _inspected(path)
    data, extra = _content(path, layout)
    stored = _scaled(_voxels(data, layout), layout)
    array = canonical_view(stored, layout.affine) if canonical else stored.T
    return Reading(array, _facts(layout, array, extra), describe(stored, HISTOGRAM))


def inspect(path: Path) -> Facts:
    """Facts from the header alone. Raises SourceError as ``read`` does."""
    return _header_facts(_inspected(path))


# --- bytes --------------------------------------------------------------------------------------


def _inspected(path: Path) -> _Layout:
    check_regular_file(path)
    layout = _layout(path, _start(path))
    size = path.stat().st_size
    if layout.nbytes > BOMB_BYTES and layout.nbytes > BOMB_RATIO * size:
        reason = f"{size} bytes declare {layout.nbytes} bytes of voxels"
        raise SourceError.of(path, "too-large", reason, "check that its header is right")
    return layout


def _start(path: Path) -> bytes:
    """The first bytes; members of a gzip file may be as small as they like."""
    start = b""
    try:
        for piece, _ in _pieces(path):
            start += piece
            if len(start) >= HEADER_BYTES:
                break
    except EOFError:  # where it ends is told by ``_content``, which knows where it should
        if not start:
            raise SourceError.of(path, "truncated", "its gzip data ends early", FETCH) from None
    return start


def _content(path: Path, layout: _Layout) -> tuple[NDArray[np.uint8], int]:
    """The bytes of the voxels, and how many follow. Reads to the end, past every checksum."""
    wanted = layout.offset + layout.nbytes
    most = wanted + layout.nbytes // 2 + HEADER_BYTES
    data = np.empty(layout.nbytes, np.uint8)
    filled = junk = 0
    try:
        for piece, inside in _pieces(path):
            if inside:
                voxels = np.frombuffer(piece, np.uint8)[max(0, layout.offset - filled) :]
                start = max(0, filled - layout.offset)
                room = data[start : start + len(voxels)]
                room[:] = voxels[: len(room)]
                filled += len(piece)
            else:
                junk += len(piece)
            if filled + junk > most:
                raise _size_mismatch(path, f"over {most}", wanted)
    except EOFError:
        if filled >= wanted:
            raise SourceError.of(path, "gzip-crc", "it ends before its gzip checksum", FETCH) from None
    if filled < wanted:
        raise SourceError.of(path, "truncated", f"{filled} bytes; its header declares {wanted}", FETCH)
    surplus = filled + junk - wanted
    if surplus and surplus % layout.nbytes == 0:
        raise _size_mismatch(path, str(filled + junk), wanted)
    return data, surplus


def _size_mismatch(path: Path, found: str, wanted: int) -> SourceError:
    reason = f"{found} bytes; its header declares {wanted}"
    return SourceError.of(path, "size-mismatch", reason, "check its datatype and dimensions")


def _pieces(path: Path) -> Iterator[tuple[bytes, bool]]:
    """The content in small pieces, so that a gzip bomb is noticed before it has grown.

    Each with whether it is content, or only follows a gzip file, where no checksum covers it. Raises
    EOFError after the last piece of a gzip stream that is cut.
    """
    try:
        with path.open("rb") as file:
            first = file.read(PIECE_BYTES)
            yield from (_inflated(path, file, first) if first[:2] == GZIP else _raw(file, first, inside=True))
    except OSError as error:
        raise SourceError.of(
            path, "unreadable", str(error.strerror), "check permissions and the disk"
        ) from None


def _raw(file: BinaryIO, first: bytes, *, inside: bool) -> Iterator[tuple[bytes, bool]]:
    yield first, inside
    while piece := file.read(PIECE_BYTES):
        yield piece, inside


def _inflated(path: Path, file: BinaryIO, piece: bytes) -> Iterator[tuple[bytes, bool]]:
    """All members of a gzip file, each to its checksum; what follows the last one comes as it is."""
    try:
        while piece[:2] == GZIP:
            member = decompressobj(GZIP_WINDOW)
            while piece and not member.eof:
                yield member.decompress(piece), True
                piece = member.unused_data
                if len(piece) < len(GZIP):
                    piece += file.read(PIECE_BYTES)
            if not member.eof:
                raise EOFError
    except BAD_GZIP:
        raise SourceError.of(path, "gzip-crc", "its gzip data or checksum is damaged", FETCH) from None
    if piece:
        yield from _raw(file, piece, inside=False)


def _voxels(data: NDArray[np.uint8], layout: _Layout) -> NDArray[Any]:
    """The stored values, (i, j, k), without copying them."""
    return data.view(layout.dtype).reshape(layout.shape, order="F")


# --- header -------------------------------------------------------------------------------------


def _layout(path: Path, start: bytes) -> _Layout:
    header = _header(path, start)
    shape = _shape(path, header)
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        reason = f"its datatype code {header['datatype']} is not known"
        raise SourceError.of(path, "unsupported-dtype", reason, "convert it to integers or floats") from None
    if dtype.kind not in "iuf":
        reason = f"voxels of type {dtype}"
        raise SourceError.of(path, "unsupported-dtype", reason, "convert it to integers or floats")
    slope, inter, notes = _scaling(path, header)
    affine, more = affine_of(path, header)
    offset = _offset(path, header)
    _check_extensions(path, header, start[:offset])
    return _Layout(shape, dtype, offset, slope, inter, affine, tuple(notes + more))


def _header(path: Path, start: bytes) -> Nifti1Header:
    for kind in (Nifti1Header, Nifti2Header):
        if len(start) >= kind.sizeof_hdr and kind.may_contain_header(start[: kind.sizeof_hdr]):
            try:
                order = _byte_order(start, kind.sizeof_hdr)
                header = kind(start[: kind.sizeof_hdr], order, check=False)  # type: ignore[no-untyped-call]
                if header["magic"].item().rstrip(b"\0")[:2] != b"n+":
                    break
            except HeaderDataError as error:
                raise SourceError.of(path, "bad-header", str(error), FETCH) from None
            return header
    raise SourceError.of(path, "not-nifti", "its content is not single-file NIfTI", "remove it or convert it")


def _byte_order(start: bytes, size: int) -> str | None:
    """By sizeof_hdr; where that says nothing, nibabel goes by dim[0]."""
    orders = {size.to_bytes(4, "little"): "<", size.to_bytes(4, "big"): ">"}
    return orders.get(start[:4])


def _shape(path: Path, header: Nifti1Header) -> tuple[int, int, int]:
    axes = int(header["dim"][0])
    if axes == 0:
        raise SourceError.of(path, "empty-volume", "dim[0] says 0 dimensions", FETCH)
    if not 1 <= axes <= 7:
        raise SourceError.of(path, "bad-dims", f"dim[0] says {axes} dimensions; NIfTI has 1 to 7", FETCH)
    sizes = [int(size) for size in header["dim"][1 : axes + 1]]
    if min(sizes) < 0:
        raise SourceError.of(path, "bad-dims", f"dimensions {sizes}", FETCH)
    if 0 in sizes:
        raise SourceError.of(path, "empty-volume", f"dimensions {sizes}", FETCH)
    if axes < 3 or any(size > 1 for size in sizes[3:]):
        raise SourceError.of(path, "not-3d", f"dimensions {sizes}", "give one volume per file")
    check_size(path, tuple(sizes))
    return sizes[0], sizes[1], sizes[2]


def _offset(path: Path, header: Nifti1Header) -> int:
    """Where the voxels begin: nifti1.h, "vox_offset": 352 or more in a single file; nifti2.h: 544."""
    offset, least = float(header["vox_offset"]), header.sizeof_hdr + EXTENDER_BYTES
    if not least <= offset < 1 << 30:
        reason = f"voxels at byte {offset:g}; the header ends at {least}"
        raise SourceError.of(path, "bad-offset", reason, FETCH)
    return int(offset)


def _check_extensions(path: Path, header: Nifti1Header, start: bytes) -> None:
    """Header extensions are passed over, but where their lengths are absurd, more will be wrong."""
    place = header.sizeof_hdr + EXTENDER_BYTES
    if start[header.sizeof_hdr : place][:1] in (b"", b"\0"):
        return
    order: Literal["little", "big"] = "little" if header.endianness == "<" else "big"
    while place + EXTENSION_BYTES <= len(start):
        length = int.from_bytes(start[place : place + 4], order, signed=True)
        if length < EXTENSION_BYTES or place + length > header["vox_offset"]:
            raise SourceError.of(path, "bad-extension", f"a header extension of {length} bytes", FETCH)
        place += length


def _scaling(path: Path, header: Nifti1Header) -> tuple[float, float, list[str]]:
    raw = float(header["scl_slope"])
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise SourceError.of(path, "bad-scaling", str(error), FETCH) from None
    if slope is None:
        return 1.0, 0.0, [f"scl_slope {raw:g} read as no scaling"]
    return float(slope), float(inter or 0.0), []


# --- values -------------------------------------------------------------------------------------


def _scaled(stored: NDArray[Any], layout: _Layout) -> NDArray[Any]:
    if (layout.slope, layout.inter) == (1.0, 0.0):
        return stored
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = stored.astype(np.float32)
        scaled *= np.float32(layout.slope)
        scaled += np.float32(layout.inter)
    return scaled


def _header_facts(layout: _Layout) -> Facts:
    letters, order, spacing = axes_of(layout.affine)
    return {
        "shape": [int(layout.shape[axis]) for axis in order],
        "spacing_mm": spacing,
        "orientation": letters,
        "dtype": layout.dtype.newbyteorder("=").name,
        "slope": layout.slope,
        "inter": layout.inter,
        "warnings": list(layout.warnings),
    }


def _facts(layout: _Layout, array: NDArray[Any], extra: int) -> Facts:
    facts = _header_facts(layout)
    nonfinite = 0 if array.dtype.kind in "iu" else int(array.size - np.count_nonzero(np.isfinite(array)))
    if nonfinite:
        facts["warnings"].append(f"{nonfinite} voxels are not finite")
    if extra:
        facts["warnings"].append(f"{extra} bytes after the voxels")
    return {**facts, "nonfinite": nonfinite}


# --- the type -----------------------------------------------------------------------------------


def convert(source: Source, recipe: CtRecipe) -> Reading:
    """Values in [0, 1] at the recipe's shape. Raises SourceError as ``read``, non-finite, out-of-range."""
    reading = _hounsfield(source.path, recipe)
    if recipe.preset is None:
        return Reading(scale_ct(reading.array, recipe), reading.facts, reading.statistics)
    reading.facts["warnings"] += unlike_2021(reading.array)
    return Reading(scale_ct_2021(reading.array, recipe), reading.facts, reading.statistics)


def pictures(source: Source, recipe: CtRecipe) -> PictureReading:
    """The slices, from the lowest to the highest, in Hounsfield units. Raises as ``convert``."""
    reading = _hounsfield(source.path, recipe)
    planes = enumerate(reading.array)
    slices = (Picture(str(number), number, plane, recipe.window) for number, plane in planes)
    return PictureReading(slices, reading.facts)


def _hounsfield(path: Path, recipe: CtRecipe) -> Reading:
    """The scan with finite values only."""
    reading = read(path, canonical=recipe.preset is None)
    finite_ones = finite(path, reading.array, reading.facts["nonfinite"], recipe.window[0])
    return Reading(in_range(path, finite_ones), reading.facts, reading.statistics)


def doubts(statistics: Statistics, facts: Facts) -> list[str]:
    """What makes a volume look like something other than a CT scan in Hounsfield units."""
    low, high, different = statistics["min"], statistics["max"], statistics["different"]
    if low == high:
        return []  # told by the converter: all values are equal
    said = []
    if different is not None:
        said.append(f"only {different} different values: a label map, not a scan?")
    elif (low, high) == (0, 255):
        said.append("values from 0 to 255: a stack of pictures, not Hounsfield units?")
    elif low > NOT_HOUNSFIELD:
        said.append(f"no value below {NOT_HOUNSFIELD} (lowest {low:g}): not Hounsfield units?")
    if facts["shape"][0] == 1:
        said.append("one slice only, which is repeated to the depth of the volume")
    return said


SOURCE = SourceType(
    "nifti",
    SUFFIXES,
    CtRecipe,
    lambda source: inspect(source.path),
    lambda source: read(source.path),
    pictures,
    convert,
    kind="orientation",
    converter=1,
    doubts=doubts,
)
