import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from model import train as training
from model.metrics import evaluate
from model.network import small_net
from model.run import Settings, load_network
from model.stream import stream
from model.train import train
from pipeline.errors import ConfigError, IntegrityError, VipttError
from pipeline.store import Store

MakeStore = Callable[..., Store]
MakeSplit = Callable[..., Path]
SETTINGS = Settings(model="viptt-net-small", epochs=1, learning_rate=0.01)


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


def weights_of(run: Path) -> list[np.ndarray]:
    return load_network(run)[1].get_weights()


def history_of(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# --- what a run is ------------------------------------------------------------------------------


def test_a_run_explains_itself(trained: Callable, tmp_path: Path) -> None:
    run, said = trained(replace(SETTINGS, epochs=2))
    names = {path.name for path in run.iterdir()}
    assert names == {"config.json", "history.csv", "model.weights.h5", "model.weights.h5.sha256", "state.npz"}
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["batch_size"] == 2
    assert config["data"]["classes"] == ["Infiltrative", "Focal", "Tuberculoma"]
    assert config["data"]["store_digest"].startswith("sha256:")
    assert {"keras", "tensorflow", "python"} <= set(config["versions"])
    rows = history_of(run)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(0 <= float(row["input_wait"]) <= 1 for row in rows)
    assert [line.partition(":")[0] for line in said] == ["epoch 1/2", "epoch 2/2"]
    assert "waited for input" in said[0]


def test_it_learns(trained: Callable) -> None:
    settings = replace(SETTINGS, epochs=15, optimizer="adam", learning_rate=0.001)
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
    settings = replace(SETTINGS, epochs=30, learning_rate=1e-30, plateau_patience=2, stop_patience=3)
    run, _ = trained(settings)
    rows = history_of(run)
    assert len(rows) == 4  # the first is the best, three more are allowed
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates, [1e-30, 1e-30, 1e-30, 1e-31], rtol=1e-4)


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
    real = Store.read

    def reading(self: Store, index: int) -> np.ndarray:
        read.append(self.rows[index].id)
        return real(self, index)

    monkeypatch.setattr(Store, "read", reading)
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


def test_a_damaged_volume_stops_training_and_is_named(trained: Callable, tmp_path: Path) -> None:
    trained(name="first")
    (tmp_path / "nifti.zarr/volume/c/7/0/0/0").unlink()
    with pytest.raises(IntegrityError, match=r"sample S007\): missing-chunk"):
        trained(name="second")


def test_a_damaged_validation_volume_stops_training(trained: Callable, tmp_path: Path) -> None:
    trained(name="first")
    (tmp_path / "nifti.zarr/volume/c/1/0/0/0").unlink()
    with pytest.raises(IntegrityError, match=r"sample S001\): missing-chunk"):
        trained(name="second")


def test_a_folder_with_other_things_is_left_alone(trained: Callable, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.docx").write_text("years of work")
    with pytest.raises(ConfigError, match="not-a-run"):
        trained()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.docx"]


def test_a_run_is_not_overwritten(trained: Callable) -> None:
    run, _ = trained()
    before = (run / "model.weights.h5").read_bytes()
    with pytest.raises(ConfigError, match=r"run-exists: .* → add `--resume`"):
        trained(replace(SETTINGS, seed=1))
    assert (run / "model.weights.h5").read_bytes() == before


def test_an_empty_validation_part_is_refused_before_any_work(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_store()
    split = make_split(store, parts={"train": [row.id for row in store.rows], "val": []})
    with pytest.raises(ConfigError, match="empty-part"):
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
        {"model": "resnet"},
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


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_killed_in_an_epoch_and_resumed_the_weights_are_the_same_bits(
    trained: Callable, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    settings = replace(SETTINGS, epochs=3, checkpoint_s=0.0, deterministic=True, optimizer=optimizer)
    whole, _ = trained(settings, name="whole")
    calls = iter(range(100))
    real = training._Keeper.on_train_batch_end

    def batch_end(self: object, batch: int, logs: object = None) -> None:
        real(self, batch, logs)
        if next(calls) == 7:  # five batches to an epoch: the third of the second
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training._Keeper, "on_train_batch_end", batch_end)
        with pytest.raises(Killed):
            trained(settings, name="killed")
    run, said = trained(settings, name="killed", resume=True)
    assert said[0] == "going on at epoch 2, batch 4"
    assert equal(weights_of(whole), weights_of(run))
    columns = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
    histories = [history_of(path) for path in (whole, run)]
    first, second = ([[row[name] for name in columns] for row in history] for history in histories)
    assert first == second


def test_a_finished_run_can_be_given_more_epochs(trained: Callable) -> None:
    settings = replace(SETTINGS, deterministic=True)
    whole, _ = trained(replace(settings, epochs=3), name="whole")
    trained(replace(settings, epochs=2), name="parts")
    run, said = trained(replace(settings, epochs=3), name="parts", resume=True)
    assert said[0] == "going on at epoch 3, batch 1"
    assert equal(weights_of(whole), weights_of(run))


def test_schedule_and_early_stopping_survive(trained: Callable) -> None:
    settings = replace(SETTINGS, learning_rate=1e-30, plateau_patience=2, stop_patience=4)
    for epochs in (2, 3, 4, 20):
        run, _ = trained(replace(settings, epochs=epochs), resume=epochs > 2)
    rows = history_of(run)
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates, [1e-30, 1e-30, 1e-30, 1e-31, 1e-31], rtol=1e-4)
    _, said = trained(replace(settings, epochs=20), resume=True)
    assert not any(line.startswith("epoch") for line in said)


def test_going_on_with_other_settings_is_refused(trained: Callable) -> None:
    trained()
    with pytest.raises(ConfigError, match="other-settings"):
        trained(replace(SETTINGS, batch_size=1), resume=True)


def test_going_on_with_another_split_is_refused(
    trained: Callable, make_split: MakeSplit, make_store: MakeStore, tmp_path: Path
) -> None:
    run, _ = trained()
    store = make_store(name="nifti2")
    with pytest.raises(IntegrityError, match="other-data"):
        train(store.path, make_split(store), run, SETTINGS, resume=True)


def test_going_on_without_a_run_is_refused(trained: Callable) -> None:
    with pytest.raises(ConfigError, match="not-a-run"):
        trained(resume=True)


def test_a_damaged_state_is_refused(trained: Callable) -> None:
    run, _ = trained()
    state = run / "state.npz"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    with pytest.raises(IntegrityError, match="state-damaged"):
        trained(replace(SETTINGS, epochs=2), resume=True)
