"""Grad-CAM of slices, beside what can be worked out without a gradient."""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from model.backbones import backbone
from model.grad_cam import slice_heat
from pipeline.errors import ConfigError


def picture(size: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((size, size), dtype=np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "last"), [("resnet50", "conv5_block3_out"), ("mobilenetv2", "out_relu")])
def test_behind_a_mean_the_weights_are_those_of_the_head(name: str, last: str) -> None:
    """The score is linear in the maps' means, so that equation 1 gives the head's weights / pixels."""
    net = backbone(name, classes=3, shape=(96, 96, 1), weights="none", statistics=(0.5, 0.25))
    head, body, image = net.get_layer("head"), net.get_layer("backbone"), picture(96)
    kernel = (
        np.random.default_rng(1).random(head.kernel.shape) - 0.4
    )  # more of it speaks for a class than against
    head.set_weights([kernel, np.zeros(3)])
    frames = image[None, ..., None]
    for layer in net.layers[1:-2]:
        frames = layer(frames)
    maps = np.asarray(keras.Model(body.input, body.get_layer(last).output)(frames))[0]
    heat = np.maximum(maps @ kernel[:, 1].astype("float32"), 0)
    expected = np.asarray(keras.ops.image.resize(heat[..., None], (96, 96), interpolation="bilinear"))[..., 0]
    found = slice_heat(net, image, label=1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected / expected.max(), atol=1e-3)


def test_vgg_is_looked_at_before_its_last_pooling() -> None:
    """Equation 1 by differences: each map of block5_conv3 a little up, and a little down."""
    keras.utils.set_random_seed(0)
    net = backbone("vgg16", classes=2, shape=(32, 32, 1), weights="none")
    body, image = net.get_layer("backbone"), picture(32)
    maps = np.asarray(keras.Model(body.input, body.get_layer("block5_conv3").output)(image[None, ..., None]))
    after = keras.Model(body.get_layer("block5_pool").input, body.output)
    step = 0.01 * maps.max() * np.eye(512, dtype="float32")[:, None, None]
    kernel = net.get_layer("head").get_weights()[0][:, 0]
    up, down = (np.asarray(after.predict(maps + sign * step, verbose=0)) @ kernel for sign in (1, -1))
    heat = np.maximum(maps[0] @ (up - down), 0)
    expected = np.asarray(keras.ops.image.resize(heat[..., None], (32, 32), interpolation="bilinear"))[..., 0]
    np.testing.assert_allclose(slice_heat(net, image, label=0), expected / expected.max(), atol=0.02)


def bright_net() -> keras.Model:
    """A network of a user's own: class 1 is how bright the picture is."""
    sample = keras.Input((16, 16, 1))
    maps = keras.layers.Conv2D(1, 1, use_bias=False, name="maps")(sample)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    net = keras.Model(sample, keras.layers.Dense(2, activation="softmax")(pooled))
    net.set_weights([np.ones((1, 1, 1, 1)), np.array([[-1.0, 1.0]]), np.zeros(2)])
    return net


def test_the_heat_lies_where_the_class_is_seen() -> None:
    image = np.zeros((16, 16), np.float32)
    image[3:6, 8:12] = 0.5
    np.testing.assert_allclose(slice_heat(bright_net(), image, label=1), image * 2, atol=1e-6)
    assert slice_heat(bright_net(), image, label=0).max() == 0


def test_a_network_without_maps_or_head_is_refused() -> None:
    sample = keras.Input((16, 16, 1))
    flat = keras.layers.Flatten()(sample)
    with pytest.raises(ConfigError, match="no-maps"):
        slice_heat(keras.Model(sample, keras.layers.Dense(2)(flat)), picture(16), label=0)
    with pytest.raises(ConfigError, match="no-head: its last layer is a Flatten"):
        slice_heat(keras.Model(sample, flat), picture(16), label=0)
