"""What a store promises to its readers: other programs can open it, and damage is an error."""

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import tensorstore
import xarray
import zarr

from pipeline.errors import IntegrityError
from pipeline.store import (
    Chunk,
    Header,
    Row,
    Store,
    digest_of,
    is_store,
    open_store,
    read_chunk,
    write_chunk,
    write_store,
)
from pipeline.store.open import recover_store
from pipeline.store.verify import verify

pytestmark = pytest.mark.unit

SHAPE = (3, 4, 5)


def volumes(dtype: str) -> np.ndarray:
    values = np.random.default_rng(0).random((4, *SHAPE))
    return (values * 255).astype(dtype) if dtype == "uint8" else values.astype(dtype)


def make_store(folder: Path, dtype: str = "float16") -> Path:
    rows, chunks = [], []
    for index, volume in enumerate(volumes(dtype)):
        chunk = folder / "chunks" / str(index)
        chunk.parent.mkdir(parents=True, exist_ok=True)
        sha256 = write_chunk(chunk, volume)
        source = hashlib.sha256(bytes([index])).hexdigest()
        rows.append(Row(f"s{index}", index % 2, f"p{index}", f"a/s{index}.nii", source, sha256, "{}"))
        chunks.append(chunk)
    header = Header(
        "toy", {"type": "nifti", "shape": list(SHAPE), "dtype": dtype}, ("A", "B"), {"viptt": "0"}
    )
    path = folder / "toy.zarr"
    write_store(path, header, rows, list(map(Chunk, chunks)))
    shutil.rmtree(folder / "chunks")
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_other_programs_read_the_same_values(tmp_path, dtype):
    path, expected = make_store(tmp_path, dtype), volumes(dtype)
    group = zarr.open_group(path, mode="r", zarr_format=3)
    assert group["volume"].metadata.dimension_names == ("sample", "depth", "height", "width")
    np.testing.assert_array_equal(group["volume"][:], expected)
    with xarray.open_zarr(path, consolidated=False) as dataset:
        assert dataset["volume"].dims == ("sample", "depth", "height", "width")
        assert list(dataset["id"].values) == ["s0", "s1", "s2", "s3"]
        assert dataset["label"].values.tolist() == [0, 1, 0, 1]
        np.testing.assert_array_equal(dataset["volume"].values, expected)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / "volume")}}
    array = tensorstore.open(spec).result()
    assert array.domain.labels == ("sample", "depth", "height", "width")
    np.testing.assert_array_equal(array.read().result(), expected)


def test_layout_is_the_contract(store):
    metadata = json.loads((store / "volume/zarr.json").read_text())
    assert metadata["codecs"][-1]["name"] == "crc32c"
    assert metadata["fill_value"] == "NaN"
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [1, *SHAPE]
    viptt = json.loads((store / "zarr.json").read_text())["attributes"]["viptt"]
    assert set(viptt) == {"format", "dataset", "recipe", "classes", "samples", "digest", "created_with"}
    assert (viptt["format"], viptt["samples"], viptt["classes"]) == (1, 4, ["A", "B"])


def test_opens_and_reads(store):
    opened = open_store(store)
    assert isinstance(opened, Store)
    assert [row.id for row in opened.rows] == ["s0", "s1", "s2", "s3"]
    for index, volume in enumerate(volumes("float16")):
        np.testing.assert_array_equal(opened.read(index), volume)
        assert opened.rows[index].sha256 == hashlib.sha256(volume.tobytes()).hexdigest()


def test_digest_covers_recipe_classes_and_rows(store):
    opened = open_store(store)
    recipe, classes, rows = opened.header.recipe, opened.header.classes, opened.rows
    other_row = Row(**{**vars(rows[0]), "label": 1})
    digests = {
        digest_of(recipe, classes, rows),
        digest_of({**recipe, "dtype": "float32"}, classes, rows),
        digest_of(recipe, classes[::-1], rows),
        digest_of(recipe, classes, rows[1:]),
        digest_of(recipe, classes, (other_row, *rows[1:])),
    }
    assert len(digests) == 5
    assert opened.digest in digests


