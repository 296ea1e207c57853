"""Pictures as samples: each slice or frame of a stack, of all types of sources, in shards."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import xarray
import zarr
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from stack_files import BOX, FRAMES, SCANS, SLICES, frames_dataset, noise, slices_dataset, write_picture

from pipeline.build import Options, Summary, build, make_plan
from pipeline.build.repair import repair
from pipeline.catalog import load_catalog
from pipeline.catalog.schema import Dataset
from pipeline.check import check
from pipeline.crop import exclude_exterior
from pipeline.errors import ConfigError, IntegrityError
from pipeline.pictures import picture_values
from pipeline.readers.reading import Picture
from pipeline.recipe import CtRecipe, FramesRecipe, SlicesRecipe, VideoRecipe
from pipeline.sources import list_samples, read_quarantine
from pipeline.split.update import Request, plan_updates, write_update
from pipeline.status import status
from pipeline.store import Store, open_store
from pipeline.store.format import Header
from pipeline.store.verify import verify

SYNC = Options(scheduler="sync")
SHAPE = (1, 12, 16)


def run(dataset: Dataset, **options: Any) -> Summary:
    chosen = replace(SYNC, **options)
    return build(make_plan(dataset, chosen), chosen)


def built(dataset: Dataset) -> Store:
    run(dataset)
    return open_store(dataset.store)


def zoomed(picture: NDArray[Any]) -> NDArray[np.float64]:
    """SciPy's own zoom of one picture to SHAPE."""
    factors = [want / have for want, have in zip(SHAPE[1:], picture.shape, strict=True)]
    result: NDArray[np.float64] = ndimage.zoom(picture.astype(np.float64), factors, order=3, mode="nearest")
    return result


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


# --- four types, two kinds of samples -----------------------------------------------------------


def test_each_slice_of_a_scan_is_a_sample(tmp_path, ct_dataset):
    recipe = {"sample": "picture", "shape": list(SHAPE), "dtype": "float32"}
    catalog = ct_dataset(tmp_path, scans=2, size=(20, 18, 7), recipe=recipe)
    (dataset,) = load_catalog(catalog).datasets.values()
    store = built(dataset)
    assert [row.id for row in store.rows] == [
        f"TRN_000{scan}/{number}" for scan in (0, 1) for number in range(7)
    ]
    assert [row.position for row in store.rows] == 2 * list(range(7))
    scan = np.random.default_rng([0, 1]).integers(-1200, 1500, (20, 18, 7)).clip(-1000, 400)
    # The factory's affine says: i toward the left of the patient's right, j toward anterior to posterior.
    plane = scan[:, :, 3].T
    expected = np.clip((zoomed(plane) + 1000) / 1400, 0, 1)
    np.testing.assert_allclose(store.read(10)[0], expected, atol=2e-5)


def test_each_frame_of_a_clip_is_a_sample(tmp_path, video_dataset):
    recipe = {"sample": "picture", "shape": list(SHAPE), "dtype": "uint8"}
    (dataset,) = load_catalog(video_dataset(tmp_path, recipe=recipe)).datasets.values()
    store = built(dataset)
    assert len(store.rows) == 8 * 8
    assert store.rows[9].id == "v_Mixing_g01_c02/1"
    groups = {f"{name}_g0{number}" for name in ("Rowing", "Mixing") for number in (1, 2)}
    assert {row.group for row in store.rows} == groups
    assert all(row.stack == row.id.rpartition("/")[0] for row in store.rows)


def test_each_frame_of_a_folder_is_a_sample_with_its_own_label(tmp_path):
    store = built(frames_dataset(tmp_path))
    assert len(store.rows) == 4 * FRAMES
    first = store.rows[:FRAMES]
    assert [row.id for row in first] == [f"v0/{number}" for number in range(1, FRAMES + 1)]
    assert [row.label for row in first] == [0] * 5 + [1] * 5
    assert [row.label for row in store.rows[FRAMES : 2 * FRAMES]] == [1] * 5 + [0] * 5
    assert [row.group for row in store.rows] == ["1"] * 20 + ["2"] * 20
    assert first[2].source == "v0/frame-003.png"
    np.testing.assert_allclose(
        store.read(2)[0].astype(float), np.clip(zoomed(noise(0, 3)) / 255, 0, 1), atol=1e-3
    )


