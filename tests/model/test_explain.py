from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from matplotlib.image import imread
from numpy.typing import NDArray

from model.depth_axis import DepthAxis
from model.explain import Explanation, explain, extract_features, grad_cam, occlusion
from model.network import small_net
from model.plots import draw_explanation

SHAPE = (6, 32, 40)
Net = Callable[[int], keras.Model]


@pytest.fixture
def net() -> Net:
    """Networks of random weights, the same for the same seed; the head's are large, so that slices matter."""

    def make(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        made = small_net((*SHAPE, 1), 3)
        head = made.get_layer("head")
        head.set_weights([np.random.default_rng(seed).normal(0, 0.5, (1024, 3)), np.zeros(3)])
        return made

    return make


def noise(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(SHAPE, dtype=np.float32)


def by_the_whole_network(made: keras.Model, volume: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Probabilities (depth, classes) with a window around each slice set to 0 in the volume itself."""
    emptied = []
    for centre in range(len(volume)):
        changed = volume.copy()
        first = centre - width // 2
        changed[max(0, first) : max(0, first + width)] = 0
        emptied.append(changed)
    return np.asarray(made(np.stack(emptied)[..., None]))


# --- occlusion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_emptied_features_are_those_of_emptied_slices(net: Net, width: int) -> None:
    made, volume = net(0), noise(1)
    whole = np.asarray(made(volume[None, ..., None]))[0]
    expected = whole - by_the_whole_network(made, volume, width)
    seen = extract_features(made, volume)
    found = np.stack([occlusion(made, seen, label=label, width=width) for label in range(3)], axis=1)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("planted", [0, 2, 5])
def test_the_only_slice_that_matters_is_found(net: Net, planted: int) -> None:
    made, volume = net(0), np.zeros(SHAPE, np.float32)
    volume[planted] = noise(1)[planted]
    bare, full = np.asarray(made(np.stack([volume * 0, volume])[..., None]))
    label = int((full - bare).argmax())
    assert full[label] - bare[label] > 1e-4
    kernel, bias = made.get_layer("head").get_weights()
    bias[label] += np.log(1.5 * full.max() / full[label])  # so that it is predicted
    made.get_layer("head").set_weights([kernel, bias])
    found = explain([made], volume)
    assert (found.label, found.decisive) == (label, planted)
    np.testing.assert_allclose(np.delete(found.drops, planted), 0, atol=1e-7)


def test_an_explanation_of_several_is_that_of_their_mean(net: Net) -> None:
    pair, volume = [net(0), net(1)], noise(2)
    mean = np.mean([np.asarray(made(volume[None, ..., None]))[0] for made in pair], axis=0)
    without = np.mean([by_the_whole_network(made, volume, 1) for made in pair], axis=0)
    found = explain(pair, volume)
    assert found.label == mean.argmax()
    assert found.probability == pytest.approx(mean.max(), abs=1e-5)
    np.testing.assert_allclose(found.drops, mean.max() - without[:, found.label], atol=1e-5)
    assert found.heat.shape == SHAPE[1:]
    assert 0 <= found.heat.min() <= found.heat.max() <= 1


# --- Grad-CAM -----------------------------------------------------------------------------------


def by_hand(head: NDArray[np.float64]) -> keras.Model:
    """A network whose gradients can be worked out: two feature maps, x and 1 - x, averaged over all."""
    frame = keras.Input((4, 5, 3))
    maps = layers.Conv2D(2, 1, activation="relu", name="maps")(frame)
    backbone = keras.Model(frame, layers.GlobalAveragePooling2D()(maps), name="backbone")
    volume = keras.Input((3, 4, 5, 1))
    coloured = layers.Conv3D(3, 1, name="conv3d")(volume)
    features = keras.ops.reshape(backbone(keras.ops.reshape(coloured, (-1, 4, 5, 3))), (-1, 3, 2))
    summary = layers.GlobalAveragePooling1D(name="lstm")(features)
    summary = layers.Dense(2, name="dense")(summary)
    net = keras.Model(volume, layers.Dense(2, activation="softmax", name="head")(summary))
    net.get_layer("conv3d").set_weights([np.ones((1, 1, 1, 1, 3)) / 3, np.zeros(3)])
    backbone.get_layer("maps").set_weights(
        [np.array([[[[1, -1]] * 3]]).reshape(1, 1, 3, 2), np.array([0, 1])]
    )
    net.get_layer("dense").set_weights([np.eye(2), np.zeros(2)])
    net.get_layer("head").set_weights([head, np.zeros(2)])
    return net


@pytest.mark.parametrize(("first", "second"), [(2.0, 0.5), (-0.5, 1.0), (1.0, -1.0)])
def test_the_heat_is_that_worked_out_by_hand(first: float, second: float) -> None:
    # score = sum over maps f of head[f] * mean over slices and pixels of maps[f], so every pixel's
    # gradient is head[f] / 60, and the heat is relu(first * x + second * (1 - x)) up to a factor.
    net = by_hand(np.array([[first, 9.0], [second, -9.0]]))
    volume = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    expected = np.maximum(0, first * volume[1] + second * (1 - volume[1]))
    found = grad_cam(net, extract_features(net, volume), volume, 1, label=0)
    np.testing.assert_allclose(found, expected / expected.max(), atol=1e-5)


def test_where_nothing_speaks_for_the_class_there_is_no_heat() -> None:
    net = by_hand(np.array([[-1.0, 1.0], [-1.0, 1.0]]))
    volume = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    assert grad_cam(net, extract_features(net, volume), volume, 0, label=0).max() == 0
    assert grad_cam(net, extract_features(net, volume), volume, 0, label=1).max() == pytest.approx(1)


def test_the_heat_follows_the_slopes_of_the_score(net: Net) -> None:
    """Grad-CAM's weights are slopes: here they are measured, by adding a little to each feature map."""
    made, volume, index, label, little = net(0), noise(3), 2, 1, 0.02
    seen, backbone = extract_features(made, volume), made.get_layer("backbone")
    activated = [layer for layer in backbone.layers if isinstance(layer, layers.Activation)][-1]
    frame = made.get_layer("conv3d")(volume[None, index : index + 1, ..., None])[0]
    maps = keras.Model(backbone.input, activated.output).predict(frame, verbose=0)[0]  # (2, 2, 64)
    kernel, bias = made.get_layer("head").get_weights()

    def scores(changed: NDArray[np.float32]) -> NDArray[np.float32]:
        sequences = np.repeat(seen.slices[None], len(changed), axis=0)
        sequences[:, index] = changed.max(axis=(1, 2))  # one pooling leaves one pixel
        summary = made.get_layer("dense")(made.get_layer("lstm")(sequences))
        return (np.asarray(summary) @ kernel + bias)[:, label]

    step = little * np.eye(64, dtype=np.float32)[:, None, None]
    slopes = (scores(maps + step) - scores(maps - step)) / (2 * little)
    coarse = np.maximum(0, maps @ slopes)
    assert coarse.max() > 0
    heat = grad_cam(made, seen, volume, index, label=label)
    assert heat.shape == SHAPE[1:]
    corners = heat[[0, 0, -1, -1], [0, -1, 0, -1]]  # resizing keeps them
    np.testing.assert_allclose(corners, (coarse / coarse.max()).ravel(), atol=0.03)


# --- the picture --------------------------------------------------------------------------------


def drawn(
    folder: Path, name: str, heat: NDArray[np.float32], drops: NDArray[np.float32], axis: DepthAxis
) -> NDArray[np.float32]:
    found = Explanation(1, 0.75, drops, 5, heat)
    draw_explanation(folder / "picture.png", noise(0), found, axis, f"{name}: Focal, probability 0.750")
    return imread(folder / "picture.png")


def differing(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.any(one != other, axis=-1)


SQUARE = np.pad(np.ones((10, 10), np.float32), ((10, 12), (10, 20)))
RISING = np.linspace(-0.2, 0.3, SHAPE[0], dtype=np.float32)


def test_a_picture_of_any_name(tmp_path: Path) -> None:
    axis = DepthAxis("slice", SHAPE[0])
    first, cold = (drawn(tmp_path, "plain", heat, RISING, axis) for heat in (SQUARE, SQUARE * 0))
    other = drawn(tmp_path, "$\\frac{$ 肺 _^", SQUARE, RISING, axis)
    assert first.shape == other.shape == (690, 1800, 4)
    assert differing(first, other).any()
    _, columns = np.nonzero(differing(first, cold))
    assert 1200 < columns.min() < columns.max() < 1800  # the decisive slice is at the right
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def test_ends_and_places_in_the_source_are_drawn(tmp_path: Path) -> None:
    plain = drawn(tmp_path, "a", SQUARE, RISING, DepthAxis("slice", SHAPE[0]))
    ends = drawn(tmp_path, "a", SQUARE, RISING, DepthAxis("slice", SHAPE[0], ends=("inferior", "superior")))
    assert differing(plain, ends)[:300, :1200].any()
    places = drawn(tmp_path, "a", SQUARE, RISING, DepthAxis("slice", SHAPE[0], 11, 2.5))
    assert differing(plain, places)[600:, :1200].any()  # an axis below that of the slices


def test_where_no_drop_is_more_than_noise_there_is_no_slice(tmp_path: Path) -> None:
    axis, still = DepthAxis("slice", SHAPE[0]), RISING * 0.01
    assert Explanation(1, 0.75, RISING, 5, SQUARE).lowers
    assert not Explanation(1, 0.75, still, 5, SQUARE).lowers
    image = drawn(tmp_path, "a", SQUARE, still, axis)[100:, 1250:, :3]
    assert np.ptp(image, axis=-1).max() == 0  # no colours, hence no heat, at the right
    assert image.min() < 0.5  # but a text
