"""Generated ultrasound and slices: trees that the readers take, and classes told apart as promised."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats

from pipeline.catalog import load_catalog
from pipeline.covidx import parse_list, patient_and_scan
from pipeline.demo import MOTION, run_demo, write_slices_demo, write_ultrasound_demo
from pipeline.demo.ultrasound import CENTRES, COMPLETE, PLANES
from pipeline.frames_tree import parse_exams, parse_infos
from pipeline.sources import list_samples

PATIENTS = 5


def gray(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (64, 64)
    return np.asarray(picture, np.uint8)


# --- ultrasound ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ultrasound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ultrasound")
    write_ultrasound_demo(folder, patients=PATIENTS)
    return folder


def segments(demo: Path) -> dict[str, list[list[NDArray[np.uint8]]]]:
    """The frames of each segment, by class."""
    found: defaultdict[str, list[list[NDArray[np.uint8]]]] = defaultdict(list)
    for texts in sorted((demo / "ultrasound/labels").iterdir()):
        frames: defaultdict[str, list[NDArray[np.uint8]]] = defaultdict(list)
        for text in sorted(texts.iterdir()):
            picture = demo / "ultrasound/videos" / texts.name / f"{text.stem}.png"
            frames[text.read_text()].append(gray(picture))
        for plane, pictures in frames.items():
            found[plane].append(pictures)
    return found


def vessel(frame: NDArray[np.uint8]) -> tuple[float, float]:
    """Column of the middle, and number of pixels, of what is dark inside of the fan."""
    smooth = ndimage.gaussian_filter(frame.astype(float), 1.5)
    down, across = np.mgrid[:64, :64]
    inside = np.abs(across - 32) < 8 + 0.45 * down
    dark = (smooth < 60) & inside
    return float(across[dark].mean()), float(dark.sum())


def test_the_tree_is_read_with_its_patients_and_labels(ultrasound: Path) -> None:
    (dataset,) = load_catalog(ultrasound / "data_catalog.yaml").datasets.values()
    listing = list_samples(dataset)
    videos = len(CENTRES) * (PATIENTS * COMPLETE - 2)
    assert len(listing.samples) == videos
    assert not listing.warnings
    assert not listing.quarantined
    counts = Counter(sample.group for sample in listing.samples)
    assert sorted(counts.values()) == [3, 3, *[5] * 2 * (PATIENTS - 1)]
    labels = {label for sample in listing.samples for label in (sample.labels or {}).values()}
    assert labels == set(range(len(PLANES)))
    exams = parse_infos((ultrasound / "ultrasound/train-infos.csv").read_text(), where="infos")
    patients = parse_exams((ultrasound / "ultrasound/exams.json").read_text(), where="exams")
    assert {exam.centre for exam in exams} == set(CENTRES)
    assert {exam.video for exam in exams} == set(patients)


def test_only_motion_tells_left_from_right(ultrasound: Path) -> None:
    found = segments(ultrasound)
    places = {}
    for plane, sign in (("drift-left", -1), ("drift-right", 1)):
        columns = [np.array([vessel(frame)[0] for frame in frames]) for frames in found[plane]]
        slopes = [np.polyfit(range(len(run)), run, 1)[0] for run in columns]
        assert min(sign * slope for slope in slopes) > 0.5, plane
        places[plane] = np.concatenate(columns)
    assert abs(places["drift-left"].mean() - places["drift-right"].mean()) < 2


def test_only_motion_tells_a_pulse_from_rest(ultrasound: Path) -> None:
    found = segments(ultrasound)
    sizes = {
        plane: [np.array([vessel(frame)[1] for frame in frames]) for frames in found[plane]]
        for plane in ("pulsing", "resting")
    }
    spread = {plane: [run.std() / run.mean() for run in runs] for plane, runs in sizes.items()}
    assert min(spread["pulsing"]) > 2 * max(spread["resting"])
    # Of single frames drawn one per segment, sizes have one distribution.
    once = {plane: [run[5] for run in runs] for plane, runs in sizes.items()}
    assert stats.ks_2samp(once["pulsing"], once["resting"]).pvalue > 0.01


def test_files_depend_on_the_seed_alone(tmp_path: Path, ultrasound: Path) -> None:
    write_ultrasound_demo(tmp_path / "again", patients=PATIENTS)
    write_ultrasound_demo(tmp_path / "other", patients=1, seed=1)
    first = min((ultrasound / "ultrasound/videos").rglob("*.png")).relative_to(ultrasound)
    for path in ultrasound.rglob("*.*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(ultrasound)).read_bytes() == path.read_bytes()
    assert (tmp_path / "other" / first).read_bytes() != (ultrasound / first).read_bytes()
    assert set(MOTION) < set(PLANES)


# --- slices -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slices")
    write_slices_demo(folder, patients=6)
    return folder


def test_the_lists_have_covidx_cts_form_and_share_no_patient(slices: Path) -> None:
    patients, files = {}, set()
    for part in ("train", "val", "test"):
        text = (slices / f"slices/{part}_demo.txt").read_text()
        lines = parse_list(text, where=part, classes=3)
        assert {item.label for item in lines} == {0, 1, 2}
        for item in lines:
            assert patient_and_scan(item.file) is not None
            xmin, ymin, xmax, ymax = item.box
            assert 0 <= xmin < xmax <= 64
            assert 0 <= ymin < ymax <= 64
        patients[part] = {(patient_and_scan(item.file) or ("", ""))[0] for item in lines}
        files |= {item.file for item in lines}
    assert sum(map(len, patients.values())) == len(set().union(*patients.values()))
    assert files == {path.name for path in (slices / "slices/images").iterdir()}
    (dataset,) = load_catalog(slices / "data_catalog.yaml").datasets.values()
    assert len(list_samples(dataset).samples) == 18


def test_the_class_is_seen_in_a_slice(slices: Path) -> None:
    """Dense pixels inside of the lungs: none, some in one lung, or faint ones in both."""
    dark: defaultdict[str, list[int]] = defaultdict(list)
    for path in sorted((slices / "slices/images").iterdir()):
        smooth = ndimage.gaussian_filter(gray(path).astype(float), 1)
        halves = [int((part < 45).sum()) for part in (smooth[16:48, 13:27], smooth[16:48, 37:51])]
        dark[path.name.split("_")[0]].append(min(halves))
    normal, pneumonia, covid = (np.array(dark[name]) for name in ("Normal", "CP", "NCP"))
    assert normal.min() > max(pneumonia.max(), covid.max())


# --- the chain ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "trained"), [("ultrasound", ["2d", "3d", "2+1d"]), ("slices", ["slices"])])
def test_each_kind_trains_from_its_files_with_the_seed(tmp_path: Path, kind: str, trained: list[str]) -> None:
    given: list[tuple[str, ...]] = []

    def viptt(arguments: "tuple[str, ...]") -> int:
        given.append(tuple(arguments))
        return 0

    assert run_demo(tmp_path, viptt, print, kind=kind, seed=5, patients=1) == 0  # type: ignore[arg-type]

    trainings = [command for command in given if command[0] == "train"]
    assert [Path(command[command.index("--run") + 1]).name for command in trainings] == trained
    for command in trainings:
        assert Path(command[command.index("--config") + 1]).is_file()
        assert command[command.index("--seed") + 1] == "5"
    evaluated = [Path(command[1]).name for command in given if command[0] == "evaluate"]
    assert evaluated == trained
    assert json.dumps(given).count('"compare"') == (kind == "ultrasound")
