from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.network import freeze_backbone, rematerialized, small_net, viptt_net
from pipeline.errors import ConfigError, IntegrityError, ResourceError

SHAPE = (4, 32, 32, 1)


def trainable(net: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in net.trainable_weights)


def test_ten_classes_count_as_published() -> None:
    net = viptt_net(weights=None)
    assert net.count_params() == trainable(net) == 15_775_568
    freeze_backbone(net)
    assert net.count_params() == 15_775_568
    assert trainable(net) == 1_060_880


def test_five_classes_count_as_published() -> None:
    net = viptt_net(classes=5, weights="none")
    assert trainable(net) == 15_770_443
    assert net.input_shape == (None, 70, 224, 224, 1)
    assert net.output_shape == (None, 5)


def test_it_gives_probabilities() -> None:
    found = viptt_net(SHAPE, 3, weights=None).predict(np.random.default_rng(0).random((2, *SHAPE)), verbose=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_folding_time_equals_looking_at_each_frame_alone() -> None:
    net = viptt_net(SHAPE, 3, weights=None)
    volumes = np.random.default_rng(1).random((2, *SHAPE)).astype("float32")
    kernel, bias = net.get_layer("conv3d").get_weights()
    coloured = volumes * kernel[0, 0, 0] + bias
    features = np.stack([net.get_layer("backbone")(volume).numpy() for volume in coloured])
    state = net.get_layer("lstm")(features)
    expected = net.get_layer("head")(net.get_layer("dense")(state)).numpy()
    np.testing.assert_allclose(net(volumes).numpy(), expected, rtol=1e-5)


def test_the_order_of_slices_matters() -> None:
    net = viptt_net(SHAPE, 3, weights=None)
    volumes = np.random.default_rng(2).random((1, *SHAPE)).astype("float32")
    assert np.abs(net(volumes).numpy() - net(volumes[:, ::-1]).numpy()).max() > 0


def test_the_small_network_differs_in_its_backbone_alone() -> None:
    small, full = small_net(SHAPE, 3), viptt_net(SHAPE, 3, weights=None)
    assert [layer.name for layer in small.layers] == [layer.name for layer in full.layers]
    assert small.count_params() < 1_100_000
    with pytest.raises(ConfigError, match="not trained on ImageNet"):
        small_net(SHAPE, 3, weights="imagenet")


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9])
def test_rematerialized_the_gradients_are_the_same(frames: int) -> None:
    net = small_net(SHAPE, 3)
    volumes = np.random.default_rng(3).random((2, *SHAPE)).astype("float32")
    truth = np.eye(3, dtype="float32")[:2]

    def gradients(model: keras.Model) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            loss = keras.ops.sum(keras.losses.categorical_crossentropy(truth, model(volumes)))
        return tape.gradient(loss, net.trainable_weights)

    assert len(net.trainable_weights) > 3
    for found, expected in zip(gradients(rematerialized(net, frames=frames)), gradients(net), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("shape", [(4, 31, 32, 1), (4, 32, 16, 1)])
def test_small_frames_are_refused(shape: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="shape-too-small"):
        viptt_net(shape, 3, weights=None)


@pytest.mark.parametrize("shape", [(4, 64, 64), (0, 64, 64, 1), (4, 64, 64, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="bad-shape"):
        viptt_net(shape, 3, weights=None)


def test_a_file_gives_the_backbone_its_weights(tmp_path: Path) -> None:
    donor = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    donor.save_weights(tmp_path / "vgg.weights.h5")
    net = viptt_net(SHAPE, 3, weights=str(tmp_path / "vgg.weights.h5"))
    assert len(donor.weights) == 2 * 13
    for found, expected in zip(net.get_layer("backbone").weights, donor.weights, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_file_of_another_backbone_is_refused(tmp_path: Path) -> None:
    donor = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3)])
    donor.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(
        IntegrityError, match=r"other-network: the file has .*conv2d.* the network has block1"
    ):
        viptt_net(SHAPE, 3, weights=str(tmp_path / "other.weights.h5"))


def test_without_a_network_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise Exception("URL fetch failure on https://…")  # noqa: TRY002 - what Keras raises

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fail)
    with pytest.raises(ResourceError, match=r"no-weights: URL fetch failure .* → give `--weights FILE`"):
        viptt_net(SHAPE, 3)
