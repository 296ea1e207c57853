"""Trainings over stores of pictures, whole: each kind of network, windows, statistics, resuming."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import equal, history_of, weights_of

from model.checkpoint import Checkpoint
from model.config_file import given_settings
from model.evaluate import evaluate
from model.loading import load_network
from model.predict import load_ensemble, predict_dataset
from model.run_folder import read_config
from model.settings import Settings, Window
from model.stream import open_samples, stream
from model.train_statistics import measure
from model.training import train
from pipeline.errors import ConfigError
from pipeline.store import Store

MODULE = """
import keras

def net(shape, classes):
    sample = keras.Input(shape)
    scores = keras.layers.Dense(classes, activation="softmax")(keras.layers.Flatten()(sample))
    return keras.Model(sample, scores)

class FirstRightThenWrong(keras.layers.Layer):
    "The class by the mean of a picture: the right one for 7 steps of training, then another one."

    def __init__(self, classes, **options):
        super().__init__(**options)
        self.classes = classes
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.unused = self.add_weight(shape=(), initializer="zeros")

    def call(self, pictures, training=False):
        if training:
            self.steps.assign(self.steps + 1)
        levels = 0.1 + 0.3 * keras.ops.arange(self.classes, dtype="float32")
        means = keras.ops.mean(pictures, axis=(1, 2))
        scores = -100 * (means - levels) ** 2 + 0 * self.unused
        return keras.ops.softmax(keras.ops.where(self.steps <= 7, scores, -scores))

def wave(shape, classes):
    sample = keras.Input(shape)
    return keras.Model(sample, FirstRightThenWrong(classes)(sample))

def features(shape):
    frame = keras.Input(shape)
    return keras.Model(frame, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(frame)))
