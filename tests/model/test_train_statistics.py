"""Mean and deviation of the train part: NumPy's, measured once, of the train part alone."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model import train_statistics as module
from model.stream import Samples, open_samples
from model.train_statistics import measure, train_statistics
from pipeline.errors import IntegrityError
from pipeline.store import Store


@pytest.fixture
def part(make_pictures: Callable, make_split: Callable) -> tuple[Samples, Path]:
    store: Store = make_pictures({"A": "0120", "B": "2210", "C": "111"})
    ids = [row.id for row in store.rows]
    split = make_split(store, parts={"train": ids[2:], "val": ids[:2]})
    return open_samples(store.path, split, "train"), split


@pytest.mark.parametrize("at_once", [1, 4, 64])
def test_they_are_those_of_all_pixels(
    part: tuple[Samples, Path], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(module, "PICTURES_AT_ONCE", at_once)
    samples, _ = part
    pixels = np.stack([samples.store.read(row) for row in range(2, 11)]).astype(np.float64)
    assert measure(samples) == pytest.approx((pixels.mean(), pixels.std()), rel=1e-12)


def test_they_are_measured_once(part: tuple[Samples, Path]) -> None:
    samples, split = part
    said: list[str] = []
    first = train_statistics(samples, split, "sha256:1", frames="all", say=said.append)
    again = train_statistics(samples, split, "sha256:1", frames="all", say=said.append)
    assert first == again == measure(samples)
    assert said == ["measuring mean and deviation of 9 pictures of 'train'"]
    kept = json.loads(split.with_name("split.statistics.json").read_text())
    assert (kept["mean"], kept["deviation"]) == first


@pytest.mark.parametrize("change", ["split", "frames"])
def test_those_of_other_samples_are_not_used(part: tuple[Samples, Path], change: str) -> None:
    samples, split = part
    said: list[str] = []
    train_statistics(samples, split, "sha256:1", frames="all", say=said.append)
    digest, frames = {"split": ("sha256:2", "all"), "frames": ("sha256:1", "selected")}[change]
    train_statistics(samples, split, digest, frames=frames, say=said.append)
    assert len(said) == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"mean": 0.5, "deviation": 0.1}', "notes of mine"])
def test_a_file_of_another_kind_is_kept(part: tuple[Samples, Path], content: str) -> None:
    samples, split = part
    there = split.with_name("split.statistics.json")
    there.write_text(content)
    said: list[str] = []
    assert train_statistics(samples, split, "sha256:1", frames="all", say=said.append) == measure(samples)
    assert there.read_text() == content
    assert "is no file of statistics: kept" in said[1]


def test_a_damaged_picture_is_named(part: tuple[Samples, Path]) -> None:
    samples, _ = part
    file = samples.store.chunk(5)
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(IntegrityError, match=r"sample [AB]/00\d\): chunk-checksum"):
        measure(samples)
