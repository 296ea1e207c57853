"""The catalogue of bad inputs, row by row, as a user meets it: code, message and exit code of a command.

Rows N are of NIfTI files, V of videos, L of label tables, Y of catalogs. What each row does in detail is
tested beside its module; here each goes through the command line.
"""

import csv
import gzip
import hashlib
import json
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import test_catalog
import test_samples
import test_yaml_nodes
from click.testing import CliRunner, Result
from video_files import avi_bytes, jpeg

from cli import main
from pipeline.errors import ConfigError
from pipeline.store import open_store

NAN, INF = float("nan"), float("inf")
CATALOG = """\
version: 1
datasets:
  rows:
    type: {type}
    path: raw
    labels: {labels}
    classes: [A, B]
    recipe: {{shape: [4, 8, 8]}}
    store: rows.zarr
    split: {{file: rows.json}}
"""
BY_NAME = "{regex: '_(?P<label>[AB])\\.'}"


def viptt(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def told(stderr: str, path: Path) -> list[str]:
    """Codes of the lines about a file; each line has its reason and its remedy."""
    lines = [line for line in stderr.splitlines() if line.startswith(f"{path}: ")]
    assert all(len(line.partition(" → ")[2]) > 5 for line in lines)
    return [line.removeprefix(f"{path}: ").partition(": ")[0] for line in lines]


def build(folder: Path, type_: str, labels: str = BY_NAME) -> Result:
    """Exit code 3, unless nothing was wrong; never a traceback."""
    (folder / "c.yaml").write_text(CATALOG.format(type=type_, labels=labels))
    result = viptt("build", "-v", "--scheduler", "sync", "--catalog", folder / "c.yaml")
    assert "Traceback" not in result.output
    return result


def quarantined(folder: Path) -> dict[str, str]:
    with (folder / "rows.quarantine.csv").open(newline="") as file:
        return {row["source"]: row["code"] for row in csv.DictReader(file)}


def stored(folder: Path) -> dict[str, list[str]]:
    """Source → what is noted of it."""
    return {row.source: json.loads(row.facts)["warnings"] for row in open_store(folder / "rows.zarr").rows}


# --- 3.1 NIfTI ----------------------------------------------------------------------------------


def dim(*sizes):
    return {"dim": [len(sizes), *sizes, *[1] * (7 - len(sizes))]}


def pixdim(size):
    return {"pixdim": [1, 1, size, 1, 1, 1, 1, 1]}


HEADERS = {  # fields of a sound scan of 16 x 17 x 18 int16 → code
    "N10": (dim(30000, 30000, 30000), "too-large"),
    "N12": (dim(1200, 1200, 1200), "too-large"),
    "N13": (dim(-5, 17, 18), "bad-dims"),
    "N14 size": (dim(0, 17, 18), "empty-volume"),
    "N14 axes": ({"dim": [0] + [1] * 7}, "empty-volume"),
    "N15": ({"dim": [9] + [2] * 7}, "bad-dims"),
    "N16 1": (dim(16), "not-3d"),
    "N16 2": (dim(16, 17), "not-3d"),
    "N17": (dim(16, 17, 6, 3), "not-3d"),
    "N20": ({"scl_slope": 1e38}, "non-finite"),
    "N21": ({"scl_slope": 2, "scl_inter": NAN}, "bad-scaling"),
    "N26 zero": (pixdim(0), "bad-spacing"),
    "N26 negative": (pixdim(-1), "bad-spacing"),
    "N26 nan": (pixdim(NAN), "bad-spacing"),
    "N26 huge": (pixdim(1e30), "bad-spacing"),
    "N29": ({"srow_x": [0] * 4, "srow_y": [0] * 4, "srow_z": [0] * 4}, "bad-affine"),
    "N31 zero": ({"vox_offset": 0}, "bad-offset"),
    "N31 349": ({"vox_offset": 349}, "bad-offset"),
    "N31 351": ({"vox_offset": 351}, "bad-offset"),
    "N32 far": ({"vox_offset": 1e9}, "truncated"),
    "N32 nan": ({"vox_offset": NAN}, "bad-offset"),
    "N32 negative": ({"vox_offset": -352}, "bad-offset"),
    "N33 unknown": ({"datatype": 999}, "unsupported-dtype"),
    "N33 RGB": ({"datatype": 128}, "unsupported-dtype"),
    "N33 complex": ({"datatype": 32}, "unsupported-dtype"),
    "N34": ({"datatype": 2}, "size-mismatch"),
}


def flipped(data, place, bits):
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]