"""
ONCE = Settings(model="nets_of_pictures:net", epochs=1, batch_size=4)
FIVE = Window(length=5, stride=2, labels="last")
TRAIN, VAL = {"A": "0000111122", "B": "222200b111"}, {"C": "0011122", "D": "aa000000"}
Trained = Callable[..., Path]


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not "own_nets": a module of this name that another test has imported would be taken for it.
    (tmp_path / "nets_of_pictures.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def trained(make_pictures: Callable, make_split: Callable, tmp_path: Path) -> Trained:
    """``trained(settings, name=…)``: train on the stacks A and B, validate on C and D; gives the run."""
    made: dict[int, tuple[Store, Path]] = {}

    def run(settings: Settings, *, name: str = "run", size: int = 16, resume: bool = False) -> Path:
        if size not in made:
            store = make_pictures({**TRAIN, **VAL}, name=f"p{size}", size=size)
            parts = {
                name: [row.id for row in store.rows if row.stack in stacks]
                for name, stacks in (("train", TRAIN), ("val", VAL))
            }
            made[size] = store, make_split(store, name=f"split{size}", parts=parts)
        store, split = made[size]
        return train(store.path, split, tmp_path / name, settings, resume=resume)

    return run


# --- networks -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        replace(ONCE, model="sononet-2d", width=2, unfreeze=1, standardise="picture"),
        ONCE,
        replace(ONCE, model="mobilenetv2", weights="none", unfreeze=1),
    ],
    ids=lambda settings: settings.model,
)
def test_networks_of_pictures(trained: Trained, settings: Settings) -> None:
    run = trained(settings, size=32)
    config, net = load_network(run)
    assert net.input_shape == (None, 32, 32, 1)
    assert config.settings == settings
    found = evaluate(run)
    assert found.scores.samples == 15


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(replace(ONCE, model="sononet-3d", width=2, unfreeze=0), id="3d"),
        pytest.param(replace(ONCE, model="sononet-2+1d", width=2), id="2+1d"),
        pytest.param(ONCE, id="own"),
        pytest.param(
            replace(
                ONCE, model="viptt-net", backbone="nets_of_pictures:features", temporal="gru", weights="none"
            ),
            id="viptt-net",
        ),
    ],
)
def test_networks_of_windows(trained: Trained, settings: Settings) -> None:
    run = trained(replace(settings, window=FIVE), size=32)
    config, net = load_network(run)
    assert net.input_shape == (None, 5, 32, 32, 1)
    data = stream(config.data.store, config.data.split, "val", batch_size=9, settings=config.settings)
    ((windows, labels),) = data
    assert labels.numpy().argmax(axis=1).tolist() == [1, 2, 0, 0]  # C: 5 and 7 pictures; D: 5 and 7 of 8
    assert np.isfinite(net.predict(windows, verbose=0)).all()
    net.compile(loss="categorical_crossentropy")
    expected = float(history_of(run)[0]["val_loss"])
    assert net.evaluate(data, verbose=0) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_what_is_frozen_stays(trained: Trained) -> None:
    settings = replace(ONCE, model="sononet-2d", width=2, learning_rate=0.1, unfreeze=1)
    runs = [trained(replace(settings, epochs=epochs), name=f"run{epochs}") for epochs in (1, 2)]
    once, twice = (load_network(run)[1].layers for run in runs)
    moved = {
        layer.name
        for layer, other in zip(once, twice, strict=True)
        if not equal(layer.get_weights(), other.get_weights())
    }
    assert all(name.startswith(("stack5_conv3", "adapt")) for name in moved)
    assert {"stack5_conv3", "adapt1"} <= moved


def test_a_store_is_predicted_by_pictures_or_by_windows(trained: Trained) -> None:
    """Stacks of 10, 10, 7 and 8 pictures: a window of 3 ends at 8, 8, 5 and 6 of them."""
    for name, settings, count, first in (
        ("p", ONCE, 35, "A/000"),
        ("w", replace(ONCE, window=Window(3, 2, "same")), 27, "A/002"),
    ):
        run = trained(settings, name=name)
        ensemble = load_ensemble([run])
        place = Path(ensemble.data.store), Path(ensemble.data.split), None
        found = predict_dataset(ensemble, *place, batch_size=4)
        assert len(found) == count
        assert (found[0].id, found[0].source) == (first, f"{first}.png")


def test_single_pictures_have_no_windows_and_windows_no_single_pictures(trained: Trained) -> None:
    with pytest.raises(ConfigError, match=r"other-shape: sononet-2d reads single pictures, .* windows"):
        trained(replace(ONCE, model="sononet-2d", window=FIVE))
    with pytest.raises(
        ConfigError, match=r"other-shape: sononet-3d reads .* single pictures → give a `window`"
    ):
        trained(replace(ONCE, model="sononet-3d"))
    with pytest.raises(ConfigError, match="no-windows"):
        trained(replace(ONCE, model="sononet-3d", window=Window(length=11)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sononet-2025", {"width": 4}),
        ("sononet-2025", {"width": 4, "model": "sononet-2+1d"}),
        ("sononet-2025-2d", {"width": 4}),
        ("covidnet-ct-id-2022", {"model": "densenet121", "weights": "none"}),
    ],
)
def test_the_presets_train(trained: Trained, name: str, changes: dict[str, object]) -> None:
    given = given_settings(config=name, epochs=1, batch_size=4)
    if given.get("window"):
        given["window"] = Window(length=5, stride=1, labels="last")  # of one label, these stacks have none
    run = trained(Settings(**{**given, **changes}), size=32)
    assert len(history_of(run)) == 1


def test_a_sampler_needs_a_sample_of_each_class(
    make_pictures: Callable, make_split: Callable, tmp_path: Path
) -> None:
    """A and B have pictures of Focal, and their only windows of one label begin with others."""
    store = make_pictures({"A": "000011112", "B": "222211111", "C": "00000"})
    split = make_split(
        store,
        parts={
            name: [row.id for row in store.rows if (row.stack == "C") == (name == "val")]
            for name in ("train", "val")
        },
    )
    settings = replace(ONCE, window=Window(length=4, stride=6, labels="same"))
    with pytest.raises(ConfigError, match="class-missing: its split 'train' has no sample of Focal"):
        train(store.path, split, tmp_path / "run", replace(settings, sampler="weighted"))
    assert not (tmp_path / "run").exists()
    said: list[str] = []
    train(store.path, split, tmp_path / "run", settings, say=said.append)
    assert [line for line in said if "no sample of Focal, which is not learned" in line] == said[:1]


# --- mean and deviation -------------------------------------------------------------------------


@pytest.mark.slow
def test_mean_and_deviation_of_the_train_part_are_in_the_network(trained: Trained) -> None:
    run = trained(replace(ONCE, model="mobilenetv2", weights="none", unfreeze=0), size=32)
    config, net = load_network(run)
    part = open_samples(config.data.store, config.data.split, "train")
    mean, deviation = measure(part)
    assert config.data.statistics == (mean, deviation)
    pictures = np.stack([part.store.read(row)[0] for row in part.rows])[..., None].astype(np.float32)
    standard = np.asarray(net.get_layer("standardise")(pictures))
    assert standard.mean() == pytest.approx(0, abs=1e-3)
    assert standard.std() == pytest.approx(1, abs=1e-3)
    kept = json.loads(Path(config.data.split).with_name("split32.statistics.json").read_text())
    assert kept["split_digest"] == config.data.split_digest


# --- the best epoch, and resuming ---------------------------------------------------------------


@pytest.mark.slow
def test_the_weights_with_the_best_accuracy_are_kept(trained: Trained) -> None:
    settings = replace(ONCE, model="nets_of_pictures:wave", epochs=3, stop_patience=None, best="accuracy")
    run = trained(settings)
    accuracies = [float(row["val_accuracy"]) for row in history_of(run)]
    assert accuracies[0] == max(accuracies) > accuracies[-1]  # an epoch has five steps
    config, net = load_network(run)
    net.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    data = stream(config.data.store, config.data.split, "val", batch_size=4)
    assert net.evaluate(data, verbose=0)[1] == pytest.approx(max(accuracies))


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "weighted", "optimizer": "adam", "weight_decay": 1e-3, "window": FIVE},
        pytest.param(
            {
                "sampler": "oversample",
                "frames": "selected",
                "class_weights": True,
                "plateau_threshold_mode": "rel",
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"sampler": "even-batches", "augmentation": ({"ultrasound": {}}, {"RandomFlip": {}})},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda changes: changes["sampler"],
)
def test_killed_in_an_epoch_and_resumed_the_weights_are_the_same_bits(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    settings = replace(ONCE, epochs=3, batch_size=2, checkpoint_s=0.0, deterministic=True, **changes)
    whole = trained(settings, name="whole")
    real, batches = Checkpoint.on_train_batch_end, []

    def batch_end(self: Checkpoint, batch: int, logs: object = None) -> None:
        real(self, batch, logs)
        batches.append(batch)
        if self.progress.epoch == 1 and batch == 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_batch_end", batch_end)
        with pytest.raises(Killed):
            trained(settings, name="killed")
    run = trained(settings, name="killed", resume=True)
    assert equal(weights_of(whole), weights_of(run))
    columns = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
    first, second = ([[row[name] for name in columns] for row in history_of(path)] for path in (whole, run))
    assert first == second
    assert read_config(run).settings == settings
