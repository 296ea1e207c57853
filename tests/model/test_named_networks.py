"""What `--model` and the settings of a network build: names, options, weights of files."""

from pathlib import Path

import numpy as np
import pytest
from pth_files import write_zip
from test_own_network import MODULE
from test_sononet_weights import names_and_shapes

from model.applications import NAMES
from model.architectures import NETWORKS, architecture, check_fits, needs_statistics
from model.loading import build_network
from model.settings import Settings
from model.weights import save_weights
from pipeline.errors import ConfigError, IntegrityError

PICTURE, WINDOW = (16, 16, 1), (5, 16, 16, 1)


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def fetal(folder: Path, *, classes: int) -> Path:
    """A file as the original programs wrote it: features 2, any number of classes."""
    rng = np.random.default_rng(0)
    shapes = names_and_shapes("2d", classes, old=False)
    values = {name: rng.random(shape).astype(np.float32) for name, shape in shapes}
    return write_zip(folder / "fetal.pth", values)


def test_the_eight_backbones_and_every_application_are_networks_of_pictures() -> None:
    for name in (*NAMES, "MobileNetV2", "efficientnetb0"):
        assert architecture(name).axes == 3
        assert needs_statistics(Settings(model=name))
        assert not needs_statistics(Settings(model=name, standardise="none"))
    assert len(NAMES) == 8
    assert set(NAMES) <= set(NETWORKS)


@pytest.mark.parametrize("model", ["sononet-2d", "sononet-3d", "sononet-2+1d"])
def test_sononets_by_name(model: str) -> None:
    shape = PICTURE if model == "sononet-2d" else WINDOW
    net = build_network(Settings(model=model, width=4, unfreeze=0), shape, 7)
    assert (net.input_shape, net.output_shape) == ((None, *shape), (None, 7))
    trainable = {layer.name for layer in net.layers if layer.trainable_weights}
    assert trainable
    assert all(name.startswith("adapt") for name in trainable)
    assert len(build_network(Settings(model=model, width=4), shape, 7).trainable_weights) > len(trainable)


@pytest.mark.slow
def test_mid_channels_are_for_the_network_that_is_split() -> None:
    few, many = (
        build_network(Settings(model="sononet-2+1d", width=4, mid_channels=how), WINDOW, 3).count_params()
        for how in ("cout", "formula")
    )
    assert few < many
    with pytest.raises(ConfigError, match="needless-setting: sononet-3d knows no `mid_channels`"):
        check_fits(Settings(model="sononet-3d", mid_channels="formula"), WINDOW)


def test_weights_of_the_fetal_database_come_with_standardised_pictures(tmp_path: Path) -> None:
    path = fetal(tmp_path, classes=14)
    net = build_network(Settings(model="sononet-2d", width=2, weights=str(path)), PICTURE, 3)
    assert "standardise" in {layer.name for layer in net.layers}
    np.testing.assert_array_equal(net.get_layer("adapt2_bn").gamma, np.ones(3))
    body = Settings(model="sononet-2d", width=2, strategy="pt", init=str(path))
    assert "standardise" in {layer.name for layer in build_network(body, PICTURE, 3).layers}
    preset = Settings(model="sononet-2d", width=2, weights=str(path), preset="sononet-2025")
    net = build_network(preset, PICTURE, 3)
    assert "standardise" not in {layer.name for layer in net.layers}
    np.testing.assert_array_equal(net.get_layer("adapt2_bn").gamma, np.zeros(3))


@pytest.mark.parametrize("model", ["sononet-3d", "sononet-2+1d"])
def test_a_sononet_begins_with_the_body_of_a_run_on_other_classes(tmp_path: Path, model: str) -> None:
    donor = build_network(Settings(model=model, width=2), WINDOW, 7)
    save_weights(donor, tmp_path / "donor.weights.h5")
    settings = Settings(model=model, width=2, strategy="pt", init=str(tmp_path / "donor.weights.h5"))
    net = build_network(settings, WINDOW, 3)
    assert net.output_shape == (None, 3)
    blocks = [layer for layer in net.layers if "conv" in layer.name and layer.weights]
    kernels = {layer.name: layer.get_weights()[0] for layer in blocks}
    assert len(kernels) >= 26
    for name, kernel in kernels.items():
        np.testing.assert_array_equal(kernel, donor.get_layer(name).get_weights()[0])


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="other-network"):
        build_network(
            Settings(model="sononet-2d", width=4, weights=str(fetal(tmp_path, classes=3))), PICTURE, 3
        )


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (Settings(model="sononet-2d", weights="imagenet"), "no-weights"),
        (Settings(model="own_nets:net", weights="imagenet"), "no-weights"),
        (Settings(model="sononet-2d", unfreeze=14), "bad-value"),
        (Settings(model="sononet-2d", preset="covidnet-ct-id-2022"), "unknown-name"),
        (Settings(model="sononet-2d", standardise="train"), "bad-value"),
        (Settings(model="own_nets:nothing"), "no-model"),
        (Settings(model="own_nets:missing"), "unknown-name"),
    ],
)
def test_what_a_network_cannot_do(settings: Settings, code: str) -> None:
    with pytest.raises(ConfigError, match=f": {code}: "):
        build_network(settings, PICTURE, 3)


@pytest.mark.parametrize(
    ("temporal", "layer"), [("gru", "gru"), ("mean", "mean"), ("attention", "attention")]
)
def test_the_recurrent_network_with_other_parts(temporal: str, layer: str) -> None:
    settings = Settings(backbone="own_nets:features", temporal=temporal, weights="none")
    net = build_network(settings, (4, 32, 32, 1), 3)
    assert temporal in {layer.name for layer in net.layers}
    assert net.get_layer("backbone").output_shape == (None, 4)


def test_a_backbone_as_the_settings_describe_it() -> None:
    """With the preset, the first block that is trained is the first of the last stage."""
    settings = Settings(model="resnet50", weights="none", unfreeze=1, preset="covidnet-ct-id-2022")
    net = build_network(settings, (32, 32, 1), 3, statistics=(0.25, 0.5))
    standard = net.get_layer("standardise")(np.full((1, 32, 32, 1), 0.75, np.float32))
    np.testing.assert_allclose(standard, 1.0)
    layers = net.get_layer("backbone").layers
    trained = {layer.name for layer in layers if layer.trainable and layer.name.endswith("_conv")}
    assert trained == {f"conv5_block1_{number}_conv" for number in range(4)}
