"""The generated sources: real files that other libraries read, and classes that differ in their lesions."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.catalog import load_catalog
from pipeline.demo import ACTIONS, TB_TYPES, run_demo, write_demo
from pipeline.errors import ConfigError
from pipeline.sources import list_samples

SCANS = 6


@dataclass(frozen=True)
class Scan:
    """HU (width, height, depth) toward Left, Posterior and Superior, as nibabel reads them; spacing in mm."""

    row: dict[str, str]
    hu: NDArray[np.float32]
    spacing: tuple[float, ...]

    @property
    def tb_type(self) -> str:
        return TB_TYPES[int(self.row["TypeOfTB"]) - 1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of each class, a second one of the first patient, one group of clips per action."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, scans=SCANS, groups=1)
    return folder


@pytest.fixture(scope="module")
def scans(demo: Path) -> list[Scan]:
    with (demo / "ct/labels.csv").open(encoding="utf-8", newline="") as file:
        return [_scan(demo / "ct", row) for row in csv.DictReader(file)]


def _scan(folder: Path, row: dict[str, str]) -> Scan:
    image = nib.as_closest_canonical(nib.squeeze_image(nib.load(folder / row["FileName"])))
    hu = image.get_fdata(dtype=np.float32)[::-1, ::-1]
    return Scan(row, hu, tuple(map(float, image.header.get_zooms())))


def lungs(scan: Scan) -> NDArray[np.bool_]:
    """The two lungs with all that they enclose: filled slice by slice, without the trachea."""
    parts, count = ndimage.label((scan.hu < -400) & _body(scan.hu))
    volumes = ndimage.sum_labels(np.full(parts.shape, np.prod(scan.spacing)), parts, np.arange(count + 1))
    large = np.flatnonzero(volumes > 500_000)
    mask = np.isin(parts, large[large > 0])
    return np.stack([ndimage.binary_fill_holes(plane) for plane in np.moveaxis(mask, -1, 0)], axis=-1)


def _body(hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    skin = np.moveaxis(hu > -400, -1, 0)
    return np.stack([ndimage.binary_fill_holes(plane) for plane in skin], axis=-1)


def figures(scan: Scan) -> dict[str, float]:
    """What a reader would measure: dense parts, large ones among them, the largest, haze, air in cavities."""
    inside = lungs(scan)
    dense = inside & (scan.hu > -300)
    depth = ndimage.distance_transform_edt(dense, sampling=scan.spacing)
    air = inside & (ndimage.uniform_filter(scan.hu, 3) < -940)
    return {
        "parts": ndimage.label(dense)[1],
        "nodules": ndimage.label(depth > 5)[1],
        "radius_mm": float(depth.max()),
        "haze": float(((scan.hu > -700) & (scan.hu < -250))[inside].mean()),
        "cavity_cm3": float(air.sum() * np.prod(scan.spacing) / 1000),
    }


def test_the_catalog_loads_and_every_source_has_a_label(demo: Path) -> None:
    catalog = load_catalog(demo / "data_catalog.yaml")
    listings = {name: list_samples(dataset) for name, dataset in catalog.datasets.items()}

    assert tuple(catalog.datasets["demo_ct"].classes.values()) == TB_TYPES
    assert tuple(catalog.datasets["demo_clips"].classes.values()) == ACTIONS
    assert len(listings["demo_ct"].samples) == SCANS
    assert len(listings["demo_clips"].samples) == len(list(demo.glob("clips/*/*.avi"))) == 2 * len(ACTIONS)
    assert {sample.label for sample in listings["demo_clips"].samples} == set(range(5))


def in_chest(scan: Scan) -> NDArray[np.float32]:
    """HU every 8 mm on a grid about the middle of the scan, the same for every matrix."""
    places = np.mgrid[-96:97:8, -96:97:8, -96:97:8]
    voxels = [
        at / step + (size - 1) / 2 for at, step, size in zip(places, scan.spacing, scan.hu.shape, strict=True)
    ]
    return ndimage.map_coordinates(scan.hu, voxels, order=1)


def test_two_scans_of_a_patient_share_label_and_lesions_but_not_the_matrix(scans: list[Scan]) -> None:
    first, second = scans[0], scans[5]

    assert first.row["PatientID"] == second.row["PatientID"] == "P001"
    assert first.row["TypeOfTB"] == second.row["TypeOfTB"] == "1"
    assert first.spacing != second.spacing
    assert len({scan.row["PatientID"] for scan in scans}) == SCANS - 1
    *others, own = np.corrcoef([in_chest(scan).ravel() for scan in scans])[0, 1:]
    assert own > 0.92 > max(others)


def test_the_scans_are_stored_in_different_ways(demo: Path) -> None:
    images = [nib.load(path) for path in sorted(demo.glob("ct/*.nii.gz"))]
    axes = {"".join(nib.aff2axcodes(image.affine)) for image in images}

    assert {"LPS", "RAS", "LAS", "PIR"} <= axes
    assert {len(image.shape) for image in images} == {3, 4}
    assert {image.get_data_dtype().name for image in images} == {"int16", "uint16"}
    assert {image.dataobj.slope for image in images} == {1.0, 0.5}
    assert all(min(image.shape[:3]) >= 40 and max(image.shape) <= 128 for image in images)


def test_stored_values_are_hounsfield_units_in_the_right_place(scans: list[Scan]) -> None:
    for scan in scans:
        width, height, depth = (size // 2 for size in scan.hu.shape)
        assert scan.hu.min() == pytest.approx(-1024, abs=0.5)
        assert scan.hu[0, 0].max() == -1024
        # Spine toward Posterior, liver below the lungs, trachea above.
        assert scan.hu[width, height:].max() > 200 > scan.hu[width, height // 2 : height].max()
        assert lungs(scan)[..., :3].sum() == 0 < lungs(scan)[..., depth:].sum()
        assert (scan.hu[width, ..., -5:] < -900).sum() > (scan.hu[width, ..., :5] < -900).sum()
    # 56 mm to the left of the spine is the heart, to the right is lung; a lesion may lie in either.
    right, left = np.median([in_chest(scan)[[5, 19], 9, 6] for scan in scans], axis=0)
    assert right < -400 < 0 < left


def test_the_classes_differ_in_their_lesions(scans: list[Scan]) -> None:
    found = {scan.tb_type: figures(scan) for scan in scans}

    def others(figure: str, tb_type: str) -> float:
        return max(values[figure] for name, values in found.items() if name != tb_type)

    assert found["Infiltrative"]["haze"] > 0.3 > 2 * others("haze", "Infiltrative")
    assert found["Miliary"]["parts"] > 900 > 3 * others("parts", "Miliary")
    assert found["Tuberculoma"]["radius_mm"] > 20 > 1.5 * others("radius_mm", "Tuberculoma")
    assert found["Fibro-cavernous"]["cavity_cm3"] > 5 > others("cavity_cm3", "Fibro-cavernous") + 4
    assert found["Focal"]["nodules"] > 2 * max(found["Tuberculoma"]["nodules"], found["Miliary"]["nodules"])


def frames_of(path: Path) -> tuple[NDArray[np.uint8], float]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (step := video.read())[0]:
        frames.append(step[1])
    assert len(frames) == video.get(cv2.CAP_PROP_FRAME_COUNT)
    return np.stack(frames), video.get(cv2.CAP_PROP_FPS)


@pytest.mark.slow
def test_clips_have_the_form_of_ucf50_and_move(demo: Path) -> None:
    for action in ACTIONS:
        first, second = (frames_of(demo / f"clips/{action}/v_{action}_g01_c0{clip}.avi") for clip in (1, 2))
        for frames, rate in (first, second):
            assert frames.shape[1:] == (240, 320, 3)
            assert 40 <= len(frames) <= 110
            assert rate == 25
            assert np.abs(np.diff(frames.astype(np.int16), axis=0)).mean() > 0.3
        scenes = [np.median(frames, axis=0).ravel() for frames, _ in (first, second)]
        assert np.corrcoef(scenes)[0, 1] > 0.8, "one group, one scene"


def test_the_same_seed_gives_the_same_bytes_and_more_scans_change_no_clip(tmp_path: Path, demo: Path) -> None:
    write_demo(tmp_path / "again", scans=1, groups=1)
    write_demo(tmp_path / "other", seed=1, scans=1, groups=0)

    sources = sorted(path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*.*i*"))
    assert len(sources) == 1 + 2 * len(ACTIONS)
    for source in sources:
        assert (tmp_path / "again" / source).read_bytes() == (demo / source).read_bytes()
    scan = "ct/DEMO_0001.nii.gz"
    assert (tmp_path / "other" / scan).read_bytes() != (demo / scan).read_bytes()


@pytest.mark.parametrize("occupied", ["folder", "file"])
def test_a_place_that_is_taken_is_refused(tmp_path: Path, occupied: str, refusal: Any) -> None:
    place = tmp_path / "demo"
    if occupied == "folder":
        place.mkdir()
        (place / "notes.txt").write_text("mine")
    else:
        place.write_text("mine")

    problems = refusal(ConfigError, lambda: write_demo(place))

    assert [problem.code for problem in problems] == ["not-empty"]
    assert not (place / "ct").exists()


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    assert write_demo(tmp_path, scans=0, groups=0) == tmp_path / "data_catalog.yaml"


class Commands:
    """Stands in for `viptt`: notes what it is to run, and gives the exit code 3 at one of the commands."""

    def __init__(self, *, fails: str = "") -> None:
        self.given: list[tuple[str, ...]] = []
        self.fails = fails

    def __call__(self, arguments: Sequence[str]) -> int:
        self.given.append(tuple(arguments))
        return 3 if arguments[0] == self.fails else 0

    @property
    def names(self) -> list[str]:
        return [arguments[0] for arguments in self.given]


def test_the_chain_runs_in_order_on_the_catalog_with_the_seed(tmp_path: Path) -> None:
    viptt, said = Commands(), []

    assert run_demo(tmp_path / "demo", viptt, said.append, seed=7, scans=0, groups=0) == 0

    learn = ["train", "evaluate", "report", "train", "evaluate", "report"]
    assert viptt.names == ["check", "build", "split", "verify", *learn, "report", "report"]
    for given in viptt.given:
        assert given[-2:] == ("--catalog", str(tmp_path / "demo/data_catalog.yaml"))
        if given[0] == "train":
            assert given[given.index("--seed") + 1] == "7"
    assert sum(line.startswith("\n$ viptt ") for line in said) == len(viptt.given)
    assert not any("to open" in line for line in said)


def test_without_training_the_chain_ends_with_the_pages_of_the_stores(tmp_path: Path) -> None:
    viptt = Commands()

    assert run_demo(tmp_path, viptt, print, scans=0, groups=0, training=False) == 0

    assert viptt.names == ["check", "build", "split", "verify", "report", "report"]


def test_a_command_that_fails_ends_the_demo_with_its_code(tmp_path: Path) -> None:
    viptt = Commands(fails="split")

    assert run_demo(tmp_path, viptt, print, scans=0, groups=0) == 3

    assert viptt.names == ["check", "build", "split"]
