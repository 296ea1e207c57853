"""A network of its own, in this one file: what it takes to add one, and what it can do at once."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner, Result

from cli import main
from model.architectures import NETWORKS, Architecture, architecture
from model.loading import load_network
from pipeline.errors import ConfigError


def toy(shape: tuple[int, int, int, int], classes: int, *, weights: str | None = "none") -> keras.Model:
    """The mean of each volume, and a layer over that."""
    volume = keras.Input(shape)
    mean = keras.layers.GlobalAveragePooling3D()(volume)
    return keras.Model(volume, keras.layers.Dense(classes, activation="softmax", name="head")(mean))


@pytest.fixture
def viptt(
    make_store: Callable, make_split: Callable, make_catalog: Callable, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Commands over two datasets, where the toy is registered."""
    monkeypatch.setitem(NETWORKS, "toy", Architecture(toy))
    stores = {"ct": make_store(name="scans"), "clips": make_store(name="clips", type_="video")}
    catalog = make_catalog(**{name: (it, make_split(it, name=name)) for name, it in stores.items()})

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, [*map(str, arguments), "--catalog", str(catalog)])

    return run


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["ct", "clips"])
def test_a_network_is_added_by_one_entry(viptt: Callable[..., Result], tmp_path: Path, dataset: str) -> None:
    run = tmp_path / "run"
    result = viptt("train", dataset, "--model", "toy", "--epochs", "1", "--run", run)
    assert result.exit_code == 0, result.stderr
    assert "6 parameters, 6 of them trainable" in result.stderr  # 3 weights, 3 biases
    assert viptt("evaluate", run).exit_code == 0
    result = viptt("predict", run, dataset)
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 13


def test_it_starts_from_its_own_weights(viptt: Callable[..., Result], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert viptt("train", "clips", "--model", "toy", "--epochs", "1", "--run", first).exit_code == 0
    tuned = ("--strategy", "pt", "--init", first, "--learning-rate", "1e-12", "--run", second)
    assert viptt("train", "ct", "--model", "toy", "--epochs", "1", *tuned).exit_code == 0
    config, net = load_network(second)
    assert config.settings.model == "toy"
    assert np.isfinite(net.get_layer("head").kernel).all()


@pytest.mark.parametrize("option", ["--freeze", "--remat", "--from-features"])
def test_what_needs_a_backbone_is_refused(
    viptt: Callable[..., Result], tmp_path: Path, make_store: Callable, option: str
) -> None:
    if option == "--from-features":
        made = viptt("features", "ct", "--model", "viptt-net-small", "--weights", "none", "-q")
        assert made.exit_code == 0, made.stderr
    result = viptt("train", "ct", "--model", "toy", option, "--run", tmp_path / "run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{option}: no-backbone: 'toy' has no backbone")
    assert not (tmp_path / "run").exists()


def test_features_and_explanations_of_it_are_refused(viptt: Callable[..., Result], tmp_path: Path) -> None:
    assert "--model: no-backbone: " in viptt("features", "ct", "--model", "toy").stderr
    run = tmp_path / "run"
    assert viptt("train", "ct", "--model", "toy", "--epochs", "1", "--run", run).exit_code == 0
    result = viptt("predict", run, "ct", "--explain", tmp_path / "pictures")
    assert result.exit_code == 2
    assert "--explain: no-backbone: " in result.stderr


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("transformer", "give one of: viptt-net, viptt-net-small, "),
        ("sononet2d", "did you mean `sononet-2d`"),
        ("mobilnetv2", "did you mean `mobilenetv2`"),
    ],
)
def test_an_unknown_name_tells_the_known_ones(
    viptt: Callable[..., Result], tmp_path: Path, name: str, remedy: str
) -> None:
    result = viptt("train", "ct", "--model", name, "--run", tmp_path / "run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"there is no '{name}' → {remedy}" in result.stderr
    with pytest.raises(ConfigError, match="unknown-name"):
        architecture(name)
