"""Features are the network cut in two: the same numbers, and never those of something else."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from model.architectures import NETWORKS
from model.checkpoint import Checkpoint
from model.evaluate import evaluate
from model.features import extractor
from model.loading import load_network
from model.network import classifier, encoder, fix_adapter, freeze_backbone
from model.predict import probabilities
from model.settings import Settings, Window
from model.stream import batches, chosen_samples, open_samples, stream
from model.training import train
from pipeline.build.features import Derived, derive
from pipeline.errors import ConfigError, IntegrityError
from pipeline.store import Store, features_of, open_store

MakeStore = Callable[..., Store]
MakeSplit = Callable[..., Path]
SETTINGS = Settings(model="viptt-net-small", weights="none", epochs=2, learning_rate=0.05, from_features=True)
TOLERANCE = 1e-4


def make_features(store: Store, settings: Settings = SETTINGS) -> Derived:
    made = extractor(settings, store)
    return derive(store, made.compute, made.recipe, created_with={})


def network(settings: Settings, store: Store) -> keras.Model:
    """The whole network as a training begins with it, its adapter gray."""
    keras.utils.set_random_seed(settings.seed)
    shape = (*store.header.shape, 1)
    net = NETWORKS[settings.model].build(shape, len(store.header.classes), weights=settings.weights)
    fix_adapter(net)
    return net


def lively(settings: Settings, store: Store, folder: Path) -> Settings:
    """With weights from a file, through which the signal does not shrink as it does from Keras' own."""
    backbone = network(settings, store).get_layer("backbone")
    backbone.set_weights([value * 1.8 if value.ndim == 4 else value for value in backbone.get_weights()])
    backbone.save_weights(folder / "backbone.weights.h5")
    return replace(settings, weights=str(folder / "backbone.weights.h5"))


def volumes_of(store: Store) -> np.ndarray:
    stored = np.stack([store.read(index) for index in range(len(store.rows))])
    scale = 255 if stored.dtype == np.uint8 else 1
    return stored.astype(np.float32)[..., None] / scale


def history_of(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# --- the same numbers ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "dtype"),
    [("viptt-net", "float16"), ("viptt-net-small", "float16"), ("viptt-net-small", "uint8")],
)
def test_stored_features_through_the_top_are_the_whole_network(
    make_store: MakeStore, tmp_path: Path, model: str, dtype: str
) -> None:
    store = make_store(dtype=dtype, per_class=2)
    settings = lively(replace(SETTINGS, model=model), store, tmp_path)
    features = open_store(make_features(store, settings).path)
    stored = np.stack([features.read(index) for index in range(6)])
    net, volumes = network(settings, store), volumes_of(store)
    frames = np.repeat(volumes.reshape(-1, 32, 32, 1), 3, axis=-1)
    expected = net.get_layer("backbone").predict(frames, verbose=0).reshape(6, 4, -1)
    np.testing.assert_allclose(stored, expected, atol=TOLERANCE)
    whole = net.predict(volumes, verbose=0)
    np.testing.assert_allclose(classifier(net).predict(stored, verbose=0), whole, atol=TOLERANCE)
    assert np.ptp(whole, axis=0).max() > 100 * TOLERANCE  # or all would be the same to them


def test_the_network_cut_in_two_shares_its_layers(make_store: MakeStore) -> None:
    net = network(SETTINGS, make_store(per_class=1))
    front, top = encoder(net), classifier(net)
    assert front.output_shape == top.input_shape == (None, 4, 64)
    weights = {id(weight) for weight in net.weights}
    assert {id(weight) for half in (front, top) for weight in half.weights} == weights


