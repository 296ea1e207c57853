"""Folders of pictures: one stack each, like a clip; damage, gaps, sizes and depths of bits."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.build import Options, build, make_plan, preview
from pipeline.build.convert_files import Arrival, convert_incoming, list_incoming
from pipeline.catalog import load_catalog
from pipeline.catalog.schema import Dataset
from pipeline.convert import convert
from pipeline.errors import ConfigError, SourceError
from pipeline.readers import SOURCE_TYPES, video
from pipeline.readers.picture_file import SUFFIXES, is_whole, read_picture
from pipeline.readers.reading import Source
from pipeline.recipe import FramesRecipe, VideoRecipe
from pipeline.status import status
from pipeline.store import open_store
from pipeline.store.verify import verify

SHAPE = (5, 16, 17)
SYNC = Options(scheduler="sync")
LOSSLESS = (".png", ".bmp", ".tif", ".tiff")


def frames(count: int = 8, *, seed: int = 0, dtype: Any = np.uint8) -> NDArray[Any]:
    """Blurred noise (count, 24, 32), over the whole range of the type."""
    noise = np.random.default_rng(seed).random((count, 24, 32))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2), mode="wrap")
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (smooth * np.iinfo(dtype).max).astype(dtype)


def write_stack(folder: Path, pictures: NDArray[Any], *, suffix: str = ".png", first: int = 1) -> Path:
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures, start=first):
        assert cv2.imwrite(str(folder / f"scan-{number}{suffix}"), picture)
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Four stacks of two classes, labelled and grouped by their path."""
    for position, (label, patient) in enumerate([("a", 1), ("a", 2), ("b", 3), ("b", 4)]):
        write_stack(tmp_path / f"frames/{label}/p{patient}_s{position}", frames(seed=position))
    entry = {
        "type": "frames",
        "path": "frames",
        "labels": {"regex": r"(?P<label>[ab])/(?P<group>p\d+)_s\d+$"},
        "classes": ["a", "b"],
        "recipe": {"shape": list(SHAPE)},
        "store": "cache/frames.zarr",
        "split": {"file": "splits/frames.json"},
    }
    catalog = tmp_path / "data_catalog.yaml"
    catalog.write_text(yaml.safe_dump({"version": 1, "datasets": {"frames": entry}}), "utf-8")
    return load_catalog(catalog).datasets["frames"]


def problem_of(call: Callable[[], object]) -> str:
    with pytest.raises(SourceError) as caught:
        call()
    return str(caught.value.problems[0].code)


def test_a_folder_of_frames_is_converted_as_scipy_would(tmp_path: Path) -> None:
    pictures = frames()
    volume = convert(write_stack(tmp_path / "s", pictures), FramesRecipe(shape=SHAPE, dtype="float32")).volume
    factors = np.divide(SHAPE, pictures.shape)
    expected = ndimage.zoom(pictures.astype(np.float64), factors, order=3, mode="nearest") / 255
    np.testing.assert_allclose(volume, expected.clip(0, 1), atol=1e-5)


def test_frames_are_taken_by_number_not_by_name(tmp_path: Path) -> None:
    """scan-10 comes after scan-9: as names it would come after scan-1."""
    pictures = np.repeat(np.arange(12, dtype=np.uint8)[:, None, None] * 20, 24 * 32, 1).reshape(12, 24, 32)
    volume = convert(write_stack(tmp_path / "s", pictures), FramesRecipe(shape=(12, 24, 32))).volume
    np.testing.assert_allclose(volume[:, 0, 0] * 255, np.arange(12) * 20, atol=0.2)


def test_frames_of_a_real_clip_give_the_clip_s_volume(shared: Path, tmp_path: Path) -> None:
    for clip in ("convex__Pneu_liftl_pneu_case3_clip3.mp4", "convex__Cov-Atlas+(45).gif"):
        path = shared / "ultrasound" / clip
        folder = write_stack(tmp_path / clip, video.read(path).array)
        for choice in ("all", "first", "every 3"):
            expected = convert(path, VideoRecipe(shape=(8, 64, 65), frames=choice)).volume
            found = convert(folder, FramesRecipe(shape=(8, 64, 65), frames=choice)).volume
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_reads_every_suffix(tmp_path: Path, suffix: str) -> None:
    picture = frames(1)[0]
    found = read_picture(write_stack(tmp_path / "s", picture[None], suffix=suffix) / f"scan-1{suffix}")
    if suffix in LOSSLESS:
        np.testing.assert_array_equal(found, picture)
    assert np.abs(found.astype(int) - picture).max() < 40


def test_colours_become_gray_and_alpha_is_left_out(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (24, 32, 4), np.uint8)
    cv2.imwrite(str(tmp_path / "c.png"), colours)
    blue, green, red = (colours[..., channel].astype(float) for channel in range(3))
    gray = 0.299 * red + 0.587 * green + 0.114 * blue
    np.testing.assert_allclose(read_picture(tmp_path / "c.png"), gray, atol=0.51)


def test_sixteen_bits_need_a_window(tmp_path: Path) -> None:
    pictures = frames(dtype=np.uint16)
    folder = write_stack(tmp_path / "s", pictures)
    assert problem_of(lambda: convert(folder, FramesRecipe(shape=SHAPE))) == "unsupported-dtype"
    recipe = FramesRecipe(shape=pictures.shape, window=(10_000.0, 40_000.0), dtype="float32")
    expected = (pictures.astype(float).clip(10_000, 40_000) - 10_000) / 30_000
    np.testing.assert_allclose(convert(folder, recipe).volume, expected, atol=1e-5)


