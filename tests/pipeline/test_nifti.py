import gzip
import os
import re
import struct
import tracemalloc
import zlib
from itertools import pairwise, permutations, product

import nibabel as nib
import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.readers.nifti import PIECE_BYTES, inspect, read

pytestmark = pytest.mark.unit

PHANTOM = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5) ** 2 - 1000  # no symmetry; axes R, A, S
SPL = PHANTOM[::-1, ::-1].T  # depth toward Superior, height toward Posterior, width toward Left
SPACING = (1.5, 2.0, 2.5)
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def scan(tmp_path, write_nifti):
    """A file with noise, its stored values, and its bytes."""

    def make(shape=(16, 17, 18), name="scan.nii.gz", **options):
        values = np.random.default_rng(0).integers(-1024, 3072, shape, np.int16)
        return write_nifti(tmp_path / name, values, **options), values

    return make


def code_of(problems):
    (problem,) = problems
    return problem.code


def nibabel_spl(path):
    """nibabel's answer, turned by hand from its canonical R, A, S."""
    image = nib.as_closest_canonical(nib.squeeze_image(nib.load(path)))
    return image.get_fdata(dtype=np.float64)[::-1, ::-1].T


# --- axes ---------------------------------------------------------------------------------------


def stored_as(order, signs):
    """The phantom stored with axis ``a`` along world axis ``order[a]``, and its affine, both by hand."""
    stored, affine = PHANTOM.transpose(order), np.diag([0.0, 0.0, 0.0, 1.0])
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * SPACING[world]
        stored = np.flip(stored, axis) if sign < 0 else stored
    affine[:3, 3] = [-7, 11, 13]
    letters = "".join(
        "RAS"[world] if sign > 0 else "LPI"[world] for world, sign in zip(order, signs, strict=True)
    )
    return letters, stored, affine


ORIENTATIONS = [stored_as(*case) for case in product(permutations(range(3)), product([1, -1], repeat=3))]


@pytest.mark.parametrize(
    ("letters", "stored", "affine"), ORIENTATIONS, ids=[case[0] for case in ORIENTATIONS]
)
def test_all_48_orientations_read_alike(tmp_path, write_nifti, letters, stored, affine):
    path = write_nifti(tmp_path / "a.nii", stored, affine=affine)
    reading = read(path)
    np.testing.assert_array_equal(reading.array, SPL)
    np.testing.assert_array_equal(reading.array, nibabel_spl(path))
    assert reading.facts["orientation"] == letters
    assert reading.facts["spacing_mm"] == [2.5, 2.0, 1.5]
    assert reading.facts["shape"] == [5, 4, 3]
    assert {**inspect(path), "nonfinite": 0} == reading.facts


