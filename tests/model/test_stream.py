import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model.stream import batches, integrity_errors, open_samples, order, scaled, stream, timed
from pipeline.errors import IntegrityError
from pipeline.store import Store

SHAPE = (4, 32, 32)
MakeStore = Callable[..., Store]
MakeSplit = Callable[..., Path]
Volume = Callable[..., np.ndarray]


def labels_of(dataset: tf.data.Dataset) -> list[int]:
    return [int(label) for _, labels in dataset for label in labels.numpy().argmax(axis=1)]


def first_voxels(dataset: tf.data.Dataset) -> list[float]:
    return [float(v) for volumes, _ in dataset for v in volumes.numpy()[:, 0, 0, 0, 0]]


def test_without_a_seed_the_split_file_gives_the_order(
    make_store: MakeStore, make_split: MakeSplit, volume_of: Volume
) -> None:
    store = make_store()
    ids = ["S007", "S000", "S011"]
    split = make_split(store, parts={"train": ids})
    found = first_voxels(stream(store.path, split, "train", batch_size=2))
    expected = [volume_of(int(i[1:]) % 3, int(i[1:])).astype(np.float16)[0, 0, 0] for i in ids]
    assert found == [float(value) for value in expected]


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_batches_are_the_volumes_and_one_hot_labels(
    make_store: MakeStore, make_split: MakeSplit, volume_of: Volume, dtype: str
) -> None:
    store = make_store(dtype=dtype)
    got = list(stream(store.path, make_split(store), "val", batch_size=2))
    assert [tuple(x.shape) for x, _ in got] == [(2, *SHAPE, 1), (1, *SHAPE, 1)]
    assert all(x.dtype == tf.float32 and y.dtype == tf.float32 for x, y in got)
    expected = np.stack([volume_of(n % 3, n) for n in range(3)])[..., np.newaxis]
    tolerance = {"float16": 1e-3, "float32": 0, "uint8": 0.5 / 255 + 1e-6}[dtype]
    np.testing.assert_allclose(np.concatenate([x for x, _ in got]), expected, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(np.concatenate([y for _, y in got]), np.eye(3))


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"type": "nifti", "dtype": "float16"}, 51.0),
        ({"type": "nifti", "dtype": "uint8"}, 0.2),
        ({"type": "nifti", "dtype": "float32", "preset": "viptt-2021"}, 51.0),
        ({"type": "video", "dtype": "uint8", "preset": "viptt-2021"}, 51.0),
        ({"type": "video", "dtype": "float32", "preset": "viptt-2021"}, 13005.0),
    ],
)
def test_what_a_network_gets_for_a_stored_51(recipe, expected):
    assert scaled(np.float32([51]), recipe) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_clips_of_the_code_of_2021_come_as_0_to_255(
    make_store: MakeStore, make_split: MakeSplit, volume_of: Volume, dtype: str
) -> None:
    store = make_store(dtype=dtype, type_="video", preset="viptt-2021")
    (volumes, _), *_ = stream(store.path, make_split(store), "val", batch_size=3)
    assert volumes.dtype == tf.float32
    expected = np.stack([volume_of(n % 3, n) for n in range(3)])[..., np.newaxis] * 255
    if dtype == "uint8":
        np.testing.assert_array_equal(volumes, np.round(expected))
    np.testing.assert_allclose(volumes, expected, atol={"float16": 0.1, "float32": 1e-4, "uint8": 0.5}[dtype])


def test_scans_of_the_code_of_2021_come_as_0_to_1(
    make_store: MakeStore, make_split: MakeSplit, volume_of: Volume
) -> None:
    store = make_store(dtype="float32", preset="viptt-2021")
    (volumes, _), *_ = stream(store.path, make_split(store), "val", batch_size=1)
    np.testing.assert_array_equal(volumes[0, ..., 0], volume_of(0, 0))


