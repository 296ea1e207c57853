"""The eight networks: their sizes as published, what is thawed, and where their weights come from."""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest

from model.applications import NAMES, published
from model.backbones import PRESET_2022, backbone, blocks, thaw
from pipeline.errors import ConfigError, IntegrityError, ResourceError

# Parameters for 1000 classes of colour pictures. VGG, ResNet and DenseNet: the table of
# https://keras.io/applications (2019). DenseNet-161: torchvision's "num_params", 28 681 000, which
# leaves out the 219 936 moving averages of its batch normalisations that Keras counts.
PUBLISHED = {
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet50": 25_636_712,
    "resnet101": 44_707_176,
    "resnet152": 60_419_944,
    "densenet121": 8_062_504,
    "densenet161": 28_681_000 + 219_936,
    "densenet201": 20_242_984,
}
# Weights of the first convolution for each colour, and features before the head.
STEM = {"vgg": 3 * 3 * 64, "resnet": 7 * 7 * 64, "densenet": 7 * 7 * 64}
FEATURES = {"vgg": 4096, "resnet": 2048, "densenet121": 1024, "densenet161": 2208, "densenet201": 1920}
# A residual block of the last stage but its first: three convolutions with biases, three
# normalisations of two weights; a dense layer at c input maps: two normalisations, 4g and g filters.
RESIDUAL = 2048 * 512 + 512 + 9 * 512 * 512 + 512 + 512 * 2048 + 2048 + 2 * (512 + 512 + 2048)
FIRST_RESIDUAL = RESIDUAL - 512 * 1024 + 1024 * 2048 + 2048 + 2 * 2048  # 1024 maps come in; a shortcut
SLOW = {"vgg19", "resnet101", "resnet152", "densenet121", "densenet161", "densenet201"}
EIGHT = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in NAMES]


def dense(maps: int, growth: int) -> int:
    return 2 * maps + 4 * growth * maps + 2 * 4 * growth + 9 * 4 * growth * growth


def last_dense(name: str, count: int) -> int:
    growth = 48 if name == "densenet161" else 32
    features = FEATURES[name]  # each layer adds ``growth`` maps, the last one up to all features
    return sum(dense(features - growth * number, growth) for number in range(1, count + 1))


def thawed(name: str) -> list[int]:
    """Parameters of the last 0 to 4 blocks."""
    if name.startswith("vgg"):
        return [count * (9 * 512 * 512 + 512) for count in range(4)] + [0]
    if name.startswith("resnet"):
        return [0, RESIDUAL, 2 * RESIDUAL, 2 * RESIDUAL + FIRST_RESIDUAL, 0]
    return [last_dense(name, count) for count in range(5)]


def family(name: str) -> str:
    return name.rstrip("0123456789")


def size(name: str) -> int:
    return 224 if name.startswith("vgg") else 32  # VGG's layers of 4096 depend on it


@cache
def built(name: str, preset: str | None = None) -> keras.Model:
    own_graph = preset if name.startswith("resnet") else None
    return backbone(name, classes=3, shape=(size(name), size(name), 1), weights="none", preset=own_graph)


def trainable(net: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in net.trainable_weights)


@pytest.mark.parametrize("name", EIGHT)
def test_each_has_its_published_size_and_gives_probabilities(name: str) -> None:
    net = built(name)
    per_colour = 7 * 7 * 96 if name == "densenet161" else STEM[family(name)]
    features = FEATURES.get(name) or FEATURES[family(name)]
    assert net.count_params() == PUBLISHED[name] - 2 * per_colour - 997 * (features + 1)
    assert net.get_layer("backbone").output_shape == (None, features)
    found = net.predict(np.random.default_rng(0).random((2, size(name), size(name), 1)), verbose=0)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", EIGHT)
def test_the_last_blocks_are_thawed(name: str) -> None:
    net = built(name)
    features = FEATURES.get(name) or FEATURES[family(name)]
    classifier = 3 * (features + 1)
    if name.startswith("vgg"):
        classifier += 4096 * (512 * 7 * 7 + 1) + 4096 * (4096 + 1)
    expected = thawed(name)
    if name == "vgg16":
        expected[4] = expected[3] + 9 * 512 * 512 + 512
    elif name == "vgg19":
        expected[4] = 4 * (9 * 512 * 512 + 512)
    elif name.startswith("resnet"):  # the last of the stage before: half as many filters
        expected[4] = expected[3] + 2 * (1024 * 256) + 9 * 256 * 256 + 2 * 256 + 1024 + 2 * (256 + 256 + 1024)
    for count in range(5):
        thaw(net, count)
        assert trainable(net) == classifier + expected[count], count
    thaw(net, None)
    assert trainable(net) == sum(int(np.prod(w.shape)) for w in net.weights if "moving_" not in w.path)


def test_two_counted_by_hand() -> None:
    """DenseNet-121's last layer sees 992 maps; VGG-16's last convolution 512.

    1 984 + 126 976 + 256 + 36 864 = 166 080, and 3 x 1025 for the head; 2 359 808, and
    102 764 544 + 16 781 312 + 12 291 for the layers after it.
    """
    for name, expected in (("densenet121", 166_080 + 3_075), ("vgg16", 2_359_808 + 119_558_147)):
        net = built(name)
        thaw(net, 1)
        assert trainable(net) == expected