def extension(size):
    def extend(data):
        plain = bytearray(gzip.decompress(data))
        struct.pack_into("<f", plain, 108, 368)
        return plain[:348] + struct.pack("<4B2i8x", 1, 0, 0, 0, size, 6) + plain[352:]

    return extend


def bomb(data):
    """400 million voxels of one byte in 400 kB."""
    start = bytearray(gzip.decompress(data)[:352])
    struct.pack_into("<8h", start, 40, 3, 1000, 1000, 400, 1, 1, 1, 1)
    struct.pack_into("<2h", start, 70, 2, 8)
    pack = zlib.compressobj(9, wbits=31)
    pieces = [pack.compress(bytes(start)), *(pack.compress(bytes(4_000_000)) for _ in range(100))]
    return b"".join([*pieces, pack.flush()])


BYTES = {  # what is done to the bytes of a .nii.gz → code
    "N1": (lambda data: b"", "empty-file"),
    "N2": (lambda data: b"\x89PNG\r\n\x1a\n" + bytes(2000), "not-nifti"),
    "N4 header": (lambda data: gzip.decompress(data)[:352], "truncated"),
    "N4 half": (lambda data: gzip.decompress(data)[:5000], "truncated"),
    "N5": (lambda data: data[: len(data) // 2], "truncated"),
    "N6": (lambda data: data[:-8], "gzip-crc"),
    "N7": (lambda data: flipped(data, len(data) - 6, 255), "gzip-crc"),
    "N8": (lambda data: flipped(data, len(data) - 900, 4), "gzip-crc"),
    "N11": (bomb, "too-large"),
    "N35 zero": (extension(0), "bad-extension"),
    "N35 negative": (extension(-16), "bad-extension"),
    "N35 huge": (extension(2**31 - 1), "bad-extension"),
}


def with_voxel(value, dtype="float32"):
    values = np.random.default_rng(1).integers(-900, 900, (16, 17, 18)).astype(dtype)
    values[3:5, 4, 5] = value
    return values


ARRAYS = {
    "N22 half": (np.where(np.arange(4896).reshape(16, 17, 18) % 2, NAN, 1).astype("float32"), "non-finite"),
    "N23": (with_voxel(1e30), "out-of-range"),
    "N24 nan": (np.full((16, 17, 18), NAN, "float32"), "non-finite"),
}
PATHS = {
    "N36 folder": lambda path: path.mkdir(),
    "N36 dangling": lambda path: path.symlink_to("nowhere"),
    "N36 looping": lambda path: path.symlink_to(path),
    "N36 pipe": os.mkfifo,
    "N36 device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.fixture
def scans(tmp_path, write_nifti):
    """Two sound scans below ``raw``, and a way to add others, labelled by turns."""

    def add(name, values=None, *, suffix=".nii.gz", seed=0, **options):
        label = "AB"[len(list((tmp_path / "raw").glob("*"))) % 2] if (tmp_path / "raw").exists() else "A"
        if values is None:
            values = np.random.default_rng([seed, *name.encode()]).integers(
                -1024, 3072, (16, 17, 18), np.int16
            )
        return write_nifti(tmp_path / "raw" / f"{name}_{label}{suffix}", values, **options)

    add("good 0")
    add("good 1")
    return add


@pytest.mark.timeout(300)
def test_rows_of_nifti_that_are_quarantined(tmp_path, scans):
    wanted = {}
    for name, (fields, code) in HEADERS.items():
        wanted[scans(name, fields=fields)] = code
    for name, (values, code) in ARRAYS.items():
        wanted[scans(name, values)] = code
    for name, (damage, code) in BYTES.items():
        path = scans(name)
        path.write_bytes(damage(path.read_bytes()))
        wanted[path] = code
    for name, make in PATHS.items():
        path = scans(name)
        path.unlink()
        make(path)
        wanted[path] = "not-a-regular-file"
    twin = scans("N38 first")
    other = twin.with_name("N38 second_" + "BA"["_B" in twin.name] + ".nii.gz")
    other.write_bytes(twin.read_bytes())
    wanted |= dict.fromkeys((twin, other), "duplicate-content")
    result = build(tmp_path, "nifti")
    assert result.exit_code == 3, result.stderr
    assert quarantined(tmp_path) == {path.name: code for path, code in wanted.items()}
    assert {path: told(result.stderr, path) for path in wanted} == {
        path: [code] for path, code in wanted.items()
    }
    assert list(stored(tmp_path)) == ["good 0_A.nii.gz", "good 1_B.nii.gz"]


def test_rows_of_nifti_that_are_read_and_noted(tmp_path, scans):
    noise = np.random.default_rng(2).integers(-900, 900, (16, 17, 18), np.int16)
    wanted = {
        scans("N9 gz"): "40 bytes after the voxels",
        scans("N9 nii", suffix=".nii"): "40 bytes after the voxels",
        scans("N19 zero", slope=0): "scl_slope 0 read as no scaling",
        scans("N19 nan", slope=NAN): "scl_slope nan read as no scaling",
        scans("N19 inf", slope=INF): "scl_slope inf read as no scaling",
        scans("N22 nan", with_voxel(NAN)): "2 voxels are not finite",
        scans("N22 inf", with_voxel(-INF)): "2 voxels are not finite",
        scans("N24", np.full((16, 17, 18), 40, np.int16)): "all values are equal",
        scans("N27 spacing", fields=pixdim(5)): "form-conflict: sform says [1.0, 1.0, 2.0] mm",
        scans(
            "N27 turn", fields={"qform_code": 1, "quatern_d": 0, "quatern_b": 1}
        ): "form-conflict: sform and",
        scans("N28", fields={"sform_code": 0, "qform_code": 0}): "orientation assumed",
    }
    for path in wanted:
        if path.name.startswith("N9"):
            path.write_bytes(path.read_bytes() + b"junk" * 10)
    nothing = [
        scans("N3", noise + 1, suffix=".nii"),
        scans("N17", noise.reshape(16, 17, 18, 1) + 2),
        scans("N18", noise[:, :, :1]),
        scans("N23 padding", np.where(noise > 0, np.int16(-32768), noise)),
        scans("N25", np.where(noise > 0, np.int16(32767), np.int16(-32767))),
        scans("N30", affine=np.array([[1, 1, 0, 0], [-1, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]]) * 0.7),
    ]
    nothing[0].write_bytes(gzip.compress(nothing[0].read_bytes()))
    result = build(tmp_path, "nifti")
    assert result.exit_code == 0, result.stderr
    found = stored(tmp_path)
    for path, note in wanted.items():
        (text,) = found[path.name]
        assert text.startswith(note), path.name
        assert f"warning: {path}: doubtful: {text} → " in result.stderr
    assert all(found[path.name] == [] for path in nothing)


def test_a_source_that_changes_while_it_is_read(tmp_path, scans, monkeypatch):
    import pipeline.build.worker as worker

    path, convert = scans("N37"), worker.convert

    def convert_and_cut(source, recipe):
        conversion = convert(source, recipe)
        if source.path == path:
            os.truncate(path, 400)
        return conversion

    monkeypatch.setattr(worker, "convert", convert_and_cut)
    result = build(tmp_path, "nifti")
    assert (result.exit_code, told(result.stderr, path)) == (3, ["changed-during-read"])


# --- 3.2 videos ---------------------------------------------------------------------------------

FRAMES = 60
CONTENTS = {
    "V1 empty": (b"", "empty-file"),
    "V1 text": (b"hello\n" * 100, "not-video"),
    "V1 random": (np.random.default_rng(0).bytes(5000), "not-video"),
    "V1 RIFF": (b"RIFF\0\0\0\0AVI ", "not-video"),
    "V10": (b"ffconcat version 1.0\nfile good 0_A.avi\n", "not-video"),
    "V11": (cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes(), "not-video"),
    "V12": (b"#EXTM3U\n#EXTINF:9,\ngood 0_A.avi\n", "not-video"),
}


def patched(tag, offset, form, *values):
    def patch(data):
        result = bytearray(data)
        struct.pack_into(form, result, data.index(tag) + 8 + offset, *values)
        return bytes(result)

    return patch


def hole(data):
    """2 kB of zeros over the middle, on the border of two frames."""
    place = data.index(b"00dc", len(data) // 2) - 100
    return data[:place] + bytes(2048) + data[place + 2048 :]


GREY, COLOUR = jpeg(48, 64), jpeg(48, 64, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)


def scratch(data):
    """8 bytes of zeros within a frame, all of whose neighbours stay."""
    place = data.index(b"00dc", len(data) // 2) + 300
    return data[:place] + bytes(8) + data[place + 8 :]


def one_bit(data):
    place = data.index(b"00dc", len(data) // 2) + 100
    return flipped(data, place, 1)


def of_images(*images):
    """An AVI of JPEG images, whatever was there before."""
    return lambda data: avi_bytes([image for image in images for _ in range(5)])


CLIPS = {  # fourcc, suffix, what is done to the bytes → code
    "V3 XVID": ("XVID", ".avi", lambda data: data[: len(data) // 4], "frame-count-mismatch"),
    "V3 MJPG": ("MJPG", ".avi", lambda data: data[: len(data) // 4], "frame-count-mismatch"),
    "V4": ("mp4v", ".mp4", lambda data: data[: len(data) * 99 // 100], "not-video"),
    "V5 MJPG": ("MJPG", ".avi", hole, "frame-count-mismatch"),
    "V5 XVID": ("XVID", ".avi", scratch, "decode-warnings"),
    "V6 XVID": ("XVID", ".avi", one_bit, "decode-warnings"),
    "V15 size": ("MJPG", ".avi", of_images(GREY, jpeg(50, 64)), "format-change"),
    "V15 grey": ("MJPG", ".avi", of_images(GREY, COLOUR), "format-change"),
    "V8 strf": ("FFV1", ".avi", patched(b"strf", 4, "<2i", 60000, 60000), "no-frames"),
    "V9 strf": ("MJPG", ".avi", patched(b"strf", 16, "4s", b"M8RG"), "codec-not-allowed"),
    "V9 avi": ("MAGY", ".avi", lambda data: data, "codec-not-allowed"),
    "V9 mov": ("MAGY", ".mov", lambda data: data, "codec-not-allowed"),
    "V9 mkv": ("MAGY", ".mkv", lambda data: data, "codec-not-allowed"),
    "V16 sound": ("MJPG", ".avi", patched(b"strh", 0, "4s", b"auds"), "not-video"),
}
NOTED = {
    "V7 many": (patched(b"strh", 32, "<I", 100_000), [f"{FRAMES} frames decoded, 100000 declared"]),
    "V7 none": (patched(b"strh", 32, "<I", 0), []),
    "V16 rate 0": (patched(b"strh", 20, "<2I", 0, 0), []),
}


@pytest.fixture
def clips(tmp_path, write_clip):
    """Two sound clips below ``raw``, and a way to add others, labelled by turns."""

    def add(name, fourcc="MJPG", suffix=".avi", frames=FRAMES):
        label = "AB"[len(list((tmp_path / "raw").glob("*"))) % 2] if (tmp_path / "raw").exists() else "A"
        rng = np.random.default_rng(list(name.encode()))
        noise = rng.integers(0, 256, (frames, 6, 8, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
        return write_clip(tmp_path / "raw" / f"{name}_{label}{suffix}", noise, fourcc)

    add("good 0")
    add("good 1")
    return add


def changed(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    return path


@pytest.mark.timeout(300)
def test_rows_of_videos_that_are_quarantined(tmp_path, clips):
    wanted = {}
    for name, (data, code) in CONTENTS.items():
        path = clips(name, frames=1)
        path.write_bytes(data)
        wanted[path] = code
    for name, (fourcc, suffix, damage, code) in CLIPS.items():
        wanted[changed(clips(name, fourcc, suffix), damage)] = code
    for name, make in PATHS.items():
        path = clips(name.replace("N36", "V2 V13"), frames=1)
        path.unlink()
        make(path)
        wanted[path] = "not-a-regular-file"
    result = build(tmp_path, "video")
    assert result.exit_code == 3, result.stderr
    assert quarantined(tmp_path) == {path.name: code for path, code in wanted.items()}
    assert {path: told(result.stderr, path) for path in wanted} == {
        path: [code] for path, code in wanted.items()
    }
    assert list(stored(tmp_path)) == ["good 0_A.avi", "good 1_B.avi"]


def test_rows_of_videos_that_are_read(tmp_path, clips):
    wanted = {changed(clips(name), damage).name: notes for name, (damage, notes) in NOTED.items()}
    wanted |= {
        clips(name, frames=frames).name: []
        for name, frames in [("V14", 1), ("V17 v_%02d", 3), ("V17 100%", 3), ("V17 é" + 200 * "x", 3)]
    }
    result = build(tmp_path, "video")
    assert result.exit_code == 0, result.stderr
    found = stored(tmp_path)
    assert {name: [note for note in found[name] if "equal" not in note] for name in wanted} == wanted


def test_a_source_that_is_not_the_pinned_one(tmp_path, clips):
    labels = "{file: labels.csv, id: file, label: class, sha256: hash}"
    paths = [clips("V6 a"), clips("V6 b"), *sorted((tmp_path / "raw").glob("good*"))]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    hashes[-1] = ""  # not pinned
    rows = [f"{path.name},{'AB'[place % 2]},{hashes[place]}" for place, path in enumerate(paths)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,class,hash", *rows]))
    assert build(tmp_path, "video", labels).exit_code == 0
    sound = paths[0].read_bytes()
    paths[0].write_bytes(flipped(sound, len(sound) // 2, 1))
    deep = viptt("check", "--deep", "--catalog", tmp_path / "c.yaml")
    assert (deep.exit_code, told(deep.stderr, paths[0])) == (3, ["hash-mismatch"])
    result = build(tmp_path, "video", labels)
    assert (result.exit_code, told(result.stderr, paths[0])) == (3, ["hash-mismatch"])
    assert paths[0].name not in stored(tmp_path)
    (tmp_path / "labels.csv").write_text("\n".join(["file,class,hash", *rows]).replace(hashes[0], ""))
    assert build(tmp_path, "video", labels).exit_code == 0  # what was refused is tried again
    (tmp_path / "labels.csv").write_text("\n".join(["file,class,hash", *rows]))
    assert "another hash in the labels" in viptt("status", "--catalog", tmp_path / "c.yaml").stdout
    paths[0].write_bytes(sound)
    assert build(tmp_path, "video", labels).exit_code == 0


# --- 3.3 tables, 3.4 catalogs -------------------------------------------------------------------


def check_refused(catalog: Path, where: object, code: str) -> None:
    result = viptt("check", "--catalog", catalog)
    assert result.exit_code == ConfigError.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert [
        line for line in result.stderr.splitlines() if line.startswith(f"{where}") and f": {code}: " in line
    ]
    assert all(" → " in line for line in result.stderr.splitlines())


TABLE = "{file: labels.csv, id: FileName, label: TypeOfTB, group: PatientID}"
TABLES = [name for name in test_samples.WRONG if name.startswith("L")]


@pytest.mark.parametrize("name", TABLES)
def test_rows_of_tables(tmp_path, name):
    table, where, code, _ = test_samples.WRONG[name]
    (tmp_path / "raw").mkdir()
    for file in ("a.nii", "b.nii"):
        (tmp_path / "raw" / file).touch()
    text = CATALOG.format(type="nifti", labels=TABLE).replace("[A, B]", "{1: A, 2: B}")
    (tmp_path / "c.yaml").write_text(text)
    (tmp_path / "labels.csv").write_bytes(table if isinstance(table, bytes) else "\n".join(table).encode())
    check_refused(tmp_path / "c.yaml", tmp_path / where, code)


def test_ids_that_differ_by_letter_case(tmp_path):
    (tmp_path / "raw").mkdir()
    for name in ("x_A.nii", "X_A.nii", "y_B.nii"):
        (tmp_path / "raw" / name).touch()
    (tmp_path / "c.yaml").write_text(CATALOG.format(type="nifti", labels=BY_NAME))
    check_refused(tmp_path / "c.yaml", tmp_path / "raw/X_A.nii", "ambiguous-id")


YAML = [name for name in test_yaml_nodes.REFUSED if name.startswith("Y")]


@pytest.mark.parametrize("name", YAML)
def test_rows_of_yaml(tmp_path, name):
    text, code, place = test_yaml_nodes.REFUSED[name]
    (tmp_path / "c.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    check_refused(tmp_path / "c.yaml", f"{tmp_path / 'c.yaml'}{place}", code)


VALUES = [name for name in test_catalog.REFUSED if name[0] in "YV"]


@pytest.mark.parametrize("name", VALUES)
def test_rows_of_catalogs(tmp_path, name):
    old, new, code, _, _ = test_catalog.REFUSED[name]
    (tmp_path / "c.yaml").write_text(test_catalog.GOOD.replace(old, new, 1))
    check_refused(tmp_path / "c.yaml", f"{tmp_path / 'c.yaml'}:", code)


@pytest.mark.parametrize(
    ("path", "store", "code"),
    [
        ("missing", "rows.zarr", "no-folder"),
        ("c.yaml", "rows.zarr", "no-folder"),
        ("raw", "raw", "store-in-sources"),
        ("raw", "raw/rows.zarr", "store-in-sources"),
        ("raw", ".", "sources-in-store"),
    ],
)
def test_folders(tmp_path, scans, path, store, code):
    text = CATALOG.format(type="nifti", labels=BY_NAME)
    (tmp_path / "c.yaml").write_text(text.replace("path: raw", f"path: {path}").replace("rows.zarr", store))
    check_refused(tmp_path / "c.yaml", tmp_path, code)