def test_moved_store_works(store, tmp_path):
    moved = store.rename(tmp_path / "elsewhere.zarr")
    assert open_store(moved).read(3).shape == SHAPE


# --- damage -------------------------------------------------------------------------------------


def read_all(store: Path) -> None:
    opened = open_store(store)
    for index in range(len(opened.rows)):
        opened.read(index)


def test_every_flipped_bit_of_a_chunk_is_found(store):
    opened = open_store(store)
    chunk = opened.chunk(1)
    good = chunk.read_bytes()
    for bit in range(len(good) * 8):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        chunk.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="sample s1"):
            opened.read(1)


@pytest.mark.slow
def test_every_flipped_bit_of_the_root_is_found(store):
    size = (store / "zarr.json").stat().st_size
    for _ in flips(store / "zarr.json", 0, 8 * size):
        with pytest.raises(IntegrityError):
            open_store(store)


SMALL_FILES = ["volume/zarr.json"] + [
    f"{column}/{name}"
    for column in ("id", "label", "group", "source", "source_sha256", "sha256", "facts")
    for name in ("zarr.json", "c/0")
]
SMALL_FILES.append("id/viptt.json")


@pytest.mark.parametrize("name", SMALL_FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "extend", "remove", "folder"])
def test_damage_of_a_small_file_is_found(store, name, damage):
    path = store / name
    good = path.read_bytes()
    if damage in ("remove", "folder"):
        path.unlink()
    if damage == "folder":
        path.mkdir()
    if damage in ("flip", "cut", "extend"):
        flipped = bytes([good[0] ^ 1]) + good[1:]
        path.write_bytes({"flip": flipped, "cut": good[:-1], "extend": good + b"\n"}[damage])
    with pytest.raises(IntegrityError, match=name.split("/")[0]):
        open_store(store)


def damage_missing(chunk: Path, other: Path) -> None:
    chunk.unlink()


def damage_cut(chunk: Path, other: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-1])


def damage_empty(chunk: Path, other: Path) -> None:
    chunk.write_bytes(b"")


def damage_longer(chunk: Path, other: Path) -> None:
    chunk.write_bytes(chunk.read_bytes() + b"\0")


def damage_swapped(chunk: Path, other: Path) -> None:
    shutil.copyfile(other, chunk)


def damage_folder(chunk: Path, other: Path) -> None:
    chunk.unlink()
    chunk.mkdir()


def damage_parent_is_a_file(chunk: Path, other: Path) -> None:
    shutil.rmtree(chunk.parent)
    chunk.parent.write_bytes(b"")


def damage_dangling_link(chunk: Path, other: Path) -> None:
    chunk.unlink()
    chunk.symlink_to("nowhere")


def damage_all_chunks_gone(chunk: Path, other: Path) -> None:
    for file in chunk.parent.glob("c.*"):
        file.unlink()


