import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from cli import main
from model.checkpoint import Checkpoint
from model.devices import batch_sizes
from model.evaluate import evaluate
from model.loading import load_network
from model.network import small_net
from model.run_folder import read_config
from model.settings import Settings, settings_for
from model.stream import stream
from model.training import class_weights, train
from pipeline.errors import ConfigError, IntegrityError, VipttError
from pipeline.store import Store

MakeStore = Callable[..., Store]
MakeSplit = Callable[..., Path]
ROOT = Path(__file__).parents[2]
SETTINGS = Settings(model="viptt-net-small", epochs=1, learning_rate=0.01)
# Nothing moves: neither the weights nor the means that batch normalisation keeps.
STILL = replace(SETTINGS, learning_rate=1e-12, freeze_backbone=True)


@pytest.fixture
def trained(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
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
def resumed(finished: Any, tmp_path: Path) -> Callable[..., tuple[Path, list[str]]]:
    """Resume a copy of the finished run, or the copy that a test has damaged already."""

    def run(settings: Settings) -> tuple[Path, list[str]]:
        folder, said = tmp_path / "run", list[str]()
        if not folder.exists():
            shutil.copytree(finished.run, folder)
        train(finished.store.path, finished.split, folder, settings, resume=True, say=said.append)
        return folder, said

    return run


def device() -> str:
    return "1 GPU" if tf.config.list_physical_devices("GPU") else "CPU"


def weights_of(run: Path) -> list[np.ndarray]:
    return load_network(run)[1].get_weights()


def history_of(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


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
    assert evaluate(run).scores.accuracy == 1


def test_the_best_weights_are_kept(trained: Callable) -> None:
    run, _ = trained(replace(SETTINGS, epochs=6, learning_rate=1.0, stop_patience=3))
    rows = history_of(run)
    best = min(float(row["val_loss"]) for row in rows)
    config, net = load_network(run)
    net.compile(loss="categorical_crossentropy")
    data = stream(config.data.store, config.data.split, "val", batch_size=2)
    assert net.evaluate(data, verbose=0) == pytest.approx(best, rel=1e-5)


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


@pytest.mark.parametrize(
    ("type_", "freeze", "moves"), [("video", None, False), ("nifti", None, True), ("video", False, True)]
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


def test_a_loss_that_is_not_a_number_ends_the_training(trained: Callable) -> None:
    with pytest.raises(VipttError, match="diverged"):
        trained(replace(SETTINGS, learning_rate=1e38, epochs=3))


# --- going on -----------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_killed_in_an_epoch_and_resumed_the_weights_are_the_same_bits(
    trained: Callable, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    settings = replace(SETTINGS, epochs=3, checkpoint_s=0.0, deterministic=True, optimizer=optimizer)
    whole, _ = trained(settings, name="whole")
    calls = iter(range(100))
    real = Checkpoint.on_train_batch_end

    def batch_end(self: object, batch: int, logs: object = None) -> None:
        real(self, batch, logs)
        if next(calls) == 7:  # five batches to an epoch: the third of the second
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_batch_end", batch_end)
        with pytest.raises(Killed):
            trained(settings, name="killed")
    run, said = trained(settings, name="killed", resume=True)
    assert said[1] == "resuming at epoch 2, batch 4"
    assert equal(weights_of(whole), weights_of(run))
    columns = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
    histories = [history_of(path) for path in (whole, run)]
    first, second = ([[row[name] for name in columns] for row in history] for history in histories)
    assert first == second


@pytest.mark.slow
def test_a_process_killed_in_an_epoch_goes_on_to_the_same_bits(trained: Callable, tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=4, batch_size=1, checkpoint_s=0.0, deterministic=True)
    whole, _ = trained(settings, name="whole")
    data, killed = read_config(whole).data, tmp_path / "killed"
    code = f"""
from model.settings import Settings
from model.training import train
train({data.store!r}, {data.split!r}, {str(killed)!r}, {settings!r})
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        while process.poll() is None and not (2 <= _batches_done(killed) % 9 <= 4):
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert _batches_done(killed) % 9 > 0
    run, said = trained(settings, name="killed", resume=True)
    assert said[1].startswith("resuming at epoch")
    assert equal(weights_of(whole), weights_of(run))
    assert [row["loss"] for row in history_of(whole)] == [row["loss"] for row in history_of(run)]


def _batches_done(run: Path) -> int:
    """By the checkpoint of a run with nine batches to an epoch; 0 before the second epoch."""
    if not (run / "state.npz").exists():
        return 0
    with np.load(run / "state.npz") as state:
        progress = json.loads(state["arr_0"].tobytes())
    return int(9 * progress["epoch"] + progress["step"]) if progress["epoch"] else 0


@pytest.mark.slow
def test_a_finished_run_can_be_given_more_epochs(trained: Callable) -> None:
    settings = replace(SETTINGS, deterministic=True)
    whole, _ = trained(replace(settings, epochs=3), name="whole")
    trained(replace(settings, epochs=2), name="parts")
    run, said = trained(replace(settings, epochs=3), name="parts", resume=True)
    assert said[1] == "resuming at epoch 3, batch 1"
    assert equal(weights_of(whole), weights_of(run))


@pytest.mark.slow
def test_schedule_and_early_stopping_survive(trained: Callable) -> None:
    settings = replace(STILL, learning_rate=1e-30, plateau_patience=2, stop_patience=4)
    for epochs in (2, 3, 4, 20):
        run, _ = trained(replace(settings, epochs=epochs), resume=epochs > 2)
    rows = history_of(run)
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates, [1e-30, 1e-30, 1e-30, 1e-31, 1e-31], rtol=1e-4)
    _, said = trained(replace(settings, epochs=20), resume=True)
    assert not any(line.startswith("epoch") for line in said)


def test_resuming_with_other_settings_is_refused(resumed: Callable) -> None:
    with pytest.raises(ConfigError, match="other-settings"):
        resumed(replace(SETTINGS, batch_size=1))


def test_resuming_with_another_split_is_refused(
    finished: Any, make_split: MakeSplit, make_store: MakeStore
) -> None:
    store = make_store(name="nifti2")
    with pytest.raises(IntegrityError, match="other-data"):
        train(store.path, make_split(store), finished.run, SETTINGS, resume=True)


def test_resuming_without_a_run_is_refused(trained: Callable) -> None:
    with pytest.raises(ConfigError, match="not-a-run"):
        trained(resume=True)


def test_a_damaged_state_is_refused(finished: Any, resumed: Callable, tmp_path: Path) -> None:
    state = shutil.copytree(finished.run, tmp_path / "run") / "state.npz"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    with pytest.raises(IntegrityError, match="state-damaged"):
        resumed(replace(SETTINGS, epochs=3))


# --- the recipe preset viptt-2021 ---------------------------------------------------------------


def settled(recipe: Mapping[str, object], **given: object) -> dict[str, object]:
    """What differs from the usual settings."""
    usual, found = asdict(Settings()), asdict(settings_for(recipe, **given))
    return {name: value for name, value in found.items() if value != usual[name]}


def test_the_code_of_2021_has_defaults_of_its_own() -> None:
    angles = (0.0, 0.0, -20.0, -10.0, -5.0, 5.0, 10.0, 20.0)
    scans, clips = ({"type": type_, "preset": "viptt-2021"} for type_ in ("nifti", "video"))
    assert settled(scans) == {"angles": angles, "epochs": 1000}
    assert settled(clips) == {"angles": angles, "batch_size": 1}
    assert settled(clips, batch_size=4, epochs=3) == {"angles": angles, "batch_size": 4, "epochs": 3}
    assert settled({"type": "video"}) == settled({"type": "nifti"}) == {}
    usual = Settings()  # section 1.4 of what the notebooks say, and the same for both
    assert (usual.batch_size, usual.stop_patience, usual.plateau_patience) == (2, 8, 5)
    assert (usual.optimizer, usual.learning_rate, usual.epochs) == ("sgd", 0.001, 100)


def test_the_command_line_takes_the_defaults_of_the_stores_recipe(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_store(type_="video", preset="viptt-2021", dtype="uint8", per_class=2)
    split = make_split(store)
    catalog = tmp_path / "data_catalog.yaml"
    catalog.write_text(
        "version: 1\ndatasets: {clips: {type: video, path: ., classes: [Infiltrative, Focal, Tuberculoma], "
        "labels: {regex: '(?P<label>.)'}, recipe: {preset: viptt-2021, shape: [4, 32, 32]}, "
        f"store: {store.path}, split: {{file: {split}}}}}}}\n"
    )
    arguments = ["train", "clips", "--catalog", catalog, "--run", tmp_path / "run", "--epochs", "1"]
    result = CliRunner().invoke(
        main, [*map(str, arguments), "--model", "viptt-net-small", "--weights", "none"]
    )
    assert result.exit_code == 0, result.stderr
    chosen = json.loads((tmp_path / "run/config.json").read_text())["settings"]
    assert (chosen["batch_size"], chosen["epochs"], chosen["angles"][:3]) == (1, 1, [0.0, 0.0, -20.0])


# --- strategies ---------------------------------------------------------------------------------


def test_the_class_weights_are_the_published_ones() -> None:
    labels = [label for label, count in enumerate([335, 180, 81, 80, 56]) for _ in range(count)]
    published = [0.43701493, 0.81333333, 1.80740741, 1.83, 2.61428571]
    np.testing.assert_allclose(class_weights(labels, 5), published, rtol=1e-7)


def test_a_class_that_does_not_occur_weighs_nothing() -> None:
    np.testing.assert_allclose(class_weights([0, 0, 0, 2], 3), [4 / 6, 0, 2])


@pytest.mark.parametrize("strategy", ["pt", "pt+cw", "pt+cw+aug"])
def test_a_network_trained_on_videos_starts_a_training_on_scans(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable, strategy: str, trained: Callable
) -> None:
    videos = make_store(name="videos", type_="video", classes=list("abcde"), per_class=2)
    first = make_run(videos, make_split(videos, name="videos"), name="videos")
    settings = replace(STILL, strategy=strategy, init=str(first))
    run, _ = trained(settings)
    donor, (config, net) = load_network(first)[1], load_network(run)
    assert [layer.name for layer in donor.layers] == [layer.name for layer in net.layers]
    for old, new in zip(donor.layers[:-1], net.layers[:-1], strict=True):
        for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert [layer.output.shape[-1] for layer in (donor.layers[-1], net.layers[-1])] == [5, 3]
    assert config.init_sha256 == (first / "model.weights.h5.sha256").read_text().split()[0]


def test_the_first_loss_is_weighted(
    finished: Any, make_split: MakeSplit, make_store: MakeStore, tmp_path: Path
) -> None:
    losses = {}
    for strategy in ("pt", "pt+cw"):
        settings = replace(STILL, strategy=strategy, init=str(finished.run), batch_size=9)
        store = make_store(name=strategy)
        ids = [row.id for row in store.rows]
        uneven = {"train": [*ids[0::3], *ids[1::3][:2], ids[2]], "val": ids[-2:]}
        uneven["test"] = sorted(set(ids) - {*uneven["train"], *uneven["val"]})
        split = make_split(store, name=strategy, parts=uneven)
        run = train(store.path, split, tmp_path / f"run-{strategy}", settings)
        losses[strategy] = float(history_of(run)[0]["loss"])
        net = load_network(run)[1]
        labels = np.array([0, 0, 0, 0, 1, 1, 2])
        volumes = np.concatenate([x.numpy() for x, _ in stream(store.path, split, "train", batch_size=9)])
        each = -np.log(net.predict(volumes, verbose=0)[np.arange(7), labels])
        weights = {"pt": np.ones(7), "pt+cw": (7 / (3 * np.array([4, 2, 1])))[labels]}[strategy]
        assert losses[strategy] == pytest.approx((each * weights).mean(), rel=1e-5)
    assert losses["pt"] != losses["pt+cw"]


@pytest.mark.parametrize(
    ("strategy", "init", "code"),
    [("pt", None, "no-init"), ("no-pt", "run", "needless-init"), ("pt+aug", "run", "unknown-name")],
)
def test_a_strategy_and_its_start_must_agree(strategy: str, init: str | None, code: str) -> None:
    with pytest.raises(ConfigError, match=code):
        replace(SETTINGS, strategy=strategy, init=init)


def test_a_start_that_is_not_there_is_refused_before_any_work(trained: Callable, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-weights"):
        trained(replace(SETTINGS, strategy="pt", init=str(tmp_path / "none.weights.h5")))
    assert not (tmp_path / "run").exists()


def test_a_start_from_another_network_is_refused(trained: Callable, tmp_path: Path) -> None:
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(IntegrityError, match="other-network"):
        trained(replace(SETTINGS, strategy="pt", init=str(tmp_path / "other.weights.h5")))


@pytest.mark.parametrize(
    "option",
    [
        {"mixed_precision": True},
        pytest.param({"jit_compile": True}, marks=pytest.mark.slow),
        {"remat": True},
    ],
)
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


@pytest.mark.slow
def test_rotations_resume_bit_for_bit(finished: Any, trained: Callable) -> None:
    settings = replace(SETTINGS, strategy="pt+cw+aug", init=str(finished.run), deterministic=True)
    whole, _ = trained(replace(settings, epochs=2), name="whole")
    trained(settings, name="parts")
    run, _ = trained(replace(settings, epochs=2), name="parts", resume=True)
    assert equal(weights_of(whole), weights_of(run))