def test_each_listed_slice_is_a_sample(tmp_path):
    store = built(slices_dataset(tmp_path))
    assert len(store.rows) == SLICES * sum(SCANS.values())
    assert store.rows[0].id == "CP_1_1_0000"
    assert store.rows[0].stack == "CP_1_1"
    assert store.rows[0].group == "CP_1"
    assert store.rows[0].source == "CP_1_1_0000.png"
    assert store.rows[0].label == 1


@pytest.mark.parametrize("make", [frames_dataset, slices_dataset])
def test_a_whole_stack_of_pictures_is_one_volume(tmp_path, make):
    recipe = {"shape": [3, 12, 16], "dtype": "float32"}
    labels = {}
    if make is frames_dataset:
        labels = {"labels": {"regex": r"v(?P<label>\d)"}, "classes": ["0", "1", "2", "3"], "groups": None}
    dataset = make(tmp_path, sample="stack", recipe=recipe, **labels)
    store = built(dataset)
    assert store.header.shape == (3, 12, 16)
    assert not store.header.pictures
    row = next(row for row in store.rows if row.id in ("v2", "Normal_2_2"))
    count = FRAMES if make is frames_dataset else SLICES
    stack = np.stack(
        [noise(2, number) for number in (range(1, count + 1) if count == FRAMES else range(count))]
    )
    factors = [want / have for want, have in zip((3, 12, 16), stack.shape, strict=True)]
    expected = np.clip(ndimage.zoom(stack.astype(float), factors, order=3, mode="nearest") / 255, 0, 1)
    np.testing.assert_allclose(store.read(store.rows.index(row)), expected, atol=3e-3)


def test_a_stack_of_several_labels_is_no_sample(tmp_path, refusal):
    dataset = frames_dataset(tmp_path, sample="stack", recipe={"shape": [3, 12, 16]})
    problems = refusal(ConfigError, lambda: list_samples(dataset))
    assert {problem.code for problem in problems} == {"mixed-labels"}


def test_real_ultrasound_gives_equal_stores_as_clips_and_as_folders(tmp_path, shared):
    from pipeline.readers import video

    names = ("Reg_northumbria_1009_vid6", "Pneu_northumbria_0409_set1_vid1")
    clips = [shared / f"ultrasound/convex__{name}.avi" for name in names]
    stores = []
    for kind in ("video", "frames"):
        folder = tmp_path / kind
        for clip in clips:
            if kind == "video":
                folder.mkdir(exist_ok=True)
                shutil.copyfile(clip, folder / clip.name)
            else:
                for number, frame in enumerate(video.read(clip).array):
                    write_picture(folder / clip.stem / f"{number}.png", frame)
        entry = {
            "type": kind,
            "sample": "picture",
            "path": kind,
            "labels": {"regex": "(?P<label>Reg|Pneu)"},
            "classes": ["Reg", "Pneu"],
            "recipe": {"shape": [1, 64, 64]},
            "store": f"{kind}.zarr",
            "split": {"file": f"{kind}.json"},
        }
        from stack_files import write_catalog

        stores.append(built(write_catalog(tmp_path, kind, entry)))
    assert [row.id for row in stores[0].rows] == [row.id for row in stores[1].rows]
    assert [row.sha256 for row in stores[0].rows] == [row.sha256 for row in stores[1].rows]


# --- shards -------------------------------------------------------------------------------------


@pytest.fixture
def small_shards(monkeypatch):
    """Seven pictures in a shard."""
    monkeypatch.setattr("pipeline.store.format.SHARD_BYTES", 7 * (12 * 16 * 2 + 4) + 5)


def test_other_programs_read_the_shards(tmp_path, small_shards):
    store = built(frames_dataset(tmp_path))
    array = zarr.open_group(store.path, mode="r")["volume"]
    assert isinstance(array, zarr.Array)
    assert array.shape == (40, *SHAPE)
    assert array.shards == (7, *SHAPE)
    expected = np.stack([store.read(index) for index in range(40)])
    np.testing.assert_array_equal(array[:], expected)
    np.testing.assert_array_equal(store.read_batch([39, 0, 7]), expected[[39, 0, 7]])
    with xarray.open_zarr(store.path, consolidated=False) as dataset:
        np.testing.assert_array_equal(dataset["volume"].values, expected)
        assert dataset["position"].values.tolist() == [row.position for row in store.rows]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store.path / "volume")}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), expected)