@pytest.mark.parametrize("name", EIGHT)
def test_the_preset_thaws_what_the_original_did(name: str, shared: Path) -> None:
    known = json.loads((shared / "oracle_covid/backbones.json").read_text())["models"][name]
    net = built(name, PRESET_2022)
    assert net.count_params() == known["notebook_1ch_3classes"]["total_keras_style"]
    for count, original in known["k"].items():
        thaw(net, int(count), preset=PRESET_2022)
        assert trainable(net) == original["trainable"], count
        assert len(net.trainable_weights) == original["trainable_tensors"], count
        moving = [layer for layer in following(net) if not layer.gamma.trainable]
        assert len(moving) == original["frozen_affine_bn_layers_with_moving_stats"], count


def test_two_counts_of_the_preset() -> None:
    """They also hold where the original's own figures are not at hand."""
    net = built("resnet50", PRESET_2022)
    counts = []
    for unfreeze in (0, 1, 3, 4):
        thaw(net, unfreeze, preset=PRESET_2022)
        counts.append(trainable(net))
    assert counts == [6_147, 6_045_699, 14_970_883, 14_970_883]


def following(net: keras.Model) -> list[keras.layers.Layer]:
    normalisations = (keras.layers.BatchNormalization,)
    layers = [layer for layer in net.get_layer("backbone").layers if isinstance(layer, normalisations)]
    return [layer for layer in layers if layer.trainable]


@pytest.mark.parametrize("preset", [None, PRESET_2022])
def test_frozen_normalisations_keep_their_averages_but_under_the_preset(preset: str | None) -> None:
    net = built("densenet121")
    thaw(net, 1, preset=preset)
    (first, *_), last = blocks(net)[0], blocks(net)[-1][0]
    before = [np.array(layer.moving_mean) for layer in (first, last)]
    net(np.random.default_rng(1).random((2, 32, 32, 1)), training=True)
    moved = [
        not np.array_equal(mean, layer.moving_mean) for mean, layer in zip(before, (first, last), strict=True)
    ]
    assert moved == [preset is not None, True]


def test_more_blocks_than_there_are() -> None:
    net = built("resnet50")
    assert len(blocks(net)) == 16
    with pytest.raises(ConfigError, match=r"--unfreeze: bad-value: 17 blocks of the 16 .* → give 0 to 16"):
        thaw(net, 17)


# --- what goes in -------------------------------------------------------------------------------


def test_the_network_standardises_its_pictures() -> None:
    pictures = np.random.default_rng(2).random((2, 32, 32, 1)).astype("float32")
    plain = backbone("vgg16", classes=3, shape=(32, 32, 1), weights="none")
    net = backbone("vgg16", classes=3, shape=(32, 32, 1), weights="none", statistics=(0.6547, 0.31))
    net.set_weights(plain.get_weights())
    np.testing.assert_allclose(net(pictures), plain((pictures - 0.6547) / 0.31), rtol=1e-4, atol=1e-6)


def colour(name: str, **options: object) -> keras.Model:
    """A network of Keras with random weights and averages."""
    net = published(name, (32, 32, 3), weights=None, **options)  # type: ignore[arg-type]
    rng = np.random.default_rng(3)
    net.set_weights([value + rng.normal(0, 0.01, value.shape) for value in net.get_weights()])
    return net


# What Keras' own preparation makes of a picture whose colours have mean 0 and deviation 1: times 255
# and times the deviation of ImageNet's blue, green and red ("caffe"); nothing ("torch").
PREPARED: Mapping[str, tuple[float, ...]] = {
    "vgg16": (255 * 0.225, 255 * 0.224, 255 * 0.229),
    "resnet50": (255 * 0.225, 255 * 0.224, 255 * 0.229),
    "densenet121": (1, 1, 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "resnet50", "densenet121"])
