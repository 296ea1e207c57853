"""Samples of a store of pictures: single ones, and windows of neighbours."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from model.sampling import order
from model.settings import Settings, Window
from model.stream import Samples, batches, chosen_samples, open_samples, stream
from model.windows import sample_shape, window_starts, windows_of
from pipeline.errors import ConfigError, Problem
from pipeline.store import Row, Store

MakeStore = Callable[..., Store]


def rows_of(signs: str, stack: str = "A") -> list[Row]:
    """A row for each sign: its label; ``_`` leaves a position out."""
    row = Row("", 0, "", "", "", "", "{}", stack=stack)
    return [
        replace(row, id=f"{stack}/{at}", label=int(sign), position=at)
        for at, sign in enumerate(signs)
        if sign != "_"
    ]


@pytest.mark.parametrize(
    ("signs", "window", "starts"),
    [
        ("00000", Window(2, 2, "last"), [0, 2]),
        ("00000", Window(2, 1, "last"), [0, 1, 2, 3]),
        ("00000", Window(5, 5, "last"), [0]),
        ("0000", Window(5, 5, "last"), []),
        ("0000_00000", Window(5, 5, "last"), [4]),
        ("00_000_0", Window(2, 1, "last"), [0, 2, 3]),
        ("001122", Window(2, 2, "same"), [0, 2, 4]),
        ("001122", Window(2, 1, "same"), [0, 2, 4]),
        ("011122", Window(2, 2, "same"), [2, 4]),
        ("012", Window(1, 1, "same"), [0, 1, 2]),
    ],
)
def test_windows_are_runs_of_neighbours(signs: str, window: Window, starts: list[int]) -> None:
    table = rows_of(signs)
    assert list(window_starts(table, range(len(table)), window)) == starts


def test_no_window_reaches_from_one_stack_into_the_next() -> None:
    first, second = rows_of("000", "A"), rows_of("000", "B")
    table = [*first, *(replace(row, position=row.position + 3) for row in second)]
    assert list(window_starts(table, range(6), Window(2, 1, "last"))) == [0, 1, 3, 4]


def test_a_window_has_no_picture_of_another_part() -> None:
    table = rows_of("0000000")
    assert list(window_starts(table, [0, 1, 2, 4, 5, 6], Window(3, 1, "last"))) == [0, 4]
    assert list(window_starts(table, [6, 1, 0, 2], Window(3, 1, "last"))) == [0]


def test_pictures_come_without_depth(make_pictures: MakeStore, make_split: Callable[..., Path]) -> None:
    store = make_pictures({"A": "0120", "B": "21"})
    split = make_split(store, parts={"train": [row.id for row in store.rows], "val": []})
    got = list(stream(store.path, split, "train", batch_size=4))
    assert [tuple(pictures.shape) for pictures, _ in got] == [(4, 16, 16, 1), (2, 16, 16, 1)]
    expected = np.concatenate([store.read(row) for row in range(6)]).astype(np.float32)
    np.testing.assert_array_equal(np.concatenate([pictures for pictures, _ in got])[..., 0], expected)
    assert np.concatenate([labels for _, labels in got]).argmax(axis=1).tolist() == [0, 1, 2, 0, 2, 1]


@pytest.mark.parametrize(("labels", "expected"), [("last", [0, 1, 1]), ("same", [0, 1])])
def test_windows_are_neighbours_in_their_order(
    make_pictures: MakeStore, make_split: Callable[..., Path], labels: str, expected: list[int]
) -> None:
    store = make_pictures({"A": "00001", "B": "1111"})  # windows of three every two: A0, A2; B0
    split = make_split(store, parts={"train": [row.id for row in store.rows], "val": []})
    settings = Settings(window=Window(3, 2, labels))
    ((windows, found),) = stream(store.path, split, "train", batch_size=9, settings=settings)
    assert windows.shape == (len(expected), 3, 16, 16, 1)
    assert found.numpy().argmax(axis=1).tolist() == expected
    first_rows = {"last": [0, 2, 5], "same": [0, 5]}[labels]
    for window, first in zip(windows.numpy(), first_rows, strict=True):
        np.testing.assert_array_equal(
            window[..., 0], np.concatenate([store.read(first + n) for n in range(3)])
        )


def test_the_order_of_windows_is_that_of_their_first_pictures_ids(
    make_pictures: MakeStore, make_split: Callable[..., Path]
) -> None:
    store = make_pictures({"A": "0" * 9, "B": "1" * 9})
    split = make_split(store, parts={"train": [row.id for row in store.rows], "val": []})
    samples = chosen_samples(open_samples(store.path, split, "train"), Settings(window=Window(3, 3)))
    assert samples.ids == ("A/000", "A/003", "A/006", "B/000", "B/003", "B/006")
    expected = [samples.rows[at] for at in order(samples.ids, seed=1, epoch=2)]
    ((windows, _),) = batches(samples, batch_size=6, seed=1, epoch=2)
    found = windows.numpy()[:, 0, 0, 0, 0]
    np.testing.assert_array_equal(found, [store.read(row)[0, 0, 0] for row in expected])


def test_selected_pictures_alone(make_pictures: MakeStore) -> None:
    store = make_pictures({"A": "0aa1", "B": "b2"})
    every = Samples(store, "train", tuple(row.id for row in store.rows), tuple(range(6)))
    chosen = chosen_samples(every, Settings(frames="selected"))
    assert chosen.ids == ("A/000", "A/003", "B/001")
    assert chosen.labels == (0, 1, 2)
    assert chosen_samples(every, Settings()) is every


def test_stacks_that_are_too_short_are_told_and_left_out(make_pictures: MakeStore) -> None:
    store = make_pictures({"A": "0123", "B": "01_23", "C": "000"})
    every = Samples(store, "train", tuple(row.id for row in store.rows), tuple(range(11)))
    for window, without in ((Window(3, 1, "last"), "1 stack: B"), (Window(3, 1), "2 stacks: A, B")):
        said: list[str] = []
        chosen = chosen_samples(every, Settings(window=window), say=said.append)
        assert said == [f"warning: split 'train': no window of 3 pictures in {without}"]
        assert not {"B"} & {sample[0] for sample in chosen.ids}
    said = []
    chosen_samples(every, Settings(window=Window(2, 1, "last")), say=said.append)
    assert said == []


def test_what_cannot_be_had_is_refused(make_pictures: MakeStore, make_store: MakeStore) -> None:
    store = make_pictures({"A": "0123", "B": "bc"})
    short = Samples(store, "train", ("A/000", "A/001", "A/002"), (0, 1, 2))
    with pytest.raises(ConfigError, match="no 5 pictures follow each other; without a gap, 3 do at most"):
        chosen_samples(short, Settings(window=Window(5, 5, "last")))
    with pytest.raises(ConfigError, match="no-windows: no 2 pictures of one label follow"):
        chosen_samples(short, Settings(window=Window(2, 1)))
    with pytest.raises(ConfigError, match="no-windows: no picture of it is selected"):
        chosen_samples(Samples(store, "val", ("B/000",), (4,)), Settings(frames="selected"))
    volumes = make_store()
    with pytest.raises(ConfigError, match="no-pictures"):
        chosen_samples(Samples(volumes, "train", ("S000",), (0,)), Settings(window=Window()))
    with pytest.raises(ConfigError, match="frames: bad-value"):
        Settings(window=Window(), frames="selected")


@dataclass(frozen=True)
class Picture:
    """A picture of a new file; its value tells the source and the position."""

    source: str
    position: int

    @property
    def id(self) -> str:
        return f"{self.source}/{self.position}"

    @property
    def stack(self) -> str:
        return self.source

    @property
    def volume(self) -> np.ndarray:
        return np.full((1, 2, 2), 100 * ord(self.source) + self.position, np.float32)


def test_new_pictures_give_a_window_that_ends_at_each() -> None:
    """Position 4 of A is missing: windows begin anew behind it, and never hold pictures of two sources."""
    pictures = [
        *(Picture("A", position) for position in (0, 1, 2, 3, 5, 6, 7)),
        *(Picture("B", position) for position in range(8, 11)),
    ]
    refused: list[str] = []
    found = list(windows_of(pictures, 3, refuse=lambda source, problem: refused.append(source)))
    assert refused == []
    assert [item.id for item in found] == ["A/2", "A/3", "A/7", "B/10"]
    assert [item.source for item in found] == ["A", "A", "A", "B"]
    for item in found:
        last = 100 * ord(item.source) + item.position
        assert item.volume.shape == (3, 2, 2)
        assert item.volume[:, 0, 0].tolist() == [last - 2, last - 1, last]


def test_a_new_source_without_a_window_is_told_and_the_next_one_follows() -> None:
    pictures = [Picture("A", position) for position in (0, 1, 3, 4)]
    pictures += [Picture("B", position) for position in range(3)]
    refused: list[Problem] = []
    found = list(windows_of(pictures, 3, refuse=lambda source, problem: refused.append(problem)))
    assert [item.id for item in found] == ["B/2"]
    (problem,) = refused
    assert str(problem).startswith("A: no-windows: it has no 3 pictures that follow each other")


def test_the_shape_that_a_network_gets() -> None:
    pictures = {"sample": "picture"}
    assert sample_shape((1, 8, 9, 1), pictures, None) == (8, 9, 1)
    assert sample_shape((1, 8, 9, 1), pictures, Window(length=5)) == (5, 8, 9, 1)
    assert sample_shape((70, 8, 9, 1), {}, None) == (70, 8, 9, 1)