@pytest.mark.parametrize(("sample", "depth"), [("picture", 1), ("stack", 2)])
def test_what_was_hashed_is_what_is_decoded(tmp_path, monkeypatch, sample, depth):
    """Small pictures are not read again between the two."""

    def read_again(path):
        raise AssertionError(path)

    monkeypatch.setattr("pipeline.readers.picture_file.read_file", read_again)
    labels = {"regex": "v(?P<label>[01])"}
    how = {"labels": labels, "classes": ["0", "1"], "groups": None, "sample": sample}
    dataset = frames_dataset(tmp_path, videos=2, recipe={"shape": [depth, 12, 16]}, **how)
    assert run(dataset).quarantined == ()


def test_large_pictures_have_a_file_each(tmp_path, monkeypatch):
    together = built(frames_dataset(tmp_path / "together", videos=2))
    monkeypatch.setattr("pipeline.store.format.SHARD_BYTES", 12 * 16 * 2)
    store = built(frames_dataset(tmp_path / "apart", videos=2))
    assert (together.header.per_file > 1, store.header.per_file) == (True, 1)
    assert not verify(store.path).damaged
    for index in range(len(together.rows)):
        np.testing.assert_array_equal(store.read(index), together.read(index))
    # A build that finds all of them again links their files.
    run(frames_dataset(tmp_path / "apart", videos=2))
    assert not verify(store.path).damaged


def test_pictures_lie_in_few_files(tmp_path, small_shards):
    store = built(frames_dataset(tmp_path))
    assert sorted(path.name for path in (store.path / "volume").iterdir()) == [
        *(f"c.{shard}.0.0.0" for shard in range(6)),
        "zarr.json",
    ]


