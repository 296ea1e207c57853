"""Factories for small stores, split files and runs of real bytes."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from runs import SETTINGS

from model.network import small_net
from model.run_folder import Config, create_run, describe
from model.settings import Settings
from model.training import train
from model.weights import save_weights
from pipeline.readers import SOURCE_TYPES
from pipeline.store import Chunk, Header, Row, Store, open_store, write_chunk, write_store

CLASSES = ("Infiltrative", "Focal", "Tuberculoma")
SHAPE = (4, 32, 32)


def volume(label: int, seed: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float32]:
    """Noise around a level that tells the class: learnable, and no two alike."""
    noise = np.random.default_rng(seed).random(shape, dtype=np.float32)
    return (0.2 * noise + 0.3 * label).astype(np.float32)


@pytest.fixture
def volume_of() -> Callable[..., NDArray[np.float32]]:
    """What the store of ``make_store`` holds before rounding: ``volume_of(label, number)``."""
    return volume


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Store]:
    return _stores_in(tmp_path)


def _stores_in(folder: Path) -> Callable[..., Store]:
    def make(
        *,
        name: str = "store",
        per_class: int = 4,
        classes: Sequence[str] = CLASSES,
        dtype: str = "float16",
        type_: str = "nifti",
        preset: str | None = None,
        shape: tuple[int, int, int] = SHAPE,
        seed: int = 0,
        group_of: Callable[[int], str] = lambda index: "",
    ) -> Store:
        labels = {f"S{n:03d}": n % len(classes) for n in range(per_class * len(classes))}
        rows, chunks = [], []
        for index, (sample, label) in enumerate(labels.items()):
            values = volume(label, seed * 1000 + index, shape)
            stored = np.round(values * 255).astype(dtype) if dtype == "uint8" else values.astype(dtype)
            chunks.append(folder / f"{name}-{index}.chunk")
            rows.append(
                Row(
                    sample,
                    label,
                    group_of(index),
                    f"{sample}.nii.gz",
                    f"{index:064}",
                    write_chunk(chunks[-1], stored),
                    "{}",
                )
            )
        free = {"shape": shape, "dtype": dtype} | ({"preset": preset} if preset else {})
        recipe = SOURCE_TYPES[type_].recipe.model_validate(free).as_json()
        tree = folder / f"{name}.zarr"
        write_store(tree, Header(name, recipe, tuple(classes), {}), rows, list(map(Chunk, chunks)))
        return open_store(tree)

    return make


@pytest.fixture
def make_pictures(tmp_path: Path) -> Callable[..., Store]:
    """A store of pictures: ``make_pictures({"A": "0012"})`` has a stack A, with a label for each picture.

    A ``_`` is a position without a picture, a letter a label of a picture that is not selected: a for 0.
    """

    def make(stacks: Mapping[str, str], *, name: str = "pictures", size: int = 16) -> Store:
        rows, chunks = [], []
        for stack, signs in sorted(stacks.items()):
            for position, sign in enumerate(signs):
                if sign == "_":
                    continue
                label = int(sign) if sign.isdigit() else ord(sign) - ord("a")
                picture = volume(label, len(rows), (1, size, size)).astype(np.float16)
                chunks.append(tmp_path / f"{name}-{len(rows)}.chunk")
                sha256, number = write_chunk(chunks[-1], picture), f"{len(rows):064}"
                sample = f"{stack}/{position:03}"
                row = Row(sample, label, "", f"{sample}.png", number, sha256, "{}")
                rows.append(
                    replace(row, group=stack, stack=stack, position=position, selected=int(sign.isdigit()))
                )
        recipe = {"type": "frames", "sample": "picture", "shape": [1, size, size], "dtype": "float16"}
        write_store(tmp_path / f"{name}.zarr", Header(name, recipe, CLASSES, {}), rows, [*map(Chunk, chunks)])
        return open_store(tmp_path / f"{name}.zarr")

    return make


@pytest.fixture
def make_split(tmp_path: Path) -> Callable[..., Path]:
    return _splits_in(tmp_path)


def _splits_in(folder: Path) -> Callable[..., Path]:
    def make(
        store: Store,
        *,
        name: str = "split",
        parts: Mapping[str, Sequence[str]] | None = None,
        **changes: object,
    ) -> Path:
        ids = [row.id for row in store.rows]
        parts = parts or {"train": ids[3:], "val": ids[:3]}
        labels = {row.id: store.header.classes[row.label] for row in store.rows}
        document = {
            "format": 1,
            "dataset": store.header.dataset,
            "store_digest": store.digest,
            "method": "given",
            "seed": 0,
            "fractions": {part: 1 / len(parts) for part in parts},
            "splits": parts,
            "counts": {
                part: Counter(labels.get(sample, "") for sample in ids) for part, ids in parts.items()
            },
        }
        path = folder / f"{name}.json"
        path.write_text(json.dumps({**document, **changes}))
        return path

    return make


@pytest.fixture(autouse=True)
def any_order() -> Iterator[None]:
    """Undo what ``deterministic=True`` switched on for the whole process."""
    yield
    from tensorflow.python.framework import config

    config.disable_op_determinism()


@dataclass(frozen=True)
class Finished:
    """A training of two epochs, and what was said; copy the run before you change it."""

    store: Store
    split: Path
    run: Path
    said: tuple[str, ...]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Trained once, for all tests that only need a run that exists."""
    folder, said = tmp_path_factory.mktemp("finished"), list[str]()
    store = _stores_in(folder)()
    split = _splits_in(folder)(store)
    run = train(store.path, split, folder / "run", replace(SETTINGS, epochs=2), say=said.append)
    return Finished(store, split, run, tuple(said))


