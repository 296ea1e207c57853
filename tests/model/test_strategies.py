"""What a training starts from, and what the preset of 2021 changes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from runs import SETTINGS, STILL, history_of

from cli import main
from model.loading import load_network
from model.settings import Settings, settings_for
from model.stream import stream
from model.training import class_weights, train
from pipeline.errors import ConfigError, IntegrityError
from pipeline.store import Store

MakeStore = Callable[..., Store]
MakeSplit = Callable[..., Path]


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
    usual = Settings()  # the same for scans and clips
    assert (usual.batch_size, usual.stop_patience, usual.plateau_patience) == (2, 8, 5)
    assert (usual.optimizer, usual.learning_rate, usual.epochs) == ("sgd", 0.001, 100)


def test_the_command_line_takes_the_defaults_of_the_stores_recipe(
    make_store: MakeStore, make_split: MakeSplit, tmp_path: Path
) -> None:
    store = make_store(type_="video", preset="viptt-2021", dtype="uint8", per_class=2)
    split = make_split(store)
    catalog = tmp_path / "data_catalog.yaml"
    catalog.write_text(
        "version: 1\ndatasets: {clips: {type: video, path: raw, classes: [Infiltrative, Focal, Tuberculoma], "
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_start_from_another_network_is_refused(trained: Callable, tmp_path: Path) -> None:
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(IntegrityError, match="other-network"):
        trained(replace(SETTINGS, strategy="pt", init=str(tmp_path / "other.weights.h5")))
