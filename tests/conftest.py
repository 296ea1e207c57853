"""Factories for real files: CT volumes, clips, and small datasets with a catalog."""

import csv
import gzip
import importlib.util
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import nibabel as nib
import numpy as np
import pytest
import yaml
from hypothesis import settings
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import Problem, VipttError

ERROR_LINE = re.compile(r"\S.*?: [a-z0-9-]+: \S.* → \S.*")
SHARED = Path(__file__).resolve().parents[2] / "shared/data"
LPS = np.diag([-1.0, -1.0, 2.0, 1.0])
UCF_REGEX = r"v_(?P<group>(?P<label>[A-Za-z]+)_g\d+)_c\d+\.avi$"
PROCESSES = {"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
FRAMEWORK = {"keras", "tensorflow"}

# A failure tells how to draw the same case again; how long a case takes is no matter of tests.
settings.register_profile("viptt", print_blob=True, deadline=None)
settings.load_profile("viptt")
under_way: list[str] = []  # the unit test that runs now


# --- tiers and seeds ----------------------------------------------------------------------------


def _refuse_what_is_heavy(event: str, arguments: tuple[Any, ...]) -> None:
    if under_way:
        framework = event == "import" and str(arguments[0]).split(".")[0] in FRAMEWORK
        assert event not in PROCESSES, f"a unit test starts a process: {under_way[0]}"
        assert not framework, f"a unit test imports {arguments[0]}: {under_way[0]}"


sys.addaudithook(_refuse_what_is_heavy)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that is marked unit can neither start a process nor import the framework."""
    if item.get_closest_marker("unit"):
        under_way.append(item.nodeid)
    try:
        return (yield)
    finally:
        under_way.clear()


def pytest_report_header() -> str:
    return f"drawn cases: VIPTT_SEED={drawing_seed()}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure of a test that draws its cases tells the seed."""
    report = yield
    if report.failed and "seed" in getattr(item, "fixturenames", ()):
        report.sections.append(("drawn cases", f"VIPTT_SEED={drawing_seed()}"))
    return report


def drawing_seed() -> int:
    """VIPTT_SEED, or 0, so that CI meets the same cases every time."""
    return int(os.environ.get("VIPTT_SEED", "0"))


# --- fixtures -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real files, ``../shared/data`` beside the checkout; skips where it is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"no real files in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def seed() -> int:
    """Of tests that draw their own cases."""
    return drawing_seed()


@pytest.fixture(scope="session")
def write_nifti() -> Callable[..., Path]:
    """``write_nifti(path, array, …)``: stored values (i, j, k) to NIfTI, gzipped for a path in .gz."""
    return _write_nifti


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., Path]:
    """``write_clip(path, frames, …)``: uint8 (frames, rows, columns[, BGR]) to a video file."""
    return _write_clip


@pytest.fixture(scope="session")
def ct_dataset() -> Callable[..., Path]:
    """``ct_dataset(folder, …)``: dataset ``ct``, a few distinct scans with labels; returns the catalog."""
    return _ct_dataset


@pytest.fixture(scope="session")
def video_dataset() -> Callable[..., Path]:
    """``video_dataset(folder, …)``: dataset ``video``, distinct UCF-style clips; returns the catalog."""
    return _video_dataset


@pytest.fixture
def load_example(tmp_path: Path) -> Callable[[str], ModuleType]:
    """``load_example(name)``: the file of this name that CONTRIBUTING.md shows, as a module."""

    def load(name: str) -> ModuleType:
        text = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text("utf-8")
        (code,) = re.findall(rf"<!-- example: {re.escape(name)} -->\n```python\n(.*?)```", text, re.DOTALL)
        path = tmp_path / name
        path.write_text(code, "utf-8")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def refusal() -> Callable[..., tuple[Problem, ...]]:
    """``refusal(error, call)``: the problems that ``call()`` raises, each one line with a remedy."""
    return _refusal


@pytest.fixture(scope="session")
def as_nobody() -> Callable[..., str]:
    """``as_nobody(prepare, call)``: what ``call(folder)`` says to a user without rights there, as text."""
    return _as_nobody


def _as_nobody(prepare: Callable[[Path], object], call: Callable[[Path], object]) -> str:
    """``prepare(folder)`` keeps our rights; ``call`` runs in a process of its own."""
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to others
        folder = Path(name)
        folder.chmod(0o755)
        prepare(folder)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            pid = os.fork()  # Python 3.12 warns of OpenBLAS's threads
        if pid == 0:
            if os.getuid() == 0:
                os.setuid(65534)
            os.write(writing, _said(call, folder).encode("utf-8", "replace"))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read().decode("utf-8")
        os.waitpid(pid, 0)
    return said


def _said(call: Callable[[Path], object], folder: Path) -> str:
    try:
        return repr(call(folder))
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"


def _refusal(error: type[VipttError], call: Callable[[], object]) -> tuple[Problem, ...]:
    with pytest.raises(VipttError) as caught:
        call()
    assert type(caught.value) is error
    lines = str(caught.value).splitlines()
    assert len(lines) == len(caught.value.problems) > 0
    assert [line for line in lines if not ERROR_LINE.fullmatch(line)] == []
    return caught.value.problems