def test_gaps_are_told(tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "s", frames(9))
    for number in (3, 4, 7):
        (folder / f"scan-{number}.png").unlink()
    facts = SOURCE_TYPES["frames"].inspect(Source(folder))
    assert facts["shape"] == [6, 24, 32]
    assert facts["warnings"] == ["3 frame numbers are missing: 3 to 4, 7"]


def test_every_flipped_bit_of_a_png_is_found(tmp_path: Path, seed: int) -> None:
    data = (write_stack(tmp_path / "s", frames(1)) / "scan-1.png").read_bytes()
    assert is_whole(data)
    for place in np.random.default_rng(seed).integers(8, len(data), 300):
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        assert not is_whole(bytes(damaged)), f"byte {place}, seed {seed}"
    assert not any(is_whole(data[:end]) for end in range(8, len(data), 7))


def test_a_jpeg_without_its_end_is_refused(tmp_path: Path) -> None:
    """OpenCV fills the rest with gray, and says nothing."""
    path = write_stack(tmp_path / "s", frames(1), suffix=".jpg") / "scan-1.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    assert problem_of(lambda: read_picture(path)) == "truncated"


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda folder: (folder / "scan-3.png").write_bytes(b""), "empty-file"),
        (lambda folder: (folder / "scan-3.png").write_bytes(b"no picture"), "not-a-picture"),
        (lambda folder: cv2.imwrite(str(folder / "scan-3.png"), frames(1)[0, :20]), "format-change"),
        (
            lambda folder: cv2.imwrite(str(folder / "scan-3.png"), frames(1, dtype=np.uint16)[0]),
            "format-change",
        ),
        (lambda folder: shutil.copy(folder / "scan-3.png", folder / "scan-003.png"), "same-frame"),
        (lambda folder: [file.unlink() for file in folder.iterdir()], "no-frames"),
    ],
)
def test_a_bad_stack_is_refused(tmp_path: Path, damage: Callable[[Path], object], code: str) -> None:
    folder = write_stack(tmp_path / "s", frames())
    damage(folder)
    assert problem_of(lambda: convert(folder, FramesRecipe(shape=SHAPE))) == code


def test_first_needs_enough_frames(tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "s", frames(4))
    assert problem_of(lambda: convert(folder, FramesRecipe(shape=SHAPE, frames="first"))) == "too-short"


def test_the_whole_way_of_a_dataset(dataset: Dataset) -> None:
    summary = build(make_plan(dataset, SYNC), SYNC)
    store = open_store(dataset.store)
    assert [(row.id, row.label, row.group) for row in store.rows] == [
        ("p1_s0", 0, "p1"),
        ("p2_s1", 0, "p2"),
        ("p3_s2", 1, "p3"),
        ("p4_s3", 1, "p4"),
    ]
    assert summary.converted == 4
    assert summary.plan.source_bytes == sum(file.stat().st_size for file in dataset.path.rglob("*.png"))
    assert verify(dataset.store).damaged == ()
    assert status(dataset).state == "built"
    assert not build(make_plan(dataset, SYNC), SYNC).published


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: cv2.imwrite(str(folder / "scan-3.png"), frames(1, seed=9)[0]),
        lambda folder: (folder / "scan-8.png").unlink(),
        lambda folder: (folder / "scan-8.png").rename(folder / "scan-9.png"),
        lambda folder: cv2.imwrite(str(folder / "scan-9.png"), frames(1, seed=9)[0]),
    ],
    ids=["content", "fewer", "name", "more"],
)
def test_a_changed_folder_is_converted_again_alone(
    dataset: Dataset, change: Callable[[Path], object]
) -> None:
    build(make_plan(dataset, SYNC), SYNC)
    change(dataset.path / "a/p1_s0")
    assert status(dataset).reasons == ("other content: a/p1_s0",)
    plan = make_plan(dataset, SYNC)
    found = preview(plan)
    assert (dict(found.convert), found.keep) == ({"other content": 1}, 3)
    summary = build(plan, SYNC)
    assert (summary.converted, summary.reused) == (1, 3)


def test_a_damaged_picture_costs_its_stack_alone(dataset: Dataset) -> None:
    (dataset.path / "b/p4_s3/scan-2.png").write_bytes(b"")
    summary = build(make_plan(dataset, SYNC), SYNC)
    assert [item.problem.code for item in summary.quarantined] == ["empty-file"]
    assert summary.samples == 3


def test_other_files_in_the_folders_decide_nothing(dataset: Dataset) -> None:
    build(make_plan(dataset, SYNC), SYNC)
    (dataset.path / "a/p1_s0/notes.txt").write_text("seen")
    (dataset.path / "loose.png").write_bytes(b"of no stack")
    plan = make_plan(dataset, SYNC)
    assert dict(plan.listing.ignored) == {".png": 1, ".txt": 1}
    assert not build(plan, SYNC).published


def test_the_preset_of_2021_is_not_for_frames(dataset: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "data_catalog.yaml"
    document = yaml.safe_load(file.read_text())
    document["datasets"]["frames"]["recipe"]["preset"] = "viptt-2021"
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError) as caught:
        load_catalog(file)
    assert "recipe.preset" in str(caught.value)


def test_new_folders_are_converted_like_those_of_a_catalog(dataset: Dataset) -> None:
    build(make_plan(dataset, SYNC), SYNC)
    files, bad = list_incoming([dataset.path / "b"], "frames")
    (one,), _ = list_incoming([dataset.path / "a/p1_s0"], "frames")
    assert (bad, [file.id for file in files], one.id) == ((), ["p3_s2", "p4_s3"], "p1_s0")
    store = open_store(dataset.store)
    for index, item in enumerate(convert_incoming((one,), dataset.recipe, SYNC)):
        assert isinstance(item, Arrival)
        np.testing.assert_array_equal(item.volume, store.read(index))
