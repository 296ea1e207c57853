"""A training, whole: what it leaves, what it trains on, what it refuses, on what devices."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from runs import SETTINGS, STILL, equal, history_of, weights_of

from model.devices import batch_sizes
from model.evaluate import evaluate
from model.loading import load_network
from model.network import small_net
from model.stream import stream
from model.training import train
from pipeline.errors import ConfigError, IntegrityError, VipttError
from pipeline.store import Store

MakeStore = Callable[..., Store]
MakeSplit = Callable[..., Path]
ROOT = Path(__file__).parents[2]


def device() -> str:
    return "1 GPU" if tf.config.list_physical_devices("GPU") else "CPU"


# --- what a run is ------------------------------------------------------------------------------


def test_a_run_explains_itself(finished: Any) -> None:
    run, said = finished.run, finished.said
    names = {path.name for path in run.iterdir()}
    weights = {"model.weights.h5", "model.weights.h5.sha256"}
    assert names == {"config.json", "history.csv", "state.npz", "tensorboard", *weights}
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["batch_size"] == 2
    assert config["data"]["classes"] == ["Infiltrative", "Focal", "Tuberculoma"]
    assert config["data"]["store_digest"].startswith("sha256:")
    assert {"keras", "tensorflow", "python"} <= set(config["versions"])
    rows = history_of(run)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(0 <= float(row["input_wait"]) <= 1 for row in rows)
    assert [line.partition(":")[0] for line in said] == [f"training on {device()}", "epoch 1/2", "epoch 2/2"]
    parameters = small_net((4, 32, 32, 1), 3).count_params()
    assert "9 training and 3 validation samples" in said[0]
    assert f"{parameters:,} parameters" in said[0]
    assert said[0].endswith("5 steps per epoch")
    assert "waited for input" in said[1]


@pytest.mark.slow
def test_it_learns(trained: Callable) -> None:
    settings = replace(
        SETTINGS, epochs=40, stop_patience=40, plateau_patience=40, optimizer="adam", learning_rate=1e-3
    )
    run, _ = trained(settings)
    losses = [float(row["loss"]) for row in history_of(run)]
    assert min(losses) < 0.5 * losses[0]
    assert evaluate(run).scores.accuracy.value == 1


@pytest.mark.slow
def test_the_best_weights_are_kept(trained: Callable) -> None:
    run, _ = trained(replace(SETTINGS, epochs=6, learning_rate=1.0, stop_patience=3))
    rows = history_of(run)
    best = min(float(row["val_loss"]) for row in rows)
    config, net = load_network(run)
    net.compile(loss="categorical_crossentropy")
    data = stream(config.data.store, config.data.split, "val", batch_size=2)
    assert net.evaluate(data, verbose=0) == pytest.approx(best, rel=1e-5)


@pytest.mark.slow
def test_training_stops_where_the_validation_loss_stagnates(trained: Callable) -> None:
    settings = replace(STILL, epochs=30, learning_rate=1e-30, plateau_patience=2, stop_patience=3)
    run, _ = trained(settings)
    rows = history_of(run)
    assert len(rows) == 4  # the first is the best, three more are allowed
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates, [1e-30, 1e-30, 1e-30, 1e-31], rtol=1e-4)


def events_of(run: Path) -> list[dict[str, float]]:
    """What TensorBoard would show, read without what wrote it."""
    files = sorted(map(str, (run / "tensorboard").iterdir()))
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(files)]
    return [
        {"epoch": event.step, **{value.tag: value.simple_value for value in event.summary.value}}
        for event in events
        if event.WhichOneof("what") == "summary"
    ]


@pytest.mark.slow
def test_the_events_for_tensorboard_are_the_history_also_after_resuming(
    finished: Any, resumed: Callable
) -> None:
    run, _ = resumed(replace(SETTINGS, epochs=3))
    events, rows = events_of(run), history_of(run)
    assert [event["epoch"] for event in events] == [1, 2, 3]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"} <= set(events[0])
    for event, row in zip(events, rows, strict=True):
        assert event == pytest.approx({name: float(value) for name, value in row.items()}, rel=1e-6)


# --- what is trained ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("type_", "freeze", "moves"),
    [
        ("video", None, False),
        ("nifti", None, True),
        ("video", False, True),
    ],
)
def test_the_backbone_is_frozen_for_videos_unless_told(
    trained: Callable, type_: str, freeze: bool | None, moves: bool
) -> None:
    run, _ = trained(replace(SETTINGS, freeze_backbone=freeze), type_=type_)
    keras.utils.set_random_seed(SETTINGS.seed)
    before = small_net((4, 32, 32, 1), 3)
    _, after = load_network(run)
    same = equal(before.get_layer("backbone").get_weights(), after.get_layer("backbone").get_weights())
    assert same is not moves
    assert not equal(before.get_layer("head").get_weights(), after.get_layer("head").get_weights())


def test_every_epoch_sees_each_sample_once_in_an_order_of_its_own(
    trained: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = Store.read_batch

    def reading(self: Store, indices: Sequence[int]) -> np.ndarray:
        read.extend(self.rows[index].id for index in indices)
        return real(self, indices)

    monkeypatch.setattr(Store, "read_batch", reading)
    monkeypatch.setattr("model.stream.READERS", 1)
    trained(replace(SETTINGS, epochs=2))
    train_ids = [f"S{n:03d}" for n in range(3, 12)]
    val_ids = ["S000", "S001", "S002"]
    assert len(read) == 2 * 12
    first, second = read[:9], read[12:21]
    assert sorted(first) == sorted(second) == train_ids
    assert first != second
    assert sorted(read[9:12]) == sorted(read[21:]) == val_ids


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [1, 7], ids=["validation", "training"])
def test_a_damaged_volume_stops_training_and_is_named(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path, sample: int
) -> None:
    store = make_store()
    store.chunk(sample).unlink()
    with pytest.raises(IntegrityError, match=rf"sample S00{sample}\): missing-chunk"):
        train(store.path, make_split(store), tmp_path / "run", SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("sample", [1, 7], ids=["validation", "training"])
def test_damage_after_the_first_epoch_stops_training(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path, sample: int
) -> None:
    store = make_store()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if not line.startswith("epoch"):
            return
        chunk = store.chunk(sample)
        payload = bytearray(chunk.read_bytes())
        payload[0] ^= 1
        chunk.write_bytes(payload)

    with pytest.raises(IntegrityError, match=rf"sample S00{sample}\): chunk-checksum"):
        train(store.path, make_split(store), tmp_path / "run", replace(SETTINGS, epochs=3), say=say)
    assert len(said) == 2


def test_a_folder_with_other_things_is_left_alone(trained: Callable, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.docx").write_text("years of work")
    with pytest.raises(ConfigError, match="not-a-run"):
        trained()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.docx"]


def test_a_run_is_not_overwritten(finished: Any) -> None:
    before = (finished.run / "model.weights.h5").read_bytes()
    with pytest.raises(ConfigError, match=r"run-exists: .* → add `--resume`"):
        train(finished.store.path, finished.split, finished.run, replace(SETTINGS, seed=1))
    assert (finished.run / "model.weights.h5").read_bytes() == before


def test_an_empty_validation_part_is_refused_before_any_work(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_store()
    split = make_split(store, parts={"train": [row.id for row in store.rows], "val": []})
    with pytest.raises(ConfigError, match="empty-split"):
        train(store.path, split, tmp_path / "run", SETTINGS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": -1},
        {"learning_rate": float("nan")},
        {"learning_rate": 0.0},
        {"optimizer": "lion"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="--"):
        replace(SETTINGS, **wrong)


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_ends_the_training(trained: Callable) -> None:
    with pytest.raises(VipttError, match="diverged"):
        trained(replace(SETTINGS, learning_rate=1e38, epochs=3))


# --- how it is computed ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("option", [{"mixed_precision": True}, {"jit_compile": True}, {"remat": True}])
def test_it_trains_with(trained: Callable, option: dict[str, bool]) -> None:
    run, _ = trained(replace(SETTINGS, **option))
    assert evaluate(run).scores.samples == 3
    assert keras.config.dtype_policy().name == "float32"


TWO_DEVICES = """
import sys
from dataclasses import replace
from pathlib import Path
import tensorflow as tf
from model import training
from model.settings import Settings

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
one, both = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
store, even, uneven, out = sys.argv[1:]
# A frozen backbone: batch normalisation in training has its own means on each device.
settings = Settings(model="viptt-net-small", learning_rate=0.05, freeze_backbone=True)
for name, strategy in (("one", one), ("both", both)):
    training._devices = lambda job, strategy=strategy: strategy
    for epochs in (1, 2):
        again = replace(settings, epochs=epochs)
        training.train(store, even, Path(out) / name, again, resume=epochs > 1)
