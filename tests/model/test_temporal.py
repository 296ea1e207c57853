"""ViPTT-Net with other backbones and other summaries of the sequence."""

from pathlib import Path

import keras
import numpy as np
import pytest

from model.network import classifier, encoder, rematerialized, viptt_net
from model.temporal import TEMPORAL, AttentionPooling
from model.weights import load_body, load_weights
from pipeline.errors import ConfigError

SHAPE = (4, 32, 32, 1)
# Weights between the backbone's 512 features and the head's 1024 units: 4 (or 3) gates of 256 units
# with their biases (a GRU has two rows of them), 4 gates of 64 filters of 3 x 3, V and w.
EXPECTED = {
    "lstm": 4 * 256 * (512 + 256 + 1) + 1024 * 257,
    "gru": 3 * 256 * (512 + 256 + 2) + 1024 * 257,
    "convlstm": 4 * 64 * (9 * (512 + 64) + 1) + 1024 * 65,
    "mean": 1024 * 513,
    "attention": 512 * 128 + 128 + 1024 * 513,
}
# Frames of 64 pixels leave 2 x 2 maps: the smallest that a ConvLSTM can see something in.
FRAMES = {"convlstm": (4, 64, 64, 1)}


def batch(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Far from [0, 1]: through 13 layers of random weights, small values end in nothing."""
    return np.random.default_rng(seed).normal(0, 300, (2, *shape)).astype("float32")


def built(temporal: str) -> keras.Model:
    return viptt_net(FRAMES.get(temporal, SHAPE), 3, weights="none", temporal=temporal)


@pytest.mark.parametrize("temporal", TEMPORAL)
def test_each_summary_has_its_weights_and_gives_probabilities(temporal: str) -> None:
    net = built(temporal)
    assert net.count_params() == 6 + 14_714_688 + EXPECTED[temporal] + 3 * 1025
    volumes = batch(net.input_shape[1:])
    found = np.asarray(net(volumes))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    backwards = np.abs(found - np.asarray(net(volumes[:, ::-1]))).max()
    assert (backwards > 1e-4) == (temporal in ("lstm", "gru", "convlstm"))


@pytest.mark.parametrize("temporal", TEMPORAL)
def test_in_two_parts_or_rematerialized_it_is_the_same_network(temporal: str) -> None:
    net = built(temporal)
    volumes = batch(net.input_shape[1:], 1)
    expected = np.asarray(net(volumes))
    np.testing.assert_allclose(classifier(net)(encoder(net)(volumes)), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(rematerialized(net, frames=3)(volumes), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("temporal", ["attention", "convlstm"])
def test_weights_go_out_and_in_also_for_other_classes(temporal: str, tmp_path: Path) -> None:
    donor, path = built(temporal), tmp_path / "net.weights.h5"
    donor.save_weights(path)
    net, other = built(temporal), viptt_net(donor.input_shape[1:], 5, weights="none", temporal=temporal)
    load_weights(net, path)
    load_body(other, path)
    volumes = batch(donor.input_shape[1:], 2)
    np.testing.assert_allclose(net(volumes), donor(volumes), rtol=1e-5)
    before_head = [keras.Model(model.input, model.layers[-1].input)(volumes) for model in (other, donor)]
    np.testing.assert_allclose(*before_head, rtol=1e-4, atol=1e-6)


def test_the_default_graph_is_that_of_2021() -> None:
    net = viptt_net(SHAPE, 3, weights="none")
    assert [layer.name for layer in net.layers] == ["volume", "conv3d", "backbone", "lstm", "dense", "head"]
    assert net.layers[2].layers[-1].__class__.__name__ == "GlobalAveragePooling2D"


def test_attention_is_the_weighted_mean_of_the_paper() -> None:
    layer, sequence = AttentionPooling(5), batch((7, 3), 3)
    found = np.asarray(layer(sequence))
    v, w = layer.get_weights()
    for h, pooled in zip(sequence, found, strict=True):
        score = np.exp([w[:, 0] @ np.tanh(v.T @ row) for row in h])
        np.testing.assert_allclose(pooled, (score / score.sum()) @ h, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "features"), [("resnet50", 2048), ("mobilenetv2", 1280)])
def test_the_backbone_may_be_another(backbone: str, features: int) -> None:
    net = viptt_net(SHAPE, 3, weights="none", backbone=backbone)
    assert net.get_layer("backbone").output_shape == (None, features)
    assert net(batch(SHAPE)).shape == (2, 3)


def test_fc1_gives_4096_features() -> None:
    net = viptt_net(SHAPE, 3, weights="none", features="fc1")
    assert net.get_layer("backbone").output_shape == (None, 4096)
    assert net.get_layer("backbone").count_params() == 14_714_688 + 4096 * 513
    assert [layer.name for layer in net.get_layer("backbone").layers][-1] == "fc1"


def test_the_backbone_may_be_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_frames.py").write_text(
        "import keras\n"
        "def flat(shape):\n"
        "    frame = keras.Input(shape)\n"
        "    return keras.Model(frame, keras.layers.AveragePooling2D(16)(frame))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    net = viptt_net(SHAPE, 3, weights="none", backbone="own_frames:flat", temporal="convlstm")
    assert net.get_layer("backbone").output_shape == (None, 2, 2, 3)
    assert net(batch(SHAPE)).shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"temporal": "rnn"}, "temporal: unknown-name: .*give one of: lstm, gru, convlstm, mean, attention"),
        ({"features": "fc2"}, "features: unknown-name: "),
        ({"features": "fc1", "backbone": "resnet50"}, "features: no-fc1: resnet50 has no fc1"),
        ({"features": "fc1", "temporal": "convlstm"}, "features: no-maps: "),
        ({"backbone": "vgg17"}, "unknown-name: there is no 'vgg17'"),
        ({"backbone": "densenet161", "weights": "imagenet"}, "no-weights: Keras has no ImageNet weights"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        viptt_net(SHAPE, 3, **{"weights": "none", **options})