def rotation(x, y, z):
    """Degrees around the three world axes."""
    result = np.eye(3)
    for axis, degrees in enumerate((x, y, z)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn[[first, first, second, second], [first, second, first, second]] = c, -s, s, c
        result = turn @ result
    return result


@pytest.mark.parametrize(
    "angles", [(20, 0, 0), (-15, 25, 10), (0, 0, 44), (170, 5, 0), (0, 100, 0), (35, 35, 35)]
)
def test_oblique_volumes_take_the_closest_axes(tmp_path, write_nifti, angles):
    affine = np.eye(4)
    affine[:3, :3] = rotation(*angles) @ np.diag(SPACING)
    path = write_nifti(tmp_path / "a.nii", PHANTOM, affine=affine)
    reading = read(path)
    np.testing.assert_array_equal(reading.array, nibabel_spl(path))
    closest = nib.as_closest_canonical(nib.load(path)).header.get_zooms()[::-1]
    np.testing.assert_allclose(reading.facts["spacing_mm"], closest, atol=1e-4)


def test_a_sheared_volume_reads_like_nibabel(tmp_path, write_nifti):
    affine = np.array([[1, 0.7, 0, 0], [0, 1, 0.7, 0], [0.7, 0, -1, 0], [0, 0, 0, 1.0]])
    path = write_nifti(tmp_path / "a.nii", PHANTOM, affine=affine, fields={"qform_code": 0})
    np.testing.assert_array_equal(read(path).array, nibabel_spl(path))


def test_sform_goes_before_qform(tmp_path, write_nifti):
    path = write_nifti(tmp_path / "a.nii", PHANTOM, affine=np.diag([*SPACING, 1]))
    image = nib.load(path)
    image.header.set_qform(np.diag([-1.5, -2, 2.5, 1]), 1)
    image.header.set_sform(np.diag([1.5, 2, 2.5, 1]), 1)
    nib.save(nib.Nifti1Image(PHANTOM, None, image.header), tmp_path / "b.nii")
    np.testing.assert_array_equal(read(tmp_path / "b.nii").array, SPL)


def test_spacing_that_disagrees_is_told(tmp_path, write_nifti):
    fields = {"pixdim": [1, 5, 5, 5, 1, 1, 1, 1]}
    path = write_nifti(tmp_path / "a.nii", PHANTOM, affine=np.diag([0.7, 0.7, 0.7, 1]), fields=fields)
    (warning,) = read(path).facts["warnings"]
    assert warning.startswith("form-conflict: ")
    assert "sform says [0.7, 0.7, 0.7] mm, pixdim [5.0, 5.0, 5.0] mm" in warning
    np.testing.assert_array_equal(read(path).array, SPL)


def two_forms(path, qform, sform=None):
    """PHANTOM with both forms; by themselves they place it at RAS, with voxels of SPACING."""
    image = nib.Nifti1Image(PHANTOM, None)
    image.header.set_qform(qform, 1)
    image.header.set_sform(np.diag([*SPACING, 1]) if sform is None else sform, 1)
    nib.save(image, path)
    return path


def moved(*by, turn=(0, 0, 0)):
    affine = np.diag([*SPACING, 1.0])
    affine[:3, :3] = rotation(*turn) @ affine[:3, :3]
    affine[:3, 3] = by
    return affine


CONFLICTS = {  # a qform beside the sform moved(0, 0, 0); how far the farthest corner is moved, by hand
    "origin": (moved(0, 30, 40), 50.0),
    "half turn": (moved(0, 0, 0, turn=(0, 0, 180)), 2 * np.hypot(2 * 1.5, 3 * 2)),
    "quarter turn": (moved(0, 0, 0, turn=(90, 0, 0)), np.sqrt(2) * np.hypot(3 * 2, 4 * 2.5)),
}


@pytest.mark.parametrize(("qform", "apart"), CONFLICTS.values(), ids=CONFLICTS)
def test_forms_that_disagree_in_place_or_turn_are_told(tmp_path, qform, apart):
    reading = read(two_forms(tmp_path / "a.nii", qform))
    np.testing.assert_array_equal(reading.array, SPL)  # by the sform
    (warning,) = reading.facts["warnings"]
    said = f"form-conflict: sform and qform place a corner {apart:.4g} mm apart; the sform is used"
    assert warning == said


@pytest.mark.parametrize("qform", [moved(0, 0, 0), moved(1, 1, 1), moved(0, 0, 0, turn=(1, 1, 1))])
def test_forms_that_agree_within_a_voxel_are_not_told(tmp_path, qform):
    assert read(two_forms(tmp_path / "a.nii", qform)).facts["warnings"] == []


@pytest.mark.parametrize("offset", [1e300, -INF, NAN])
def test_a_qform_from_nowhere_is_told(tmp_path, write_nifti, offset):
    fields = {"qform_code": 1, "qoffset_x": offset}
    path = write_nifti(tmp_path / "a.nii", PHANTOM, affine=np.eye(4), version=2, fields=fields)
    (warning,) = read(path).facts["warnings"]
    assert warning.startswith("form-conflict: sform and qform place a corner ")


def test_a_qform_that_is_no_rotation_is_told(tmp_path, write_nifti):
    fields = {"qform_code": 1, "quatern_b": 3}
    path = write_nifti(tmp_path / "a.nii", PHANTOM, affine=np.eye(4), fields=fields)
    (warning,) = read(path).facts["warnings"]
    assert warning == "form-conflict: its qform is not a rotation; the sform is used"


def test_assumed_orientation_is_told(tmp_path, write_nifti):
    path = write_nifti(tmp_path / "a.nii", PHANTOM, fields={"sform_code": 0, "qform_code": 0})
    (warning,) = read(path).facts["warnings"]
    assert warning.startswith("orientation assumed")
    np.testing.assert_array_equal(read(path).array, nibabel_spl(path))


@pytest.mark.parametrize("qfac", [0.0, 0.5])
def test_a_qfac_that_is_not_set_means_1(tmp_path, write_nifti, qfac):
    """nifti1.h: "if pixdim[0]=0.0 (which should not occur), we take qfac=1"; so does nibabel."""
    fields = {"sform_code": 0, "qform_code": 1, "pixdim": [qfac, 1.5, 2, 2.5, 1, 1, 1, 1]}
    path = write_nifti(tmp_path / "a.nii", PHANTOM, affine=np.diag([*SPACING, 1]), fields=fields)
    np.testing.assert_array_equal(read(path).array, SPL)


# --- values -------------------------------------------------------------------------------------

DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]