def test_every_bit_of_a_shard_and_its_index_is_seen(tmp_path, small_shards):
    store = built(frames_dataset(tmp_path, videos=2))
    shard = store.chunk(15)
    data = bytearray(shard.read_bytes())
    silent = []
    for bit in range(0, 8 * len(data), 131):
        data[bit // 8] ^= 1 << bit % 8
        shard.write_bytes(data)
        if not verify(store.path).damaged:
            silent.append(bit)
        data[bit // 8] ^= 1 << bit % 8
    shard.write_bytes(data)
    assert silent == []
    assert not verify(store.path).damaged


def flip(shard: Path, place: int) -> None:
    data = bytearray(shard.read_bytes())
    data[place] ^= 4
    shard.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "first picture": lambda shard: flip(shard, 3),
    "checksum": lambda shard: flip(shard, 12 * 16 * 2 + 1),
    "index": lambda shard: flip(shard, -20),
    "cut": lambda shard: os.truncate(shard, 100),
    "gone": lambda shard: shard.unlink(),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
@pytest.mark.parametrize("mend", [run, lambda dataset: repair(dataset, SYNC)], ids=["build", "repair"])
def test_a_damaged_shard_is_found_and_mended(tmp_path, small_shards, damage, mend):
    dataset = frames_dataset(tmp_path)
    store = built(dataset)
    before = tree(store.path)
    DAMAGES[damage](store.chunk(8))
    assert verify(store.path).damaged
    assert verify(store.path, quick=True).damaged or damage in ("first picture", "checksum")
    mend(dataset)
    assert tree(store.path) == before


def test_a_picture_is_proven_before_it_is_given(tmp_path, small_shards):
    store = built(frames_dataset(tmp_path))
    flip(store.chunk(8), 400)  # the second picture of the second shard: row 8
    with pytest.raises(IntegrityError, match=r"sample v0/9"):
        store.read_batch([8])
    assert store.read_batch([7, 9]).shape == (2, *SHAPE)


def test_shards_hold_about_48_megabytes():
    header = Header("d", {"sample": "picture", "shape": [1, 224, 224], "dtype": "float16"}, ("a",), {})
    files = header.with_files()
    assert 16e6 < files.per_file * files.chunk_bytes < 64e6


# --- what is done again -------------------------------------------------------------------------


def test_nothing_to_do_the_second_time(tmp_path, small_shards):
    dataset = frames_dataset(tmp_path)
    run(dataset)
    before = {path: path.stat().st_mtime_ns for path in dataset.store.rglob("*")}
    summary = run(dataset)
    assert (summary.published, summary.converted, summary.reused) == (False, 0, 40)
    assert {path: path.stat().st_mtime_ns for path in dataset.store.rglob("*")} == before
    assert status(dataset).state == "built"


def test_a_changed_frame_costs_its_stack_only(tmp_path, small_shards):
    dataset = frames_dataset(tmp_path)
    first = built(dataset)
    inodes = {path.name: path.stat().st_ino for path in (first.path / "volume").glob("c.*")}
    write_picture(tmp_path / "videos/v3/frame-004.png", noise(99))
    assert "other content: v3" in status(dataset).reasons
    summary = run(dataset)
    assert (summary.converted, summary.reused) == (10, 30)
    again = open_store(dataset.store)
    changed = [a.id for a, b in zip(first.rows, again.rows, strict=True) if a.sha256 != b.sha256]
    assert changed == ["v3/4"]
    # Shards that hold the same pictures in the same places are linked, not copied.
    same = [
        path.name for path in (again.path / "volume").glob("c.*") if path.stat().st_ino == inodes[path.name]
    ]
    assert len(same) == 4


def test_another_label_of_one_frame_converts_nothing(tmp_path):
    dataset = frames_dataset(tmp_path)
    run(dataset)
    (tmp_path / "labels/v0/frame-002.txt").write_text("other", "utf-8")
    assert status(dataset).reasons == ("another label: v0",)
    summary = run(dataset)
    assert (summary.converted, summary.published) == (0, True)
    assert [row.label for row in open_store(dataset.store).rows[:3]] == [0, 1, 0]


def test_a_stack_that_is_gone_is_removed(tmp_path, small_shards):
    dataset = frames_dataset(tmp_path)
    whole = built(dataset)
    shutil.rmtree(tmp_path / "videos/v1")
    shutil.rmtree(tmp_path / "labels/v1")
    run(dataset)
    left = open_store(dataset.store)
    assert [row.sha256 for row in left.rows] == [row.sha256 for row in whole.rows if row.stack != "v1"]
    assert not verify(left.path).damaged


# --- bad pictures -------------------------------------------------------------------------------


def test_a_damaged_picture_costs_only_itself(tmp_path):
    dataset = frames_dataset(tmp_path)
    bad = tmp_path / "videos/v1/frame-005.png"
    bad.write_bytes(bad.read_bytes()[:-30])
    summary = run(dataset)
    (item,) = read_quarantine(dataset.quarantine_file)
    assert (item.source, item.problem.code) == ("v1/frame-005.png", "truncated")
    assert summary.samples == 39
    store = open_store(dataset.store)
    assert [row.position for row in store.rows if row.stack == "v1"] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert not run(dataset).published
    assert len(read_quarantine(dataset.quarantine_file)) == 1
    write_picture(bad, noise(1, 5))
    assert (run(dataset).samples, dataset.quarantine_file.exists()) == (40, False)


def test_a_stack_without_one_good_picture_is_quarantined_once(tmp_path):
    dataset = frames_dataset(tmp_path)
    for picture in (tmp_path / "videos/v2").iterdir():
        picture.write_bytes(b"\x89PNG\r\n\x1a\nno")
    run(dataset)
    (item,) = read_quarantine(dataset.quarantine_file)
    assert (item.source, item.problem.code) == ("v2", "no-frames")


@pytest.mark.parametrize("allowed", [False, True])
def test_a_frame_without_a_label(tmp_path, refusal, allowed):
    dataset = frames_dataset(tmp_path)
    (tmp_path / "labels/v0/frame-001.txt").unlink()
    (tmp_path / "labels/v0/frame-002.txt").write_text("livr", "utf-8")
    if not allowed:
        problems = refusal(ConfigError, lambda: list_samples(dataset))
        assert [problem.code for problem in problems] == ["no-label", "unknown-label"]
        assert "did you mean `liver`" in problems[1].remedy
        return
    assert run(dataset, allow_missing=True).samples == 38
    assert not run(dataset, allow_missing=True).published


def test_a_label_without_a_frame_is_told(tmp_path, refusal):
    dataset = frames_dataset(tmp_path)
    (tmp_path / "videos/v1/frame-003.png").unlink()
    (problem,) = refusal(ConfigError, lambda: list_samples(dataset))
    assert (problem.code, Path(problem.where).name) == ("no-file", "frame-003.txt")
    assert run(dataset, allow_missing=True).samples == 39


def test_a_table_may_name_single_frames(tmp_path):
    lines = ["frame,label,patient"]
    for video in range(4):
        lines += [
            f"v{video}/frame-{number:03d},{('liver', 'other')[number % 2]},P{video}"
            for number in range(1, FRAMES + 1)
        ]
    (tmp_path / "frames.csv").write_text("\n".join(lines) + "\n", "utf-8")
    labels = {"file": "frames.csv", "id": "frame", "label": "label", "group": "patient"}
    store = built(frames_dataset(tmp_path, labels=labels, groups=None))
    assert [row.label for row in store.rows] == 20 * [1, 0]
    assert [row.group for row in store.rows[::FRAMES]] == ["P0", "P1", "P2", "P3"]


def test_listed_slices_that_are_missing_or_whose_boxes_reach_out(tmp_path, refusal):
    dataset = slices_dataset(tmp_path, recipe={"shape": [1, 12, 16], "crop": "box"})
    (tmp_path / "png/CP_1_1_0002.png").unlink()
    (problem,) = refusal(ConfigError, lambda: list_samples(dataset))
    assert problem.code == "no-file"
    lines = (tmp_path / "val.txt").read_text("utf-8").splitlines()
    lines[0] = lines[0].rpartition(" ")[0] + " 25"  # of 24 rows
    (tmp_path / "val.txt").write_text("\n".join(lines) + "\n", "utf-8")
    run(dataset, allow_missing=True)
    codes = {item.source: item.problem.code for item in read_quarantine(dataset.quarantine_file)}
    assert codes == {"CP_1_1_0002.png": "no-file", "Normal_4_4_0000.png": "bad-box"}


def test_a_slice_in_two_lists_is_refused(tmp_path, refusal):
    dataset = slices_dataset(tmp_path)
    with (tmp_path / "val.txt").open("a", encoding="utf-8") as file:
        file.write((tmp_path / "train.txt").read_text("utf-8").splitlines()[3] + "\n")
    (problem,) = refusal(ConfigError, lambda: list_samples(dataset))
    assert problem.code == "list-overlap"
    assert "Normal_0_0_0003.png" in problem.reason


# --- splits -------------------------------------------------------------------------------------


def split_of(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    (update,) = plan_updates([dataset], Request())
    write_update(update)
    return dict(update.split.parts)


def test_pictures_of_a_stack_stay_together(tmp_path):
    dataset = frames_dataset(tmp_path, videos=8, groups=None)
    run(dataset)
    homes = {sample: name for name, ids in split_of(dataset).items() for sample in ids}
    assert len(homes) == 80
    stacks = {
        stack: {homes[sample] for sample in homes if sample.startswith(f"{stack}/")} for stack in ("v0", "v5")
    }
    assert all(len(parts) == 1 for parts in stacks.values())


@pytest.mark.parametrize("sample", ["picture", "stack"])
def test_the_lists_give_the_split(tmp_path, sample):
    shape = [1, 12, 16] if sample == "picture" else [3, 12, 16]
    dataset = slices_dataset(tmp_path, sample=sample, recipe={"shape": shape})
    run(dataset)
    sizes = {name: len(ids) for name, ids in split_of(dataset).items()}
    factor = SLICES if sample == "picture" else 1
    assert sizes == {name: factor * scans for name, scans in SCANS.items()}


def test_a_patient_in_two_lists_is_a_leak(tmp_path):
    dataset = slices_dataset(tmp_path)
    for part in ("train", "val"):
        name = f"NCP_77_{'12'[part == 'val']}_0001.png"
        write_picture(tmp_path / "png" / name, noise(77, len(part)))
        with (tmp_path / f"{part}.txt").open("a", encoding="utf-8") as file:
            file.write(f"{name} 1 0 0 5 5\n")
    (warning,) = list_samples(dataset).warnings  # known before anything is built
    assert warning.code == "group-leak"
    assert "NCP_77" in warning.reason
    run(dataset)
    split_of(dataset)
    (update,) = plan_updates([dataset], Request(check=True))
    assert [problem.code for problem in update.problems] == ["group-leak"]
    assert "NCP_77" in update.problems[0].reason


@pytest.mark.slow
def test_the_real_lists_give_the_published_counts(tmp_path, shared):
    """Files of one line of pixels stand for the 104,009 slices; only their names matter here."""
    lists = {part: shared / f"labels/covidx__{part}_COVIDx_CT-1.txt" for part in ("train", "val", "test")}
    (tmp_path / "png").mkdir()
    pixel = tmp_path / "pixel.png"
    write_picture(pixel, np.zeros((2, 2), np.uint8))
    for file in lists.values():
        for line in file.read_text("utf-8").splitlines():
            (tmp_path / "png" / line.split()[0]).symlink_to(pixel)
    from stack_files import write_catalog

    entry = {
        "type": "slices",
        "path": "png",
        "labels": {part: str(file) for part, file in lists.items()},
        "classes": {0: "Normal", 1: "Pneumonia", 2: "COVID-19"},
        "store": "s.zarr",
        "split": {"file": "s.json", "method": "given"},
    }
    listing = list_samples(write_catalog(tmp_path, "covid", entry))
    counts = np.bincount([label for sample in listing.samples for label in (sample.labels or {}).values()])
    assert counts.tolist() == [27201 + 9107 + 9450, 22061 + 7400 + 7395, 12520 + 4529 + 4346]
    assert listing.warnings == ()


# --- recipes of pictures ------------------------------------------------------------------------


def values_of(values: NDArray[Any], recipe: Any, **facts: Any) -> NDArray[np.float32]:
    return picture_values(Picture("0", 0, values, **facts), recipe)


def test_crops_against_slices_written_out():
    picture = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)
    same = {"dtype": "float32", "sample": "picture"}
    centre = FramesRecipe(crop=(10, 8), shape=(1, 10, 8), **same)
    np.testing.assert_allclose(values_of(picture, centre) * 255, picture[7:17, 12:20], atol=1e-3)
    box = SlicesRecipe(crop="box", shape=(1, 19, 27), **same)
    np.testing.assert_allclose(values_of(picture, box, box=BOX) * 255, picture[2:21, 3:30], atol=1e-3)


def test_the_body_is_cut_out_and_a_black_picture_is_left_whole():
    picture = np.full((60, 80), 20, np.uint8)
    picture[12:50, 15:70] = 200
    recipe = FramesRecipe(crop="body", shape=(1, 30, 40), sample="picture", dtype="float32")
    assert values_of(picture, recipe).min() > 0.5
    assert not values_of(np.zeros((60, 80), np.uint8), recipe).any()


def slice_with_table() -> NDArray[np.uint8]:
    """Air of 55, a body of 200 and a table of 180 below it."""
    picture = np.full((60, 80), 55, np.uint8)
    picture[8:44, 15:70] = 200
    picture[52:55] = 180
    return picture


def test_the_exterior_becomes_air_and_a_picture_without_a_body_is_left_as_it_is():
    same = {"dtype": "float32", "shape": (1, 60, 80), "exterior": "exclude"}
    table, inside = np.s_[52:55, 2:-2], np.s_[12:40, 20:65]
    gray = values_of(slice_with_table(), SlicesRecipe(**same)) * 255
    np.testing.assert_allclose(gray[table], 55, atol=1e-3)
    np.testing.assert_allclose(gray[inside], 200, atol=1e-3)
    # Hounsfield units, whose values inside the body keep their digits.
    hounsfield = slice_with_table() * 6.0 - 1000.25
    scan = values_of(hounsfield, CtRecipe(sample="picture", **same), limits=(-1000, 400)) * 1400 - 1000
    np.testing.assert_allclose(scan[table], 55 * 6 - 1000.25, atol=1400 / 255)
    np.testing.assert_allclose(scan[inside], np.minimum(200 * 6 - 1000.25, 400), atol=0.01)
    assert not values_of(np.zeros((60, 80), np.uint8), SlicesRecipe(**same)).any()


def test_the_exterior_is_excluded_before_the_crop():
    recipe = SlicesRecipe(dtype="float32", shape=(1, 19, 76), exterior="exclude", crop="box")
    values = values_of(slice_with_table(), recipe, box=(2, 41, 78, 60)) * 255
    assert values.max() > 199
    np.testing.assert_allclose(values[5:], 55, atol=1e-3)


def test_slices_of_a_scan_are_built_without_their_exterior(tmp_path):
    recipe = {"shape": [1, 60, 80], "dtype": "uint8", "exterior": "exclude"}
    dataset = slices_dataset(tmp_path, recipe=recipe)
    write_picture(dataset.path / "CP_1_1_0000.png", slice_with_table())
    store = built(dataset)
    assert store.header.recipe["exterior"] == "exclude"
    assert store.rows[0].id == "CP_1_1_0000"
    np.testing.assert_array_equal(store.read(0)[0], exclude_exterior(slice_with_table()))


def test_antialias_is_pillows_to_a_gray_level(seed):
    rng = np.random.default_rng(seed)
    for _ in range(30):
        rows, columns, height, width = rng.integers(3, 90, 4).tolist()
        picture = rng.integers(0, 256, (rows, columns), np.uint8)
        recipe = FramesRecipe(resize="antialias", sample="picture", shape=(1, height, width))
        expected = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
        assert np.abs(values_of(picture, recipe) * 255 - expected).max() <= 1.01


def test_the_window_of_16_bits_and_the_maximum():
    picture = np.array([[100, 300], [500, 1100]], np.uint16)
    recipe = FramesRecipe(window=(100, 900), shape=(1, 2, 2), sample="picture", normalise="max")
    values = values_of(picture, recipe, limits=(100, 900))
    np.testing.assert_allclose(values, [[0, 0.25], [0.5, 1]], atol=1e-6)
    half = values_of(picture // 2, recipe, limits=(100, 900))
    np.testing.assert_allclose(half, [[0, 50 / 450], [150 / 450, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "keys", "word"),
    [
        (FramesRecipe, {"sample": "picture", "shape": (2, 8, 8)}, "a picture's shape"),
        (FramesRecipe, {"crop": "box"}, "only listed slices"),
        (FramesRecipe, {"select": "ssim"}, "needs `sample: picture`"),
        (CtRecipe, {"sample": "picture", "select": "ssim"}, "compares the frames"),
        (VideoRecipe, {"sample": "picture", "frames": "first"}, "needs `sample: stack`"),
        (FramesRecipe, {"sample": "picture", "depth": "even"}, "needs `sample: stack`"),
        (CtRecipe, {"preset": "sononet-2025"}, "type nifti has the presets viptt-2021"),
        (FramesRecipe, {"preset": "sononet-2025", "resize": "siz"}, "stands for"),
        (SlicesRecipe, {"preset": "covidnet-ct-id-2022", "exterior": "exclude"}, "stands for"),
    ],
)
def test_recipes_that_make_no_sense(make, keys, word):
    with pytest.raises(ValueError, match=word):
        make(**keys)


@pytest.mark.parametrize(("depth", "chosen"), [("even", [0, 1, 2]), ("subset", [1, 2, 3])])
def test_a_stack_may_be_a_choice_of_its_slices(tmp_path, depth, chosen):
    recipe = {"shape": [3, 24, 32], "depth": depth, "dtype": "uint8"}
    store = built(slices_dataset(tmp_path, sample="stack", recipe=recipe))
    index = next(index for index, row in enumerate(store.rows) if row.id == "Normal_0_0")
    np.testing.assert_array_equal(store.read(index), np.stack([noise(0, number) for number in chosen]))


# --- selection ----------------------------------------------------------------------------------


def test_a_static_clip_keeps_what_the_rule_says(tmp_path):
    dataset = frames_dataset(tmp_path, recipe={"shape": [1, 12, 16], "select": "ssim"})
    for number in range(1, FRAMES + 1):
        write_picture(tmp_path / f"videos/v0/frame-{number:03d}.png", noise(7))
    store = built(dataset)
    assert len(store.rows) == 40  # all are stored
    assert [row.selected for row in store.rows[:FRAMES]] == [1] + [0] * 9
    column = zarr.open_group(store.path, mode="r")["selected"]
    assert isinstance(column, zarr.Array)
    assert np.asarray(column[:]).tolist() == [row.selected for row in store.rows]


CLIPS = ["Cov_combatting_Image1", "Reg_northumbria_1009_vid6", "Reg_pat1Image_133410"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS)
def test_the_preset_selects_what_the_original_did(tmp_path, shared, name):
    oracle = np.load(shared / f"oracle/ssim_convex__{name}.npz")
    frames = np.load(shared / f"oracle/frames_convex__{name}.npz")["frames_native"]
    top, left = (760 - frames.shape[1]) // 2, (1200 - frames.shape[2]) // 2
    for number, frame in enumerate(frames):
        canvas = np.zeros((760, 1200), np.uint8)
        canvas[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
        write_picture(tmp_path / f"videos/a/{number:04d}.png", canvas)
    write_picture(tmp_path / "videos/b/0.png", noise(1, rows=760, columns=1200))
    labels = {"regex": "(?P<label>[ab])"}
    recipe = {"preset": "sononet-2025"}
    store = built(
        frames_dataset(tmp_path, videos=0, labels=labels, groups=None, classes=["a", "b"], recipe=recipe)
    )
    selected = [row.position for row in store.rows if row.stack == "a" and row.selected]
    assert selected == oracle["pad_orig_kept"].tolist()


def test_the_presets_pictures_are_the_originals(tmp_path, shared):
    oracle = np.load(shared / "oracle/reader.npz")
    for number, frame in enumerate(oracle["frames_rgb"]):
        write_picture(tmp_path / f"videos/a/{number}.png", np.ascontiguousarray(frame[..., ::-1]))
    write_picture(tmp_path / "videos/b/0.png", noise(1))
    labels = {"regex": "(?P<label>[ab])"}
    recipe = {"preset": "sononet-2025"}
    store = built(
        frames_dataset(tmp_path, videos=0, labels=labels, groups=None, classes=["a", "b"], recipe=recipe)
    )
    np.testing.assert_allclose(store.read(0)[0], oracle["expected_2d"][0], atol=1e-6)


# --- check --------------------------------------------------------------------------------------


def test_check_counts_pictures_of_each_class(tmp_path):
    inspection = check(frames_dataset(tmp_path), SYNC)
    assert dict(inspection.classes) == {"liver": 20, "other": 20}
    assert check(slices_dataset(tmp_path), SYNC, deep=True).bad == ()


# --- shards that stay open ----------------------------------------------------------------------


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_shards_stay_open_as_long_as_their_store(tmp_path, small_shards):
    store = built(frames_dataset(tmp_path))
    before = descriptors()
    for _ in range(3):
        store.read_batch(list(range(40)))
    assert descriptors() == before + 6
    del store
    assert descriptors() == before


def test_more_shards_than_may_stay_open_are_read_all_the_same(tmp_path, small_shards, monkeypatch):
    store = built(frames_dataset(tmp_path))
    expected = np.stack([store.read(index) for index in range(40)])
    monkeypatch.setattr("pipeline.store.open_shards.MOST", 2)
    before = descriptors()
    np.testing.assert_array_equal(store.read_batch(list(range(40))), expected)
    assert descriptors() == before + 2


def test_a_store_that_is_rebuilt_meanwhile_is_never_mixed(tmp_path, small_shards):
    dataset = frames_dataset(tmp_path)
    store = built(dataset)
    old = store.read_batch(list(range(14)))  # its first two shards are open now
    for picture in (tmp_path / "videos").rglob("*.png"):
        write_picture(picture, noise(5, int(picture.stem[-3:]), int(picture.parent.name[1])))
    run(dataset)
    np.testing.assert_array_equal(store.read_batch(list(range(14))), old)
    with pytest.raises(IntegrityError, match="rebuilt"):
        store.read_batch([20])