def test_weights_of_colours_see_a_gray_picture_as_three_equal_colours(name: str, tmp_path: Path) -> None:
    donor = colour(name)
    donor.save_weights(tmp_path / "colour.weights.h5")
    net = backbone(name, classes=3, shape=(32, 32, 1), weights=str(tmp_path / "colour.weights.h5"))
    pictures = np.random.default_rng(4).normal(size=(2, 32, 32, 1)).astype("float32")
    expected = np.asarray(donor(pictures * np.array(PREPARED[name], "float32")))
    body = net.get_layer("backbone")
    if name == "vgg16":  # its maps, averaged, as those of the donor
        body = keras.Model(body.input, keras.ops.mean(body.get_layer("block5_pool").output, axis=(1, 2)))
    np.testing.assert_allclose(body(pictures), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_preset_takes_the_green_slice(tmp_path: Path) -> None:
    donor, path = colour("vgg16"), str(tmp_path / "colour.weights.h5")
    donor.save_weights(path)
    net = backbone("vgg16", classes=3, shape=(32, 32, 1), weights=path, preset=PRESET_2022)
    kernel = net.get_layer("backbone").get_layer("block1_conv1").get_weights()[0]
    green = donor.get_layer("block1_conv1").get_weights()[0][:, :, 1:2]
    np.testing.assert_allclose(kernel, green * 255 * 0.224, rtol=1e-6)


@pytest.mark.slow
def test_vgg_keeps_its_layers_of_4096_from_a_file_with_top(tmp_path: Path) -> None:
    donor = colour("vgg16", top=True)
    donor.save_weights(tmp_path / "top.weights.h5")
    net = backbone("vgg16", classes=3, shape=(32, 32, 1), weights=str(tmp_path / "top.weights.h5"))
    for name in ("block5_conv3", "fc1", "fc2"):
        expected = donor.get_layer(name).get_weights()
        for found, value in zip(
            net.get_layer("backbone").get_layer(name).get_weights(), expected, strict=True
        ):
            np.testing.assert_array_equal(found, value)


def test_a_file_of_the_same_network_for_other_classes(tmp_path: Path) -> None:
    donor, path = backbone("vgg16", classes=3, shape=(32, 32, 1), weights="none"), tmp_path / "run.weights.h5"
    donor.save_weights(path)
    net = backbone("vgg16", classes=5, shape=(32, 32, 1), weights=str(path))
    bodies = [model.get_layer("backbone").weights for model in (net, donor)]
    assert len(bodies[0]) > 20
    for found, expected in zip(*bodies, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    other = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(IntegrityError, match="other-network: the file has"):
        backbone("vgg16", classes=3, shape=(32, 32, 1), weights=str(tmp_path / "other.weights.h5"))


# --- other networks, and what cannot be -----------------------------------------------------------


def test_any_network_of_keras_sees_three_equal_colours_prepared_as_it_asks_for() -> None:
    net = backbone("mobilenetv2", classes=3, shape=(32, 32, 1), weights="none", unfreeze=2)
    pictures = np.random.default_rng(5).random((2, 32, 32, 1)).astype("float32")
    colours = np.repeat(pictures * 255, 3, axis=-1) / 127.5 - 1  # MobileNet takes -1 to 1
    features = net.get_layer("backbone")(colours)
    np.testing.assert_allclose(net(pictures), net.get_layer("head")(features), rtol=1e-4, atol=1e-6)
    # its last two convolutions, 160 -> 320 of the last inverted residual and 320 -> 1280, and the head
    assert trainable(net) == 960 * 320 + 320 * 1280 + 3 * 1281


def test_statistics_bring_the_pictures_to_those_of_imagenet() -> None:
    net = backbone("MobileNetV2", classes=3, shape=(32, 32, 1), weights="none", statistics=(0.4, 0.1))
    gray = np.full((1, 32, 32, 1), 0.5, "float32")  # one deviation above the mean
    colours = np.full((1, 32, 32, 3), (0.449 + 0.226) * 255 / 127.5 - 1, "float32")
    expected = net.get_layer("head")(net.get_layer("backbone")(colours))
    np.testing.assert_allclose(net(gray), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"name": "vgg17"}, r"--model: unknown-name: there is no 'vgg17' → give one of: vgg16, .*"),
        ({"shape": (31, 64, 1)}, r"shape: bad-shape: .*"),
        ({"shape": (64, 64, 3)}, r"shape: bad-shape: .*"),
        ({"name": "InceptionV3"}, r"InceptionV3: bad-shape: Input size must be at least 75x75.*"),
        ({"preset": "covidnet"}, r"preset: unknown-name: .*"),
        ({"name": "MobileNetV2", "preset": PRESET_2022}, r"--model: unknown-name: .*"),
        ({"statistics": (0.5, 0.0)}, r"statistics: bad-value: .*"),
        ({"name": "resnet50", "weights": "imagenet", "preset": PRESET_2022}, r"--weights: no-weights: .*"),
        ({"weights": "missing.h5"}, r"missing.h5: no-weights: there is no such file .*"),
    ],
)
def test_what_cannot_be_is_refused(
    options: dict[str, object], line: str, refusal: Callable[..., tuple]
) -> None:
    given = {"name": "densenet121", "classes": 3, "shape": (32, 32, 1), "weights": "none", **options}
    name = given.pop("name")
    problems = refusal(ConfigError, lambda: backbone(name, **given))
    assert [str(problem) for problem in problems if not re.fullmatch(line, str(problem))] == []


def test_densenet161_has_no_weights_in_keras() -> None:
    with pytest.raises(ConfigError, match=r"no-weights: Keras has no ImageNet weights for this form"):
        backbone("densenet161", classes=3, shape=(32, 32, 1))


def test_without_a_connection_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise Exception("URL fetch failure on https://…")  # noqa: TRY002 - what Keras raises

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fail)
    with pytest.raises(ResourceError, match=r"no-weights: URL fetch failure .* → give `--weights FILE`"):
        backbone("densenet121", classes=3, shape=(32, 32, 1))