@pytest.mark.parametrize("version", [1, 2], ids=["NIfTI-1", "NIfTI-2"])
@pytest.mark.parametrize("endian", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_in_both_byte_orders(tmp_path, write_nifti, dtype, endian, version):
    values = np.random.default_rng(1).integers(0, 120, (3, 4, 5)).astype(dtype)
    path = write_nifti(tmp_path / "a.nii", values, endian=endian, version=version)
    reading = read(path)
    np.testing.assert_array_equal(reading.array, values.T)  # stored as L, P, S
    assert reading.array.dtype.newbyteorder("=") == dtype
    assert (reading.facts["dtype"], reading.facts["warnings"]) == (dtype, [])
    assert {**inspect(path), "nonfinite": 0} == reading.facts


SCALINGS = {  # slope and inter in the header; by what the values are multiplied, what is added; told?
    "N19 slope 0": (0, 0, 1, 0, True),
    "N19 slope 0 with inter": (0, -1024, 1, 0, True),
    "N19 slope NaN": (NAN, -1024, 1, 0, True),
    "N19 slope infinite": (INF, 0, 1, 0, True),
    "slope 1": (1, 0, 1, 0, False),
    "inter": (1, -1024, 1, -1024, False),
    "slope": (2.5, 0, 2.5, 0, False),
    "slope and inter": (-0.5, 10, -0.5, 10, False),
}


@pytest.mark.parametrize("version", [1, 2], ids=["NIfTI-1", "NIfTI-2"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize(("slope", "inter", "factor", "term", "told"), SCALINGS.values(), ids=SCALINGS)
def test_scaling(tmp_path, write_nifti, slope, inter, factor, term, told, dtype, version):
    values = np.random.default_rng(2).integers(0, 4096, (3, 4, 5)).astype(dtype)
    path = write_nifti(tmp_path / "a.nii", values, slope=slope, inter=inter, version=version)
    reading = read(path)
    np.testing.assert_allclose(reading.array, values.T * float(factor) + term, rtol=1e-6)
    np.testing.assert_allclose(reading.array, nibabel_spl(path), rtol=1e-6)
    assert (reading.facts["slope"], reading.facts["inter"]) == (factor, term)
    assert reading.facts["warnings"] == [f"scl_slope {slope:g} read as no scaling"] * told
    assert reading.facts["warnings"] == inspect(path)["warnings"]


def test_scaling_beyond_float32_is_counted(tmp_path, write_nifti):
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    reading = read(write_nifti(tmp_path / "a.nii", values, slope=1e38, inter=0))
    assert reading.facts["nonfinite"] == 60 - 4  # 0 to 3 times 1e38 fit
    assert reading.facts["warnings"] == ["56 voxels are not finite"]


def test_non_finite_voxels_are_counted_and_left_in_place(tmp_path, write_nifti):
    values = np.zeros((3, 4, 5), np.float32)
    values[0, 0, 0], values[1, 2, 3], values[2, 3, 4] = NAN, INF, -INF
    reading = read(write_nifti(tmp_path / "a.nii", values))
    np.testing.assert_array_equal(reading.array, values.T)
    assert reading.facts["nonfinite"] == 3
    assert reading.facts["warnings"] == ["3 voxels are not finite"]


@pytest.mark.parametrize("shape", [(3, 4, 5, 1), (3, 4, 5, 1, 1)], ids=str)
def test_axes_of_one_are_dropped(tmp_path, write_nifti, shape):
    path = write_nifti(tmp_path / "a.nii", PHANTOM.reshape(shape), affine=np.eye(4))
    np.testing.assert_array_equal(read(path).array, SPL)


def test_one_slice_is_a_volume(tmp_path, write_nifti):
    assert read(write_nifti(tmp_path / "a.nii", PHANTOM[:, :, :1])).array.shape == (1, 4, 3)


# --- headers that are wrong ---------------------------------------------------------------------


def dim(*sizes):
    return {"dim": [len(sizes), *sizes, *[1] * (7 - len(sizes))]}


def pixdim(size):
    return {"pixdim": [1, 1, size, 1, 1, 1, 1, 1]}


HEADERS = {
    "N10 30000 cubed": (dim(30000, 30000, 30000), "too-large"),
    "N12 1200 cubed": (dim(1200, 1200, 1200), "too-large"),
    "N13 negative size": (dim(-5, 17, 18), "bad-dims"),
    "N14 size 0": (dim(0, 17, 18), "empty-volume"),
    "N14 no dimensions": ({"dim": [0] + [1] * 7}, "empty-volume"),
    "N15 nine dimensions": ({"dim": [9] + [2] * 7}, "bad-dims"),
    "N16 one dimension": (dim(16), "not-3d"),
    "N16 two dimensions": (dim(16, 17), "not-3d"),
    "N17 four volumes": (dim(16, 17, 4, 4), "not-3d"),
    "N17 vectors": (dim(16, 17, 6, 1, 3), "not-3d"),
    "N21 slope 2, inter NaN": ({"scl_slope": 2, "scl_inter": NAN}, "bad-scaling"),
    "N26 pixdim 0": (pixdim(0), "bad-spacing"),
    "N26 pixdim negative": (pixdim(-1), "bad-spacing"),
    "N26 pixdim NaN": (pixdim(NAN), "bad-spacing"),
    "N26 pixdim 1e30": (pixdim(1e30), "bad-spacing"),
    "N29 sform of zeros": ({"srow_x": [0] * 4, "srow_y": [0] * 4, "srow_z": [0] * 4}, "bad-affine"),
    "N29 sform with equal axes": ({"srow_x": [1, 0, 0, 0], "srow_y": [1, 0, 0, 0]}, "bad-affine"),
    "N29 sform NaN": ({"srow_x": [NAN] * 4}, "bad-affine"),
    "N29 quaternion over 1": ({"sform_code": 0, "qform_code": 1, "quatern_b": 3}, "bad-affine"),
    "N31 vox_offset 0": ({"vox_offset": 0}, "bad-offset"),
    "N31 vox_offset in the header": ({"vox_offset": 348}, "bad-offset"),
    "N31 vox_offset 349": ({"vox_offset": 349}, "bad-offset"),
    "N31 vox_offset 351": ({"vox_offset": 351}, "bad-offset"),
    "N32 vox_offset NaN": ({"vox_offset": NAN}, "bad-offset"),
    "N32 vox_offset infinite": ({"vox_offset": INF}, "bad-offset"),
    "N32 vox_offset -352": ({"vox_offset": -352}, "bad-offset"),
    "N33 datatype 999": ({"datatype": 999}, "unsupported-dtype"),
    "N33 datatype 0": ({"datatype": 0}, "unsupported-dtype"),
    "N33 bits": ({"datatype": 1}, "unsupported-dtype"),
    "N33 RGB24": ({"datatype": 128}, "unsupported-dtype"),
    "N33 complex64": ({"datatype": 32}, "unsupported-dtype"),
    "magic of pairs": ({"magic": b"ni1"}, "not-nifti"),
    "no magic": ({"magic": b""}, "not-nifti"),
}


@pytest.mark.parametrize("endian", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize(("fields", "code"), HEADERS.values(), ids=HEADERS)
def test_wrong_headers_are_refused(scan, refusal, fields, code, endian):
    path, _ = scan(fields=fields, endian=endian)
    for look in (read, inspect):
        (problem,) = refusal(SourceError, lambda look=look: look(path))
        assert (problem.where, problem.code) == (str(path), code)
        assert len(problem.reason.split()) > 1  # a sentence, not a bare number


@pytest.mark.parametrize("endian", ["<", ">"], ids=["little", "big"])
def test_the_reason_names_the_field(scan, refusal, endian):
    path, _ = scan(fields={"dim": [9] + [2] * 7}, endian=endian)
    (problem,) = refusal(SourceError, lambda: read(path))
    assert "dim[0] says 9 dimensions" in problem.reason


@pytest.mark.parametrize(("version", "least"), [(1, 352), (2, 544)])
def test_the_voxels_follow_the_header_and_its_extender(tmp_path, write_nifti, refusal, version, least):
    path = write_nifti(tmp_path / "a.nii", PHANTOM, affine=np.eye(4), version=version)
    np.testing.assert_array_equal(read(path).array, SPL)  # at the least offset there is
    path = write_nifti(
        tmp_path / "b.nii", PHANTOM, affine=np.eye(4), version=version, fields={"vox_offset": least - 1}
    )
    (problem,) = refusal(SourceError, lambda: read(path))
    assert problem.code == "bad-offset"
    assert str(least) in problem.reason


CONTENTS = {
    "N32 vox_offset 1e9": ({"vox_offset": 1e9}, "truncated"),
    "N34 u1 over i2": ({"datatype": 2}, "size-mismatch"),
    "N34 a third of the slices": (dim(16, 17, 6), "size-mismatch"),
    "i4 over i2": ({"datatype": 8}, "truncated"),
}


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(("fields", "code"), CONTENTS.values(), ids=CONTENTS)
def test_headers_that_contradict_the_content_are_refused(scan, refusal, fields, code, name):
    path, _ = scan(name=name, fields=fields)
    assert code_of(refusal(SourceError, lambda: read(path))) == code


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(
    ("shape", "surplus", "refused"),
    [
        ((8, 8, 4), 256, True),  # u1 over i2, or one of two volumes, however small
        ((8, 8, 4), 768, True),  # u1 over f4
        ((8, 8, 4), 255, False),
        ((8, 8, 4), 1000, False),
        ((8, 8, 4), 128 + 1024, False),
        ((8, 8, 4), 128 + 1025, True),
        ((64, 64, 16), 32768 + 1024, False),
        ((64, 64, 16), 32768 + 1025, True),
    ],
)
def test_and_N9_the_border_between_junk_and_a_wrong_header(
    tmp_path, write_nifti, refusal, shape, surplus, refused, name
):
    values = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = write_nifti(tmp_path / name, values)
    data = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
    path.write_bytes(gzip.compress(data + bytes(surplus)) if name.endswith("gz") else data + bytes(surplus))
    if refused:
        assert code_of(refusal(SourceError, lambda: read(path))) == "size-mismatch"
    else:
        assert read(path).facts["warnings"] == [f"{surplus} bytes after the voxels"]


def with_extension(path, endian, *sizes):
    """Room for extensions of 32 bytes in all, between the header and the voxels."""
    data = path.read_bytes()
    notes = b"".join(struct.pack(endian + "2i", size, 6) + b"note" * 2 for size in sizes)
    path.write_bytes(data[:348] + b"\1\0\0\0" + notes.ljust(32, b"\0") + data[352:])
    return path


@pytest.mark.parametrize("endian", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("sizes", [(32,), (16, 16), (24,)])
def test_header_extensions_are_passed_over(scan, sizes, endian):
    path, values = scan(name="a.nii", fields={"vox_offset": 384}, endian=endian)
    np.testing.assert_array_equal(read(with_extension(path, endian, *sizes)).array, values.T)


@pytest.mark.parametrize("endian", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("sizes", [(0,), (-16,), (2**31 - 1,), (-(2**31),), (8,), (48,), (16, 0), (16, 17)])
def test_absurd_extensions_are_refused(scan, refusal, sizes, endian):
    path, _ = scan(name="a.nii", fields={"vox_offset": 384}, endian=endian)
    with_extension(path, endian, *sizes)
    for look in (read, inspect):
        assert code_of(refusal(SourceError, lambda look=look: look(path))) == "bad-extension"


# --- files that are not what they seem ----------------------------------------------------------

FILES = {
    "N1 empty": (b"", "empty-file"),
    "N2 PNG": (b"\x89PNG\r\n\x1a\n" + bytes(2000), "not-nifti"),
    "N2 text": (b"hello\n" * 1000, "not-nifti"),
    "N2 a few bytes": (b"\x5c\1\0\0", "not-nifti"),
    "gzip of text": (gzip.compress(b"hello\n" * 1000), "not-nifti"),
    "gzip of nothing": (gzip.compress(b""), "not-nifti"),
    "gzip header only": (gzip.compress(b"")[:10], "truncated"),
}


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(("data", "code"), FILES.values(), ids=FILES)
def test_other_content_is_refused(tmp_path, refusal, data, code, name):
    path = tmp_path / name
    path.write_bytes(data)
    assert code_of(refusal(SourceError, lambda: read(path))) == code
    assert code_of(refusal(SourceError, lambda: inspect(path))) == code


NOT_FILES = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "looping link": lambda path: path.symlink_to(path),
    "pipe": os.mkfifo,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", NOT_FILES.values(), ids=NOT_FILES)
def test_only_regular_files_are_read(tmp_path, refusal, make):
    path = tmp_path / "a.nii.gz"
    make(path)
    for look in (read, inspect):
        assert code_of(refusal(SourceError, lambda look=look: look(path))) == "not-a-regular-file"


def test_a_link_to_a_file_is_read(scan, tmp_path):
    path, values = scan()
    (tmp_path / "link.nii").symlink_to(path)
    np.testing.assert_array_equal(read(tmp_path / "link.nii").array, values.T)


def test_content_decides_not_the_name(scan, tmp_path):
    path, values = scan(name="a.nii.gz")
    plain, packed = tmp_path / "plain.nii.gz", tmp_path / "packed.nii"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    packed.write_bytes(path.read_bytes())
    np.testing.assert_array_equal(read(plain).array, values.T)
    np.testing.assert_array_equal(read(packed).array, values.T)


@pytest.mark.parametrize("keep", [352, 353, 5000, -1])
def test_cut_plain_files_tell_both_sizes(scan, refusal, keep):
    path, _ = scan(name="a.nii")
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    (problem,) = refusal(SourceError, lambda: read(path))
    assert problem.code == "truncated"
    assert str(len(data)) in problem.reason
    assert str(len(data[:keep])) in problem.reason


DAMAGED = {
    "N5 half": (lambda data: data[: len(data) // 2], "truncated"),
    "N5 a byte short of the trailer": (lambda data: data[:-30], "truncated"),
    "N6 no trailer": (lambda data: data[:-8], "gzip-crc"),
    "N6 half a trailer": (lambda data: data[:-4], "gzip-crc"),
    "N6 last byte missing": (lambda data: data[:-1], "gzip-crc"),
    "N7 wrong CRC": (lambda data: data[:-6] + bytes([data[-6] ^ 255]) + data[-5:], "gzip-crc"),
    "N7 wrong length": (lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:], "gzip-crc"),
    "N8 flipped payload": (lambda data: data[:5000] + bytes([data[5000] ^ 4]) + data[5001:], "gzip-crc"),
    "wrong second member": (lambda data: data + gzip.compress(b"x")[:-1] + b"\xff", "gzip-crc"),
    "cut second member": (lambda data: data + gzip.compress(b"x" * 99)[:-9], "gzip-crc"),
}


@pytest.mark.parametrize(("damage", "code"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_gzip_is_refused(scan, refusal, damage, code):
    path, _ = scan()
    path.write_bytes(damage(path.read_bytes()))
    found = code_of(refusal(SourceError, lambda: read(path)))
    assert found == code or (found, code) == ("truncated", "gzip-crc")


def test_no_trailer_of_the_smallest_scan(scan, refusal):
    path, _ = scan((2, 2, 2))
    path.write_bytes(path.read_bytes()[:-8])
    assert code_of(refusal(SourceError, lambda: read(path))) == "gzip-crc"


def test_tells_both_sizes(scan, refusal):
    path, _ = scan()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    (problem,) = refusal(SourceError, lambda: read(path))
    found, declared = map(int, re.fullmatch(r"(\d+) bytes; .* (\d+)", problem.reason).groups())
    assert declared == len(gzip.decompress(data))
    assert 0 < found < declared


@pytest.mark.parametrize("seed", range(4))
def test_no_flipped_bit_is_ever_accepted_with_a_bad_checksum(scan, tmp_path, seed):
    path, values = scan((6, 7, 8))
    good = path.read_bytes()
    rng = np.random.default_rng(seed)
    refused = 0
    for bit in rng.choice(len(good) * 8, 150, replace=False):
        data = bytearray(good)
        data[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(data)
        try:
            accepted = read(path).array
        except SourceError:
            refused += 1
            continue
        assert gzip.decompress(bytes(data)) == gzip.decompress(good), (
            f"bit {bit}"
        )  # Python's zlib as the judge
        np.testing.assert_array_equal(accepted, values.T)
    assert refused > 140  # all but a few bits of the header, such as its time


JUNK = [b"junk" * 10, bytes(512), b"\0"]


@pytest.mark.parametrize("junk", JUNK, ids=["text", "zeros", "one byte"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_bytes_after_the_end_are_told(scan, name, junk):
    path, values = scan(name=name)
    path.write_bytes(path.read_bytes() + junk)
    reading = read(path)
    np.testing.assert_array_equal(reading.array, values.T)
    assert reading.facts["warnings"] == [f"{len(junk)} bytes after the voxels"]


def test_bytes_after_the_end_never_become_voxels(scan, refusal):
    path, _ = scan()
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data[:-100]) + data[-100:])  # no checksum covers the last ones
    assert code_of(refusal(SourceError, lambda: read(path))) == "truncated"


def members(data, *cuts):
    edges = [0, *cuts, len(data)]
    return b"".join(gzip.compress(data[start:stop]) for start, stop in pairwise(edges))


@pytest.mark.parametrize("cuts", [(5000,), (400, 401, 9000), (100,), (0,), (0, 0, 348, 352)], ids=str)
def test_gzip_of_many_members(scan, cuts):
    path, values = scan()
    path.write_bytes(members(gzip.decompress(path.read_bytes()), *cuts))
    np.testing.assert_array_equal(read(path).array, values.T)
    assert inspect(path)["shape"] == [18, 17, 16]


@pytest.mark.parametrize("shift", [-2, -1, 0, 1])
def test_a_member_may_begin_anywhere_in_what_is_read_at_once(scan, shift):
    path, values = scan((40, 40, 40))
    data = gzip.decompress(path.read_bytes())
    first = gzip.compress(data[:5000])
    extra = PIECE_BYTES + shift - len(first) - 2
    padded = first[:3] + b"\4" + first[4:10] + struct.pack("<H", extra) + bytes(extra) + first[10:]
    assert len(padded) == PIECE_BYTES + shift
    path.write_bytes(padded + gzip.compress(data[5000:]))
    np.testing.assert_array_equal(read(path).array, values.T)


def test_gzip_with_a_name_and_a_comment(scan):
    path, values = scan()
    data = path.read_bytes()
    path.write_bytes(data[:3] + b"\x18" + data[4:10] + b"name\0" + b"comment" * 300 + b"\0" + data[10:])
    np.testing.assert_array_equal(read(path).array, values.T)


def test_a_bomb_is_noticed_before_it_has_grown(scan, refusal):
    path, _ = scan()
    pack = zlib.compressobj(9, wbits=31)
    pieces = [pack.compress(gzip.decompress(path.read_bytes()))]
    pieces += [pack.compress(bytes(1 << 20)) for _ in range(200)]
    path.write_bytes(b"".join([*pieces, pack.flush()]))
    tracemalloc.start()
    try:
        assert code_of(refusal(SourceError, lambda: read(path))) == "size-mismatch"
        assert tracemalloc.get_traced_memory()[1] < 96 << 20  # one piece of 64 KiB inflates to at most 64 MiB
    finally:
        tracemalloc.stop()


def test_memory_is_not_taken_on_the_headers_word(scan, refusal):
    path, _ = scan(fields=dim(600, 600, 600))
    tracemalloc.start()
    try:
        assert code_of(refusal(SourceError, lambda: read(path))) == "too-large"
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_nothing_is_written(scan):
    path, _ = scan()
    before = (path.read_bytes(), path.stat().st_mtime_ns, sorted(path.parent.iterdir()))
    read(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns, sorted(path.parent.iterdir())) == before


# --- real files ---------------------------------------------------------------------------------

REAL = [
    "ct/chestimagingplatform__ct-64.nii.gz",
    "ct/covidctmd_covid_P002_every5.nii.gz",
    "ct/elastix__3DCT_lung_baseline_small.nii.gz",
    "ct/niivue-demo-images__CT_pitch.nii.gz",
    "ct/totalsegmentator__example_ct.nii.gz",
    "ct/totalsegmentator__example_ct_sm.nii.gz",
    "ct_variants/P002d4_uint8_windowed.nii.gz",
    "ct_variants/P002d4_nan.nii.gz",
    "nifti_edge/datasets__test_nifti.nii",
    "nifti_edge/datasets__test_nifti.nii.gz",
    "nifti_edge/nibabel__anatomical.nii",
    "nifti_edge/nibabel__standard.nii.gz",
    "nifti_edge/nifti-reader-js__big.nii.gz",
    "nifti_edge/nifti-reader-js__little.nii.gz",
    "nifti_edge/niivue__minimal.nii.gz",
    "nifti_edge/orient__ASL.nii.gz",
]


@pytest.mark.parametrize("name", REAL)
def test_real_files_read_like_nibabel(shared, name):
    path = shared / name
    reading = read(path)
    np.testing.assert_allclose(reading.array, nibabel_spl(path), rtol=1e-6, atol=1e-4)
    image = nib.load(path)
    assert reading.facts["orientation"] == "".join(nib.aff2axcodes(image.affine))
    closest = nib.as_closest_canonical(nib.squeeze_image(image))
    np.testing.assert_allclose(
        reading.facts["spacing_mm"], nib.affines.voxel_sizes(closest.affine)[::-1], atol=1e-3
    )
    header = inspect(path)
    assert [header[key] for key in ("shape", "spacing_mm", "orientation", "dtype")] == [
        reading.facts[key] for key in ("shape", "spacing_mm", "orientation", "dtype")
    ]


VARIANTS = ["4d1", "LPS", "PSR", "float32", "plain", "slope0", "uint16_inter-1024"]


@pytest.mark.parametrize("tag", VARIANTS)
def test_one_real_scan_stored_in_many_ways(shared, tag):
    base = read(shared / "ct_variants/P002d4_base_int16.nii.gz").array
    (path,) = (shared / "ct_variants").glob(f"P002d4_{tag}.nii*")
    np.testing.assert_array_equal(read(path).array, base)


@pytest.mark.parametrize("letters", ["ASL", "LAS", "LPS", "PIR", "SRP"])
def test_one_real_brain_in_many_orientations(shared, letters):
    reading = read(shared / f"nifti_edge/orient__{letters}.nii.gz")
    np.testing.assert_array_equal(reading.array, read(shared / "nifti_edge/orient__RAS.nii.gz").array)
    assert reading.facts["orientation"] == letters


REAL_REFUSED = {
    "ct_variants/P002d4_truncated.nii.gz": "truncated",
    "nifti_edge/nibabel__example_nifti2.nii.gz": "not-3d",
    "nifti_edge/nifti-reader-js__not-nifti.nii": "not-nifti",
    "nifti_edge/nifti.jl__empty.nii.gz": "empty-file",
}


@pytest.mark.parametrize(("name", "code"), REAL_REFUSED.items())
def test_real_files_that_are_refused(shared, refusal, name, code):
    assert code_of(refusal(SourceError, lambda: read(shared / name))) == code


def test_real_facts(shared):
    assert read(shared / "ct_variants/P002d4_nan.nii.gz").facts["nonfinite"] == 300
    minimal = read(shared / "nifti_edge/niivue__minimal.nii.gz").facts
    assert minimal["warnings"] == [
        "scl_slope 0 read as no scaling",
        "orientation assumed: neither qform nor sform is set",
    ]
    big = read(shared / "nifti_edge/nifti-reader-js__big.nii.gz").array
    np.testing.assert_array_equal(big, read(shared / "nifti_edge/nifti-reader-js__little.nii.gz").array)