def _write_nifti(
    path: Path,
    array: ArrayLike,
    *,
    affine: NDArray[np.float64] | None = None,
    slope: float | None = None,
    inter: float | None = None,
    dtype: str | np.dtype[Any] | None = None,
    version: int = 1,
    endian: str = "<",
    fields: Mapping[str, Any] | None = None,
) -> Path:
    """``slope``, ``inter`` and ``fields`` go into the header as they are; the stored values stay as given."""
    stored = np.asarray(array, dtype)
    image_class = {1: nib.Nifti1Image, 2: nib.Nifti2Image}[version]
    header = image_class.header_class(endianness=endian)
    image = image_class(stored, LPS if affine is None else affine, header, dtype=stored.dtype)
    data = image.to_bytes()
    size = image.header.sizeof_hdr
    header = image.header_class(data[:size], endianness=endian, check=False)
    scaling = {"scl_slope": slope, "scl_inter": inter}
    for name, value in ({k: v for k, v in scaling.items() if v is not None} | dict(fields or {})).items():
        header[name] = value
    data = header.binaryblock + data[size:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, 6, mtime=0) if path.name.lower().endswith(".gz") else data)
    return path


def _write_clip(path: Path, frames: ArrayLike, fourcc: str = "XVID", fps: float = 25) -> Path:
    images = np.asarray(frames, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (images.shape[2], images.shape[1])
    code = cv2.VideoWriter.fourcc(*fourcc)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, size, isColor=images.ndim == 4)
    assert writer.isOpened(), f"OpenCV cannot write {fourcc} to {path.suffix}"
    for image in images:
        writer.write(image)
    writer.release()
    return path


def _ct_dataset(
    folder: Path,
    *,
    scans: int = 6,
    scans_per_patient: int = 1,
    classes: tuple[str, ...] = ("Infiltrative", "Focal"),
    size: tuple[int, int, int] = (20, 18, 7),
    seed: int = 0,
    recipe: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
) -> Path:
    """Scans TRN_0000.nii.gz … of noise, int16; classes by turns of a patient; paths below ``folder``."""
    rows = []
    for number in range(scans):
        noise = np.random.default_rng([seed, number]).integers(-1200, 1500, size)
        name = f"TRN_{number:04d}.nii.gz"
        _write_nifti(folder / "ct" / name, noise, dtype="int16")
        patient = number // scans_per_patient
        rows.append((name, patient % len(classes) + 1, f"P{patient:03d}"))
    with (folder / "ct" / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("FileName", "TypeOfTB", "PatientID"), *rows])
    entry = {
        "type": "nifti",
        "path": "ct",
        "labels": {"file": "ct/labels.csv", "id": "FileName", "label": "TypeOfTB", "group": "PatientID"},
        "classes": dict(enumerate(classes, start=1)),
        "recipe": {"shape": [5, 16, 16], "window": [-1000, 400], **(recipe or {})},
        "store": "cache/ct.zarr",
        "split": {"file": "splits/ct.json", "seed": 0, **(split or {})},
    }
    return _add_dataset(folder, "ct", entry)


def _video_dataset(
    folder: Path,
    *,
    classes: tuple[str, ...] = ("Rowing", "Mixing"),
    groups: int = 2,
    clips: int = 2,
    frames: int = 8,
    fourcc: str = "MJPG",
    seed: int = 0,
    recipe: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
) -> Path:
    """Clips ucf/CLASS/v_CLASS_g01_c01.avi … of blurred noise, 32 columns, 24 rows; paths below ``folder``."""
    for position, name in enumerate(classes):
        for group in range(1, groups + 1):
            for clip in range(1, clips + 1):
                rng = np.random.default_rng([seed, position, group, clip])
                noise = rng.integers(0, 256, (frames, 24, 32, 3), np.uint8)
                blurred = np.stack([cv2.GaussianBlur(image, (5, 5), 0) for image in noise])
                path = folder / "ucf" / name / f"v_{name}_g{group:02d}_c{clip:02d}.avi"
                _write_clip(path, blurred, fourcc)
    entry = {
        "type": "video",
        "path": "ucf",
        "labels": {"regex": UCF_REGEX},
        "classes": list(classes),
        "recipe": {"shape": [5, 16, 16], **(recipe or {})},
        "store": "cache/video.zarr",
        "split": {"file": "splits/video.json", "seed": 0, **(split or {})},
    }
    return _add_dataset(folder, "video", entry)


def _add_dataset(folder: Path, name: str, entry: Mapping[str, Any]) -> Path:
    """Both factories may fill one catalog."""
    catalog = folder / "data_catalog.yaml"
    document = (
        yaml.safe_load(catalog.read_text("utf-8")) if catalog.exists() else {"version": 1, "datasets": {}}
    )
    document["datasets"][name] = dict(entry)
    catalog.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    return catalog