still = replace(settings, epochs=1, learning_rate=1e-12, batch_size=4)
training.train(store, uneven, Path(out) / "uneven", still)
"""


@pytest.mark.slow
def test_on_two_devices_it_learns_the_same_and_leaves_none_without_a_sample(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    """In a process of its own: devices are fixed when TensorFlow starts."""
    store = make_store()
    ids = [row.id for row in store.rows]
    even = make_split(store, name="even", parts={"train": ids[:8], "val": ids[8:]})
    uneven = make_split(store, name="uneven", parts={"train": ids[:9], "val": ids[9:]})  # 4 + 5, 3
    call = [sys.executable, "-c", TWO_DEVICES, store.path, even, uneven, tmp_path]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    for a, b in zip(weights_of(tmp_path / "one"), weights_of(tmp_path / "both"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    (row,) = history_of(tmp_path / "uneven")  # nothing moved: its losses are means over all samples
    net = load_network(tmp_path / "uneven")[1]
    net.compile(loss="categorical_crossentropy")
    for part, column in (("train", "loss"), ("val", "val_loss")):
        expected = net.evaluate(stream(store.path, uneven, part, batch_size=1), verbose=0)
        assert float(row[column]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("samples", "size", "devices", "expected"),
    [
        (9, 2, 1, [2, 2, 2, 2, 1]),
        (9, 2, 2, [2, 2, 2, 3]),
        (10, 4, 2, [4, 4, 2]),
        (13, 8, 4, [8, 5]),
        (11, 8, 4, [11]),
        (3, 8, 3, [3]),
    ],
)
def test_each_device_has_a_sample_of_each_batch(
    samples: int, size: int, devices: int, expected: list[int]
) -> None:
    assert batch_sizes(samples, size, devices=devices) == expected