@pytest.mark.slow
def test_training_on_features_is_training_the_whole_network_with_the_rest_frozen(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_store()
    split = make_split(store)
    make_features(store)
    run = train(store.path, split, tmp_path / "run", SETTINGS)
    net = network(SETTINGS, store)
    freeze_backbone(net)
    net.compile(optimizer=keras.optimizers.SGD(SETTINGS.learning_rate), loss="categorical_crossentropy")
    losses = []
    for epoch in range(2):
        data = stream(store.path, split, "train", batch_size=2, seed=SETTINGS.seed, epoch=epoch)
        net.fit(data, shuffle=False, verbose=0)
        losses.append(net.evaluate(stream(store.path, split, "val", batch_size=2), verbose=0))
    found = [float(row["val_loss"]) for row in history_of(run)]
    np.testing.assert_allclose(found, losses, atol=TOLERANCE)
    assert losses[1] < losses[0]  # so that the weights kept are those of the last epoch
    for a, b in zip(load_network(run)[1].get_weights(), net.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=TOLERANCE)


@pytest.mark.slow
def test_the_run_is_one_of_the_whole_network_on_volumes(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_store()
    split = make_split(store)
    derived = make_features(store)
    run = train(store.path, split, tmp_path / "run", replace(SETTINGS, epochs=1))
    config, net = load_network(run)
    assert config.data.shape == (4, 32, 32, 1)
    assert config.data.features_digest == derived.digest
    kernel, bias = net.get_layer("conv3d").get_weights()
    assert (kernel.shape, kernel.min(), kernel.max(), bias.any()) == ((1, 1, 1, 1, 3), 1, 1, False)
    val = open_samples(store.path, split, "val")
    whole = probabilities(net, val, batch_size=2)
    top = classifier(net).predict(
        batches(replace(val, store=open_store(derived.path)), batch_size=2), verbose=0
    )
    np.testing.assert_allclose(whole, top, atol=TOLERANCE)
    shutil.rmtree(derived.path)
    assert evaluate(run).scores.samples == 3


@pytest.mark.slow
def test_in_mixed_precision_the_features_are_still_those_of_the_backbone(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_store()
    make_features(store)
    settings = replace(SETTINGS, mixed_precision=True, epochs=1)
    run = train(store.path, make_split(store), tmp_path / "run", settings)
    assert evaluate(run).scores.samples == 3


# --- of single pictures -------------------------------------------------------------------------

STACKS = {"A": "0000", "B": "111111", "C": "00_000", "D": "1111"}
THREE = replace(SETTINGS, window=Window(3, 1, "same"), epochs=1)


def parts_of(store: Store, **stacks: str) -> dict[str, list[str]]:
    """The ids of the pictures of some stacks for each part."""
    return {part: [row.id for row in store.rows if row.stack in chosen] for part, chosen in stacks.items()}


def test_windows_of_the_features_of_pictures_are_the_whole_network(
    make_pictures: Callable[..., Store], make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_pictures(STACKS, size=32)
    settings = lively(THREE, store, tmp_path)
    features = open_store(make_features(store, settings).path)
    assert features.header.shape == (1, 64)
    assert features.header.per_file > len(features.rows)  # one shard, as of the pictures
    assert [(row.stack, row.position) for row in features.rows] == [
        (row.stack, row.position) for row in store.rows
    ]
    split = make_split(store, parts=parts_of(store, train="AB", val="CD"))
    val = chosen_samples(open_samples(store.path, split, "val"), settings)
    assert val.ids == ("C/003", "D/000", "D/001")  # C has a gap after two pictures
    net = NETWORKS[settings.model].build((3, 32, 32, 1), 3, weights=settings.weights)
    fix_adapter(net)
    whole = probabilities(net, val, batch_size=2)
    stored = batches(replace(val, store=features), batch_size=2)
    np.testing.assert_allclose(classifier(net).predict(stored, verbose=0), whole, atol=TOLERANCE)
    assert np.ptp(whole, axis=0).max() > 10 * TOLERANCE


@pytest.mark.slow
def test_windows_are_trained_on_the_features_of_pictures(
    make_pictures: Callable[..., Store], make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_pictures(STACKS, size=32)
    assert make_features(store, THREE).computed == len(store.rows)
    assert make_features(store, THREE).computed == 0
    split = make_split(store, parts=parts_of(store, train="AB", val="CD"))
    run = train(store.path, split, tmp_path / "run", THREE)
    assert load_network(run)[0].data.shape == (1, 32, 32, 1)
    assert evaluate(run).scores.samples == 3


def test_single_pictures_cannot_be_trained_on_features(
    make_pictures: Callable[..., Store], make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_pictures(STACKS, size=32)
    with pytest.raises(ConfigError, match=r"other-shape: .* reads volumes, or windows .* give a `window`"):
        train(store.path, make_split(store), tmp_path / "run", SETTINGS)
    with pytest.raises(ConfigError, match="no-backbone: 'resnet50' has no backbone"):
        extractor(replace(SETTINGS, model="resnet50", from_features=False), store)


# --- and never others ---------------------------------------------------------------------------


def test_without_features_it_says_how_to_get_them(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_store()
    with pytest.raises(IntegrityError, match=r"no-features: .* → run `viptt features`"):
        train(store.path, make_split(store), tmp_path / "run", SETTINGS)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (replace(SETTINGS, seed=1), "weights_sha256"),
        (replace(SETTINGS, model="viptt-net"), "network viptt-net-small"),
    ],
)
def test_features_of_another_network_are_refused_before_any_work(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path, settings: Settings, said: str
) -> None:
    store = make_store()
    make_features(store)
    with pytest.raises(IntegrityError, match=f"stale-features: made with {said}"):
        train(store.path, make_split(store), tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_features_of_another_store_are_refused(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    old = make_store(name="old")
    derived = make_features(old)
    store = make_store(name="new", seed=1)
    derived.path.rename(features_of(store.path))
    with pytest.raises(IntegrityError, match="stale-features: made from store sha256:"):
        train(store.path, make_split(store), tmp_path / "run", SETTINGS)
    assert not (tmp_path / "run").exists()


def test_volumes_in_the_place_of_features_are_refused(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_store()
    make_store(name="other").path.rename(features_of(store.path))
    with pytest.raises(ConfigError, match="not-features"):
        train(store.path, make_split(store), tmp_path / "run", SETTINGS)


@pytest.mark.slow
def test_a_damaged_feature_stops_training_and_is_named(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_store()
    chunk = make_features(store).path / "features/c.7.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match=r"sample S007\): chunk-checksum.*viptt features"):
        train(store.path, make_split(store), tmp_path / "run", SETTINGS)


@pytest.mark.parametrize(
    "wrong",
    [{"strategy": "pt+cw+aug", "init": "run"}, {"freeze_backbone": False}, {"remat": True}],
)
def test_what_features_cannot_do_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"--.*: not-from-features"):
        replace(SETTINGS, **wrong)


# --- from a network trained before --------------------------------------------------------------


@pytest.mark.slow
def test_a_network_with_this_very_backbone_is_a_start_and_another_is_not(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable, tmp_path: Path
) -> None:
    videos = make_store(name="videos", type_="video", classes=list("abcde"), per_class=2)
    make_features(videos)
    first = train(videos.path, make_split(videos, name="videos"), tmp_path / "first", SETTINGS)
    other = make_run(videos, make_split(videos, name="videos"), name="other")
    scans = make_store(name="scans")
    split = make_split(scans, name="scans")
    make_features(scans)
    still = replace(SETTINGS, strategy="pt+cw", init=str(first), learning_rate=1e-12)
    _, donor = load_network(first)
    _, net = load_network(train(scans.path, split, tmp_path / "run", still))
    for old, new in zip(donor.layers[:-1], net.layers[:-1], strict=True):
        for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    with pytest.raises(IntegrityError, match="stale-features"):
        train(scans.path, split, tmp_path / "refused", replace(still, init=str(other)))


# --- going on -----------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_killed_in_an_epoch_and_resumed_the_weights_are_the_same_bits(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    split = make_split(store)
    make_features(store)
    settings = replace(SETTINGS, checkpoint_s=0.0, deterministic=True, optimizer="adam")
    whole = train(store.path, split, tmp_path / "whole", settings)
    calls, real = iter(range(100)), Checkpoint.on_train_batch_end

    def batch_end(self: object, batch: int, logs: object = None) -> None:
        real(self, batch, logs)
        if next(calls) == 7:  # five batches to an epoch: the third of the second
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_batch_end", batch_end)
        with pytest.raises(Killed):
            train(store.path, split, tmp_path / "killed", settings)
    said: list[str] = []
    run = train(store.path, split, tmp_path / "killed", settings, resume=True, say=said.append)
    assert said[1] == "resuming at epoch 2, batch 4"
    for a, b in zip(load_network(whole)[1].get_weights(), load_network(run)[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_going_on_with_other_features_is_refused(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_store()
    split = make_split(store)
    make_features(store)
    run = train(store.path, split, tmp_path / "run", SETTINGS)
    make_features(store, replace(SETTINGS, seed=3))
    with pytest.raises(IntegrityError, match="other-data"):
        train(store.path, split, run, SETTINGS, resume=True)


def test_a_run_from_before_there_were_features_still_loads(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable[..., Path]
) -> None:
    store = make_store()
    run = make_run(store, make_split(store))
    document = json.loads((run / "config.json").read_text())
    document |= {"format": 1}
    del document["sha256"]
    del document["settings"]["from_features"], document["data"]["features_digest"]
    (run / "config.json").write_text(json.dumps(document))
    assert load_network(run)[0].settings.from_features is False