@pytest.fixture
def trained(
    make_store: Callable[..., Store], make_split: Callable[..., Path], tmp_path: Path
) -> Callable[..., tuple[Path, list[str]]]:
    """Train on a small store: ``trained(settings, name=…)`` gives the run and what was said."""
    made: dict[str, tuple[Store, Path]] = {}

    def run(
        settings: Settings = SETTINGS, *, name: str = "run", type_: str = "nifti", **options: object
    ) -> tuple[Path, list[str]]:
        if type_ not in made:
            store = make_store(type_=type_, name=type_)
            made[type_] = store, make_split(store, name=f"split-{type_}")
        store, split = made[type_]
        said: list[str] = []
        return train(store.path, split, tmp_path / name, settings, say=said.append, **options), said

    return run


@pytest.fixture
def resumed(finished: Finished, tmp_path: Path) -> Callable[..., tuple[Path, list[str]]]:
    """Resume a copy of the finished run, or the copy that a test has damaged already."""

    def run(settings: Settings) -> tuple[Path, list[str]]:
        folder, said = tmp_path / "run", list[str]()
        if not folder.exists():
            shutil.copytree(finished.run, folder)
        train(finished.store.path, finished.split, folder, settings, resume=True, say=said.append)
        return folder, said

    return run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A run that was never trained: random weights."""

    def make(store: Store, split: Path, *, name: str = "run", **settings: object) -> Path:
        folder = tmp_path / name
        create_run(folder, Config(Settings(model="viptt-net-small", **settings), describe(store, split)))
        net = small_net((*store.header.shape, 1), len(store.header.classes))
        save_weights(net, folder / "model.weights.h5")
        return folder

    return make


@pytest.fixture
def make_catalog(tmp_path: Path) -> Callable[..., Path]:
    """``make_catalog(ct=(store, split_file), …)``: a catalog over stores that are built and split."""

    def make(**datasets: tuple[Store, Path]) -> Path:
        entries = {
            name: {
                "type": store.header.recipe["type"],
                "path": "sources",
                "labels": {"regex": r"(?P<label>\w+)"},
                "classes": list(store.header.classes),
                "recipe": {name: value for name, value in store.header.recipe.items() if name != "type"},
                "store": str(store.path),
                "split": {"file": str(split), "seed": 0},
            }
            for name, (store, split) in datasets.items()
        }
        path = tmp_path / "data_catalog.yaml"
        path.write_text(json.dumps({"version": 1, "datasets": entries}))
        return path

    return make