DAMAGES = {
    damage_missing: "missing-chunk",
    damage_cut: "chunk-size",
    damage_empty: "chunk-size",
    damage_longer: "chunk-size",
    damage_swapped: "chunk-swapped",
    damage_folder: "missing-chunk",
    damage_parent_is_a_file: "missing-chunk",
    damage_dangling_link: "missing-chunk",
    damage_all_chunks_gone: "missing-chunk",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_of_a_chunk_names_the_sample(store, damage):
    opened = open_store(store)
    damage(opened.chunk(2), opened.chunk(0))
    with pytest.raises(IntegrityError) as caught:
        opened.read(2)
    assert caught.value.problems[0].code == DAMAGES[damage]
    assert "sample s2" in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_chunk_with_a_right_checksum_and_another_hash_is_refused(tmp_path):
    sha256 = write_chunk(tmp_path / "a", np.zeros(SHAPE, np.float16))
    write_chunk(tmp_path / "a", np.ones(SHAPE, np.float16))
    with pytest.raises(IntegrityError, match="chunk-swapped"):
        read_chunk(Chunk(tmp_path / "a"), 2 * 3 * 4 * 5, sha256, name="x")


# --- reading as a training does -----------------------------------------------------------------


@pytest.fixture
def opened(store: Path) -> Store:
    return open_store(store)


@contextmanager
def changed(chunk: Path, pattern: int, bit: int = 0) -> Iterator[None]:
    """The bits of a chunk, counted from the lowest of its first byte, changed by ``pattern << bit``."""
    good = chunk.read_bytes()
    chunk.write_bytes((int.from_bytes(good, "little") ^ pattern << bit).to_bytes(len(good), "little"))
    yield
    chunk.write_bytes(good)


def refuses(store: Store, index: int) -> bool:
    try:
        store.read_batch([index])
    except IntegrityError as error:
        return f"(sample s{index})" in str(error)
    return False


def test_a_batch_holds_the_volumes_asked_for(opened):
    expected = volumes("float16")
    np.testing.assert_array_equal(
        opened.read_batch([0, 3, 3, 1]), np.stack([expected[n] for n in (0, 3, 3, 1)])
    )
    assert opened.read_batch([]).shape == (0, *expected[0].shape)
    with ThreadPoolExecutor(4) as pool:
        for index, batch in zip(
            [0, 1, 2, 3] * 20, pool.map(lambda n: opened.read_batch([n]), [0, 1, 2, 3] * 20), strict=True
        ):
            np.testing.assert_array_equal(batch[0], expected[index])


def test_checksums_are_those_of_the_volumes(opened):
    assert opened.checksums == tuple(google_crc32c.value(volume.tobytes()) for volume in volumes("float16"))


def test_every_flipped_bit_is_found_in_a_batch(opened):
    chunk = opened.chunk(1)
    for bit in range(chunk.stat().st_size * 8):
        with changed(chunk, 1, bit):
            assert refuses(opened, 1), bit
    np.testing.assert_array_equal(opened.read(1), volumes("float16")[1])


def test_every_burst_of_32_bits_is_found_in_a_batch(opened, seed):
    """Even where the checksum in the file was made to fit: what counts is the one in the table."""
    chunk, rng = opened.chunk(1), random.Random(seed)
    for bit in range((chunk.stat().st_size - 4) * 8 - 31):
        burst = 1 | rng.getrandbits(32)
        with changed(chunk, burst, bit):
            assert refuses(opened, 1), (bit, burst)
            payload = chunk.read_bytes()[:-4]
            chunk.write_bytes(payload + google_crc32c.value(payload).to_bytes(4, "little"))
            assert refuses(opened, 1), (bit, burst)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_in_a_batch_names_the_sample(opened, damage):
    damage(opened.chunk(2), opened.chunk(0))
    with pytest.raises(IntegrityError, match=r"\(sample s2\)") as caught:
        opened.read_batch([2])
    assert caught.value.problems[0].code == DAMAGES[damage]


def test_what_only_sha256_can_find(opened):
    """The generator of CRC-32C, 33 bits long, changes no checksum."""
    generator = int(f"{0x11EDC6F41:033b}"[::-1], 2)
    with changed(opened.chunk(1), generator, 100):
        assert not refuses(opened, 1)
        with pytest.raises(IntegrityError, match="chunk-swapped"):
            opened.read(1)


# --- what is left of a damaged store ------------------------------------------------------------


def flips(path: Path, seed: int, count: int) -> Iterator[int]:
    """Some bits of a file, one after the other the other way round."""
    good = path.read_bytes()
    for bit in random.Random(seed).sample(range(8 * len(good)), min(count, 8 * len(good))):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        yield bit
    path.write_bytes(good)


def recovered(store: Path) -> Store | None:
    with pytest.raises(IntegrityError) as caught:
        open_store(store)
    return recover_store(store, caught.value.problems)


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_somebody_elses(path: Path) -> None:
    path.write_text('{"zarr_format": 3, "node_type": "group", "attributes": {"by": "somebody"}}')


ROOT_DAMAGES = [remove, empty, become_a_folder, become_somebody_elses]


@pytest.mark.parametrize("damage", ROOT_DAMAGES)
def test_a_store_without_a_sound_root_is_damaged_and_can_be_recovered(store, damage):
    before = open_store(store)
    damage(store / "zarr.json")
    assert is_store(store)
    assert verify(store).damaged[0].code in ("metadata-missing", "metadata-damaged")
    left = recovered(store)
    assert left is not None
    assert (left.header, left.rows, left.digest) == (before.header, before.rows, before.digest)
    assert [problem.code for problem in left.damage] == [verify(store).damaged[0].code]


def test_whichever_bit_of_the_root_is_flipped_it_is_a_damaged_store(store, seed):
    before = open_store(store)
    for bit in flips(store / "zarr.json", seed, 500):
        assert is_store(store), bit
        assert [problem.code for problem in verify(store).damaged] == ["metadata-damaged"], bit
    for bit in flips(store / "zarr.json", seed + 1, 30):
        left = recovered(store)
        assert left is not None, bit
        assert (left.header, left.rows) == (before.header, before.rows), bit


@pytest.mark.parametrize("name", ["id/viptt.json", "volume/zarr.json", "crc32c/c/0", "crc32c/zarr.json"])
def test_the_table_is_proven_without_the_files_that_do_not_hold_it(store, seed, name):
    before = open_store(store)
    for bit in flips(store / name, seed, 50):
        left = recovered(store)
        assert left is not None, bit
        assert (left.header, left.rows) == (before.header, before.rows)
    (store / name).unlink()
    assert recovered(store) is not None


def test_a_damaged_table_is_never_believed(store):
    (store / "label/c/0").write_bytes((store / "group/c/0").read_bytes())
    assert recovered(store) is None


def test_a_store_with_neither_root_nor_copy_is_known_by_its_arrays(store):
    for name in ("zarr.json", "id/viptt.json"):
        (store / name).unlink()
    assert is_store(store)
    assert verify(store).damaged[0].code == "metadata-missing"
    assert recovered(store) is None


def test_a_store_of_version_0_1_which_has_no_copy_is_read(store):
    document = json.loads((store / "zarr.json").read_text())
    integrity = document["attributes"]["viptt_integrity"]
    del integrity["files"]["id/viptt.json"], integrity["document"]
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    integrity["document"] = hashlib.sha256(canonical.encode()).hexdigest()
    (store / "zarr.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    (store / "id/viptt.json").unlink()
    assert len(open_store(store).rows) == 4
    assert (verify(store).damaged, verify(store).unexpected) == ((), ())


# --- what is not a store ------------------------------------------------------------------------


def test_a_folder_without_a_store_is_refused(tmp_path):
    (tmp_path / "empty.zarr/volume").mkdir(parents=True)
    assert not is_store(tmp_path / "empty.zarr")
    with pytest.raises(IntegrityError, match="not-built: there is no finished store"):
        open_store(tmp_path / "empty.zarr")


def test_nothing_is_refused(tmp_path):
    with pytest.raises(IntegrityError, match="not-built: there is nothing"):
        open_store(tmp_path / "nothing.zarr")


def test_foreign_group_is_refused(tmp_path):
    zarr.create_group(tmp_path / "foreign.zarr", attributes={"by": "somebody"})
    assert not is_store(tmp_path / "foreign.zarr")
    with pytest.raises(IntegrityError, match="foreign-store"):
        open_store(tmp_path / "foreign.zarr")


def test_other_format_is_refused(store):
    document = json.loads((store / "zarr.json").read_text())
    document["attributes"]["viptt"]["format"] = 2
    (store / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="metadata-damaged"):
        open_store(store)  # the copy still says format 1, so that this is damage
    (store / "id/viptt.json").unlink()
    with pytest.raises(IntegrityError, match="store-format: format 2; this version reads format 1"):
        open_store(store)


def test_grown_shape_is_refused(store):
    """Zarr alone would read the added samples as fill values."""
    metadata = json.loads((store / "volume/zarr.json").read_text())
    metadata["shape"][0] += 1
    (store / "volume/zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(IntegrityError, match="metadata-damaged"):
        read_all(store)


def test_a_store_of_volumes_is_what_it_was_before_there_were_features(store):
    """The digest of this very store by the code of format 1 as it was first published."""
    digest = "sha256:62d1efe309774eefa33fb447b167fb7340523e8cf4330064f0c856616c6dcb88"
    assert open_store(store).digest == digest
    chunks = {path.relative_to(store).as_posix() for path in store.glob("volume/c.*") if path.is_file()}
    assert chunks == {f"volume/c.{index}.0.0.0" for index in range(4)}