@pytest.mark.parametrize("batch_size", [1, 2, 4, 5, 9, 100])
def test_an_epoch_yields_every_sample_once(
    make_store: MakeStore, make_split: MakeSplit, volume_of: Volume, batch_size: int
) -> None:
    store = make_store()
    dataset = stream(store.path, make_split(store), "train", batch_size=batch_size, seed=3, epoch=1)
    expected = sorted(float(np.float16(volume_of(n % 3, n)[0, 0, 0])) for n in range(3, 12))
    assert sorted(first_voxels(dataset)) == expected
    assert len(dataset) == -(-9 // batch_size)


def test_the_order_is_a_function_of_seed_and_epoch(make_store: MakeStore, make_split: MakeSplit) -> None:
    store = make_store()
    split = make_split(store)

    def run(seed: int, epoch: int) -> list[float]:
        return first_voxels(stream(store.path, split, "train", batch_size=2, seed=seed, epoch=epoch))

    assert run(0, 0) == run(0, 0)
    assert len({tuple(run(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6


def test_the_order_is_the_same_on_every_machine_and_for_every_listing() -> None:
    expected = ["b", "e", "d", "c", "a"]  # printf 1:2:a | sha256sum, and so on; sorted
    for ids in ("abcde", "edcba"):
        assert [ids[i] for i in order(ids, seed=1, epoch=2)] == expected


def test_skipped_batches_are_the_first_ones_and_are_not_read(
    make_store: MakeStore, make_split: MakeSplit
) -> None:
    store = make_store()
    part = open_samples(store.path, make_split(store), "train")
    whole = first_voxels(batches(part, batch_size=2, seed=5))
    for position in order(part.ids, seed=5, epoch=0)[:4]:
        store.chunk(part.rows[position]).unlink()
    assert first_voxels(batches(part, batch_size=2, seed=5, skip=2)) == whole[4:]


# --- refusals -----------------------------------------------------------------------------------


def test_a_split_of_another_store_is_refused(make_store: MakeStore, make_split: MakeSplit) -> None:
    split = make_split(make_store(name="other", seed=1))
    with pytest.raises(IntegrityError, match=r"other-store: .* → run `viptt split`"):
        stream(make_store().path, split, "train", batch_size=2)


def test_an_unknown_part_is_refused_and_the_known_ones_named(
    make_store: MakeStore, make_split: MakeSplit
) -> None:
    store = make_store()
    with pytest.raises(IntegrityError, match="no split 'test', only train, val"):
        stream(store.path, make_split(store), "test", batch_size=2)


def test_ids_that_the_store_lacks_are_refused(make_store: MakeStore, make_split: MakeSplit) -> None:
    store = make_store()
    split = make_split(store, parts={"train": ["S000", "S999"]})
    with pytest.raises(IntegrityError, match="S999"):
        stream(store.path, split, "train", batch_size=2)


def consume(
    dataset: tf.data.Dataset, seen: list[float], *, after_the_first: Callable[[], object] = lambda: None
) -> None:
    with integrity_errors():
        for volumes, _ in dataset:
            seen.append(float(volumes.numpy().sum()))
            if len(seen) == 1:
                after_the_first()


def flip_a_bit(chunk: Path) -> None:
    payload = bytearray(chunk.read_bytes())
    payload[len(payload) // 2] ^= 1
    chunk.write_bytes(payload)


def swap_with_another(chunk: Path) -> None:
    shutil.copyfile(chunk.with_name("c.1.0.0.0"), chunk)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing-chunk": Path.unlink,
    "chunk-size": lambda chunk: chunk.write_bytes(chunk.read_bytes()[:-1]),
    "chunk-checksum": flip_a_bit,
    "chunk-swapped": swap_with_another,
}


@pytest.mark.parametrize("code", DAMAGE)
def test_damage_stops_the_stream_and_names_the_sample(
    make_store: MakeStore, make_split: MakeSplit, code: str
) -> None:
    store = make_store()
    split = make_split(store)
    DAMAGE[code](own_copy(store.chunk(7)))
    seen: list[float] = []
    with pytest.raises(IntegrityError, match=rf"sample S007\): {code}: .+ → .+"):
        consume(stream(store.path, split, "train", batch_size=1), seen)
    assert len(seen) == 4  # S003 to S006 come before
    assert all(seen)


def own_copy(chunk: Path) -> Path:
    """Chunks are hard links: leave the other name alone."""
    payload = chunk.read_bytes()
    chunk.unlink()
    chunk.write_bytes(payload)
    return chunk


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("code", DAMAGE)
def test_damage_between_epochs_stops_the_stream_before_the_sample(
    make_store: MakeStore, make_split: MakeSplit, code: str, epoch: int
) -> None:
    store = make_store()
    part = open_samples(store.path, make_split(store), "train")
    for before in range(epoch):
        assert len(first_voxels(batches(part, batch_size=2, seed=1, epoch=before))) == 9
    DAMAGE[code](own_copy(store.chunk(7)))
    place = [part.ids[position] for position in order(part.ids, seed=1, epoch=epoch)].index("S007")
    seen: list[float] = []
    with pytest.raises(IntegrityError, match=rf"sample S007\): {code}: .+ → .+"):
        consume(batches(part, batch_size=1, seed=1, epoch=epoch), seen)
    assert len(seen) == place


@pytest.mark.parametrize("code", DAMAGE)
def test_damage_within_a_later_epoch_is_found(
    make_store: MakeStore, make_split: MakeSplit, code: str
) -> None:
    store = make_store(per_class=20)
    part = open_samples(store.path, make_split(store), "train")
    assert len(first_voxels(batches(part, batch_size=1))) == 57
    seen: list[float] = []
    with pytest.raises(IntegrityError, match=rf"sample S059\): {code}: "):
        consume(
            batches(part, batch_size=1),
            seen,
            after_the_first=lambda: DAMAGE[code](own_copy(store.chunk(59))),
        )
    assert len(seen) == 56
    assert all(seen)


def rebuild(make_store: MakeStore, store: Store, *, moment: str) -> None:
    """Put a store of other volumes in the place of one, as a build does: by two renames."""
    other = make_store(name="other", seed=1)
    store.path.rename(store.path.with_name("old"))
    if moment == "after":
        other.path.rename(store.path)


@pytest.mark.parametrize("moment", ["after", "between"])
def test_a_store_that_is_rebuilt_meanwhile_is_not_called_damaged(
    make_store: MakeStore, make_split: MakeSplit, moment: str
) -> None:
    store = make_store(per_class=20)
    samples = open_samples(store.path, make_split(store), "train")
    seen: list[float] = []
    with pytest.raises(IntegrityError, match=r"store\.zarr: rebuilt: .* → start again"):
        consume(
            batches(samples, batch_size=1),
            seen,
            after_the_first=lambda: rebuild(make_store, store, moment=moment),
        )
    whole = [float(np.float32(store_volume(store, row)).sum()) for row in samples.rows[: len(seen)]]
    np.testing.assert_allclose(seen, whole, rtol=1e-5)  # none of the new store


def store_volume(store: Store, row: int) -> np.ndarray:
    """From where the old store lies now."""
    payload = (store.path.with_name("old") / store.header.file_key(row)).read_bytes()
    return np.frombuffer(payload[:-4], store.header.dtype)


def test_damage_of_an_unchanged_store_is_still_damage(make_store: MakeStore) -> None:
    store = make_store()
    flip_a_bit(own_copy(store.chunk(3)))
    for read in (store.read, lambda index: store.read_batch([index])):
        with pytest.raises(IntegrityError, match="chunk-checksum"):
            read(3)
    shutil.rmtree(store.path)
    with pytest.raises(IntegrityError, match=r"rebuilt: .*or removed"):
        store.read(3)


def test_a_mended_volume_is_read_again(make_store: MakeStore, make_split: MakeSplit) -> None:
    store = make_store()
    part = open_samples(store.path, make_split(store), "train")
    whole = first_voxels(batches(part, batch_size=2))
    good = own_copy(store.chunk(7)).read_bytes()
    flip_a_bit(store.chunk(7))
    with pytest.raises(IntegrityError, match="sample S007"):
        consume(batches(part, batch_size=2), [])
    store.chunk(7).write_bytes(good)
    assert first_voxels(batches(part, batch_size=2)) == whole


def test_an_epoch_that_is_left_early_takes_nothing_from_the_next(
    make_store: MakeStore, make_split: MakeSplit
) -> None:
    store = make_store()
    part = open_samples(store.path, make_split(store), "train")
    whole = first_voxels(batches(part, batch_size=2, seed=1))
    for taken in range(4):
        early = iter(batches(part, batch_size=2, seed=1))
        for _ in range(taken):
            next(early)
        del early
        assert first_voxels(batches(part, batch_size=2, seed=1)) == whole


def test_two_readers_of_one_part_do_not_disturb_each_other(
    make_store: MakeStore, make_split: MakeSplit
) -> None:
    store = make_store()
    part = open_samples(store.path, make_split(store), "train")
    pairs = list(
        zip(batches(part, batch_size=2, seed=1), batches(part, batch_size=2, seed=2, epoch=1), strict=True)
    )
    for side, (seed, epoch) in enumerate([(1, 0), (2, 1)]):
        found = [float(v) for pair in pairs for v in pair[side][0].numpy()[:, 0, 0, 0, 0]]
        alone = stream(store.path, make_split(store), "train", batch_size=2, seed=seed, epoch=epoch)
        assert found == first_voxels(alone)


def test_other_errors_of_tensorflow_pass_through() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError), integrity_errors():
        tf.ensure_shape(tf.zeros((2,)), (3,))


# --- waiting ------------------------------------------------------------------------------------


def waited_share(*, produce_s: float, consume_s: float) -> float:
    def slowly(value: int) -> int:
        time.sleep(produce_s)
        return value

    source = tf.data.Dataset.range(20).map(lambda v: tf.numpy_function(slowly, [v], tf.int64))
    dataset, waited = timed(tf.data.Dataset.zip((source, source)).prefetch(2))
    begun = time.monotonic()
    for _ in dataset:
        time.sleep(consume_s)
    return waited() / (time.monotonic() - begun)


@pytest.mark.slow
def test_waiting_is_told_from_working() -> None:
    """Only the order is asserted, so that a busy machine does not matter."""
    source_is_slow = waited_share(produce_s=0.05, consume_s=0.0)
    both_are_slow = waited_share(produce_s=0.025, consume_s=0.05)
    consumer_is_slow = waited_share(produce_s=0.0, consume_s=0.05)
    assert source_is_slow > 0.5 > consumer_is_slow
    assert source_is_slow > both_are_slow > consumer_is_slow


def test_timing_changes_no_element(make_store: MakeStore, make_split: MakeSplit) -> None:
    store = make_store()
    plain = stream(store.path, make_split(store), "val", batch_size=2)
    measured, waited = timed(plain)
    assert len(measured) == len(plain)
    for (x, y), (u, v) in zip(plain, measured, strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)
    assert waited() > 0
