"""Every bit of a store and of a split file, flipped one after the other: not one goes unseen."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import IntegrityError
from pipeline.split import make_split, read_split, write_split
from pipeline.store import Chunk, Header, Row, Store, open_store, small_names, write_chunk, write_store
from pipeline.store.verify import verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHAPE = (7, 8, 8)  # float16: 900 bytes with the checksum, 7,200 bits
SHOWN = 10


def make_store(folder: Path, shape: tuple[int, int, int] = SHAPE, samples: int = 3) -> Path:
    rows, chunks = [], []
    folder.mkdir(exist_ok=True)
    for index in range(samples):
        chunks.append(folder / f"{index}.chunk")
        volume = np.random.default_rng(index).random(shape).astype(np.float16)
        sha256 = write_chunk(chunks[-1], volume)
        facts = f'{{"shape":[{index},2,3],"warnings":[]}}'
        rows.append(
            Row(f"s{index}", index % 2, f"Ä{index // 2}", f"a/s{index}.nii", f"{index:064}", sha256, facts)
        )
    recipe = {"type": "nifti", "shape": list(shape), "dtype": "float16", "window": [-1000.0, 400.0]}
    header = Header("toy", recipe, ("one", "zwölf"), {"viptt": "0"})
    write_store(folder / "toy.zarr", header, rows, list(map(Chunk, chunks)))
    return folder / "toy.zarr"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(make_store(tmp_path))


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """One bit of a file, the other way round for a while."""
    with path.open("r+b", buffering=0) as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))
    try:
        yield
    finally:
        with path.open("r+b", buffering=0) as file:
            file.seek(bit // 8)
            file.write(bytes([byte]))


def unseen(path: Path, bits: range | list[int], seen: Callable[[], bool]) -> list[int]:
    """The bits whose flip is not seen."""
    silent = []
    for bit in bits:
        with flipped(path, bit):
            if not seen():
                silent.append(bit)
    return silent


def all_bits(path: Path) -> range:
    return range(path.stat().st_size * 8)


def refused(action: Callable[[], object], *words: str) -> bool:
    """Whether it raises IntegrityError with these words; any other error is one of the test."""
    try:
        action()
    except IntegrityError as error:
        return all(word in str(error) for word in words)
    return False


def told(path: Path) -> bool:
    """Whether ``verify`` tells damage, or refuses the store as none of ours."""
    try:
        return bool(verify(path).damaged)
    except IntegrityError:
        return True


READS = [Store.read, lambda store, index: store.read_batch([index])]
as_users_and_trainings_read = pytest.mark.parametrize("read", READS, ids=["read", "read_batch"])


@as_users_and_trainings_read
def test_every_bit_of_three_chunks_is_seen_by_the_reader(store, read):
    flips = 0
    for index, row in enumerate(store.rows):
        chunk = store.chunk(index)
        seen = lambda index=index, row=row: refused(lambda: read(store, index), f"(sample {row.id})")  # noqa: E731
        silent = unseen(chunk, all_bits(chunk), seen)
        assert silent == [], f"{chunk}: {len(silent)} bits, {silent[:SHOWN]}"
        assert store.read(index).shape == SHAPE  # whole again
        flips += len(all_bits(chunk))
    assert flips > 20_000
    print(f"{flips} flips")


def test_every_bit_of_three_chunks_is_seen_by_verify(tmp_path):
    path = make_store(tmp_path / "smaller", (3, 4, 5))
    store = open_store(path)
    for index, row in enumerate(store.rows):
        chunk = store.chunk(index)

        def names_the_sample(row: Row = row) -> bool:
            return [f"(sample {row.id})" in problem.where for problem in verify(path).damaged] == [True]

        silent = unseen(chunk, all_bits(chunk), names_the_sample)
        assert silent == [], f"{chunk}: {len(silent)} bits, {silent[:SHOWN]}"
    assert not told(path)


@as_users_and_trainings_read
def test_a_thousand_bits_of_a_full_size_chunk(tmp_path, seed, read):
    store = open_store(make_store(tmp_path, (70, 224, 224), 1))
    chunk = store.chunk(0)
    bits = random.Random(seed).sample(all_bits(chunk), 1000)
    silent = unseen(chunk, bits, lambda: refused(lambda: read(store, 0), "(sample s0)"))
    assert silent == [], f"seed {seed}: {len(silent)} bits, {silent[:SHOWN]}"
    assert store.read(0).shape == (70, 224, 224)


def test_every_bit_of_every_small_file_is_seen_by_verify(store):
    flips = 0
    for path in [
        store.path / "zarr.json",
        *(store.path / name for name in small_names(store.header.array, store.header.columns)),
    ]:
        silent = unseen(path, all_bits(path), lambda: told(store.path))
        assert silent == [], f"{path}: {len(silent)} bits, {silent[:SHOWN]}"
        flips += len(all_bits(path))
    assert not told(store.path)
    everything = {path for path in store.path.rglob("*") if path.is_file()}
    chunks = {store.chunk(index) for index in range(len(store.rows))}
    assert everything == {
        store.path / "zarr.json",
        *(store.path / name for name in small_names(store.header.array, store.header.columns)),
        *chunks,
    }
    print(f"{flips} flips")


@pytest.mark.parametrize("fractions", [{"train": 0.8, "val": 0.2}, {"train": 0.7, "val": 0.15, "test": 0.15}])
def test_every_bit_of_a_split_file_is_seen(tmp_path, fractions):
    store = open_store(make_store(tmp_path, (1, 2, 2), 30))
    path = tmp_path / "split.json"
    split = make_split(store, fractions=fractions)
    write_split(path, split)
    silent = unseen(path, all_bits(path), lambda: refused(lambda: read_split(path), str(path)))
    data = path.read_bytes()
    places = [data[max(0, bit // 8 - 20) : bit // 8 + 5] for bit in silent]
    assert silent == [], f"{len(silent)} of {8 * len(data)} bits: {places[:SHOWN]}"
    assert read_split(path) == split
    print(f"{8 * len(data)} flips")
