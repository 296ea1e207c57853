import hashlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

from model.sononet import BLOCKS, Standardise, encoder, freeze, sononet
from model.weights import load_weights
from pipeline.errors import ConfigError

ROOT = Path(__file__).parents[2]
PICTURE, WINDOW = (32, 32, 1), (5, 32, 32, 1)
SHAPES = {"2d": PICTURE, "3d": WINDOW, "2+1d": WINDOW}


def trainable(net: keras.Model) -> int:
    """What PyTorch counts as parameters: everything but the moving statistics."""
    return sum(int(np.prod(weight.shape)) for weight in net.trainable_weights)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


# --- parameters and shapes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "mid_channels", "counts"),
    [
        ("2d", "cout", (930_334, 3_715_630, 14_851_150)),
        ("3d", "cout", (2_769_214, 11_070_574, 44_269_774)),
        ("2+1d", "cout", (1_276_189, 5_094_381, 20_357_005)),
        ("2+1d", "formula", (2_775_235, 11_081_431, 44_290_493)),
    ],
)
def test_parameters_count_as_in_the_original(kind: str, mid_channels: str, counts: tuple[int, ...]) -> None:
    for features, count in zip((16, 32, 64), counts, strict=True):
        net = sononet(kind, features=features, shape=SHAPES[kind], mid_channels=mid_channels)
        assert trainable(net) == count


def test_the_released_weights_have_as_many_parameters() -> None:
    assert trainable(sononet("2d", features=16, classes=14, shape=PICTURE)) == 930_796


@pytest.mark.parametrize(
    ("kind", "shape", "features"),
    [
        ("2d", (256, 256, 1), (16, 16, 16)),
        ("2d", (288, 224, 1), (18, 14, 16)),
        ("2d", (17, 31, 1), (1, 1, 16)),
        ("3d", (5, 64, 48, 1), (1, 4, 3, 16)),
        ("2+1d", (10, 32, 32, 1), (6, 2, 2, 16)),
    ],
)
def test_pictures_are_halved_four_times_and_windows_lose_four_frames(
    kind: str, shape: tuple[int, ...], features: tuple[int, ...]
) -> None:
    net = sononet(kind, features=2, classes=3, shape=shape)
    assert net.input_shape == (None, *shape)
    assert encoder(net).output_shape == (None, *features)
    assert net.output_shape == (None, 3)


@pytest.mark.parametrize("kind", SHAPES)
def test_it_gives_probabilities_or_logits(kind: str) -> None:
    shape = SHAPES[kind]
    keras.utils.set_random_seed(0)
    net = sononet(kind, features=2, shape=shape)
    logits = sononet(kind, features=2, shape=shape, activation=None)
    logits.set_weights(net.get_weights())
    found, raw = (each.predict(noise(3, *shape), verbose=0).astype(float) for each in (net, logits))
    np.testing.assert_allclose(found, np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True), rtol=1e-5)
    assert np.abs(raw).max() > 1e-3


def test_scores_are_float32_under_mixed_precision() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        net = sononet("3d", features=2, shape=WINDOW, standardise=True)
    finally:
        keras.config.set_dtype_policy("float32")
    assert net.get_layer("stack1_conv1").compute_dtype == "float16"
    found = net.predict(noise(2, *WINDOW), verbose=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(("kind", "signs"), [("2d", {-1, 1}), ("3d", {-1, 1}), ("2+1d", {0, 1})])
def test_only_the_factored_network_ends_with_a_relu(kind: str, signs: set[int]) -> None:
    net = sononet(kind, features=2, shape=SHAPES[kind])
    head = next(layer for layer in reversed(net.layers) if layer.name.endswith("_bn"))
    gamma, _, *moving = head.get_weights()
    head.set_weights([gamma, np.linspace(-9, 9, len(gamma)), *moving])
    maps = keras.Model(net.input, net.get_layer("average").input)(noise(2, *SHAPES[kind]))
    assert set(np.sign(np.asarray(maps)).ravel()) == signs


def test_class_maps_are_dropped_in_training_of_pictures_alone() -> None:
    nets = {kind: sononet(kind, features=2, shape=shape) for kind, shape in SHAPES.items()}
    rates = {
        kind: [layer.rate for layer in net.layers if isinstance(layer, keras.layers.Dropout)]
        for kind, net in nets.items()
    }
    assert rates == {"2d": [0.25], "3d": [], "2+1d": []}


def test_kernels_begin_as_in_the_original() -> None:
    net = sononet("3d", features=16, shape=WINDOW)
    he = np.sqrt(6 / (27 * 128))  # of 27 pixels in 128 channels
    (kernel,) = net.get_layer("stack5_conv2").get_weights()
    assert 0.999 * he < kernel.max() <= he
    assert kernel.std() == pytest.approx(he / np.sqrt(3), rel=0.01)
    xavier = np.sqrt(6 / (64 + 7))
    (last,) = net.get_layer("adapt2").get_weights()
    assert 0.9 * xavier < last.max() <= xavier
    assert {
        tuple(map(float, map(np.mean, layer.get_weights()))) for layer in net.layers if "_bn" in layer.name
    } == {(1, 0, 0, 1)}


# --- frozen blocks ------------------------------------------------------------------------------


@pytest.mark.parametrize(("blocks", "left"), [(0, 930_334), (1, 930_158), (2, 927_822), (13, 8_782)])
def test_the_first_blocks_can_be_frozen(blocks: int, left: int) -> None:
    net = sononet("2d", features=16, shape=PICTURE)
    freeze(net, blocks)
    assert trainable(net) == left


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHAPES)
def test_what_is_frozen_stays_in_training_and_the_rest_moves(kind: str) -> None:
    net = sononet(kind, features=2, shape=SHAPES[kind])
    freeze(net, 4)
    before = {layer.name: layer.get_weights() for layer in net.layers if layer.weights}
    net.compile("sgd", "categorical_crossentropy")
    net.fit(noise(4, *SHAPES[kind]), np.eye(7)[[0, 1, 2, 3]], verbose=0)
    assert {name[:6] for name in before} >= {f"stack{number}" for number in range(1, 6)}
    for name, weights in before.items():
        same = all(map(np.array_equal, weights, net.get_layer(name).get_weights()))
        assert same == name.startswith(("stack1", "stack2")), name


@pytest.mark.parametrize("blocks", [-1, len(BLOCKS) + 1])
def test_another_number_of_blocks_is_refused(blocks: int) -> None:
    with pytest.raises(ConfigError, match="from 0 to 13"):
        freeze(sononet("2d", features=2, shape=PICTURE), blocks)


# --- what cannot be built -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "match"),
    [
        ("4d", {}, "kind: bad-value: '4d' is not known → give 2d or 3d or 2\\+1d"),
        ("3d", {"mid_channels": "many"}, "mid_channels: bad-value"),
        ("2d", {"features": 0}, "features: bad-value"),
        ("2d", {"classes": 0}, "classes: bad-value"),
        ("2d", {"shape": WINDOW}, "not the shape of a sample of the 2d network"),
        ("3d", {"shape": PICTURE}, "not the shape of a sample of the 3d network"),
        ("2d", {"shape": (32, 32, 3)}, "not the shape"),
        ("2d", {"shape": (15, 32, 1)}, "too few pixels"),
        ("3d", {"shape": (5, 32, 15, 1)}, "too few pixels"),
        ("3d", {"shape": (4, 32, 32, 1)}, "too few frames"),
        ("2+1d", {"shape": (4, 32, 32, 1)}, "too few frames"),
    ],
)
def test_what_cannot_be_built_is_told_in_a_line(kind: str, options: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        sononet(kind, **{"features": 2, "shape": SHAPES.get(kind, PICTURE), **options})
    assert "\n" not in str(caught.value)


# --- standardised pictures ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 20, 24, 1), (2, 5, 20, 24, 1)])
def test_each_picture_is_standardised_by_itself(shape: tuple[int, ...]) -> None:
    pictures = noise(*shape).astype(float) * np.arange(1, shape[0] + 1).reshape(-1, *[1] * (len(shape) - 1))
    each = pictures.reshape(-1, 20 * 24)
    expected = 255 * (each - each.mean(axis=1, keepdims=True)) / each.std(axis=1, keepdims=True)
    found = np.asarray(Standardise()(pictures.astype("float32")))
    np.testing.assert_allclose(found, expected.reshape(shape), atol=0.01)


def test_a_picture_of_one_value_is_standardised_to_0() -> None:
    np.testing.assert_array_equal(
        Standardise()(np.full((1, 4, 4, 1), 0.5, "float32")), np.zeros((1, 4, 4, 1))
    )


# --- against the original programs --------------------------------------------------------------


def channels_last(values: np.ndarray) -> np.ndarray:
    return np.moveaxis(values, 1, -1)


@pytest.mark.parametrize("layout", ["", "-old"])
@pytest.mark.parametrize("inputs", ["random", "randn255", "image", "malga_norm"])
def test_pictures_get_the_logits_of_the_original(shared: Path, inputs: str, layout: str) -> None:
    oracle = np.load(shared / "oracle/sononet2d16-dev.npz")
    found = {"image": "image_inputs", "malga_norm": "malga_norm_inputs"}.get(inputs, f"{inputs}_input")
    pictures, expected = channels_last(oracle[found]), oracle[f"{inputs}_logits"]
    net = sononet("2d", features=16, classes=14, shape=pictures.shape[1:], activation=None)
    load_weights(net, shared / f"oracle/weights/SonoNet2D-16-FetalDB{layout}.pth")
    logits = net.predict(pictures, verbose=0)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(logits.argmax(axis=1), expected.argmax(axis=1))


def test_standardised_in_the_network_a_picture_of_any_scale_gets_the_same_logits(shared: Path) -> None:
    oracle = np.load(shared / "oracle/sononet2d16-dev.npz")
    gray = channels_last(oracle["image_inputs"]) / 1000 + 0.5
    net = sononet("2d", features=16, classes=14, shape=(288, 224, 1), activation=None, standardise=True)
    load_weights(net, shared / "oracle/weights/SonoNet2D-16-FetalDB.pth")
    logits = net.predict(gray, verbose=0)
    np.testing.assert_allclose(logits, oracle["image_logits"], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(logits.argmax(axis=1), oracle["image_pred_index"])


@pytest.mark.slow
@pytest.mark.parametrize("length", [5, 10])
@pytest.mark.parametrize(("kind", "weights"), [("3d", "SonoNet3D"), ("2+1d", "SonoNet2p1D")])
def test_windows_get_the_logits_of_the_original(shared: Path, kind: str, weights: str, length: int) -> None:
    oracle = np.load(shared / f"oracle/{weights.lower()}16.npz")
    window = np.random.RandomState({5: 0, 10: 1}[length]).rand(1, 1, length, 256, 256).astype("float32")
    assert hashlib.sha256(window.tobytes()).hexdigest() == str(oracle[f"t{length}_input_sha256"])
    net = sononet(kind, features=16, shape=(length, 256, 256, 1), activation=None)
    load_weights(net, shared / f"oracle/weights/{weights}-16-seed1.pth")
    logits = net.predict(channels_last(window), verbose=0)
    np.testing.assert_allclose(logits, oracle[f"t{length}_logits"], rtol=0, atol=1e-4)


# --- another backend ----------------------------------------------------------------------------

ON_JAX = """
import sys
import numpy as np
from model.sononet import sononet
from model.sononet_augment import SonoNetAugmentation
given = np.load(sys.argv[1])
for kind in ("2d", "3d", "2+1d"):
    samples = given[f"{kind} samples"]
    net = sononet(kind, features=2, shape=samples.shape[1:], standardise=True)
    net.set_weights([given[f"{kind} {number}"] for number in range(len(net.weights))])
    np.testing.assert_allclose(net.predict(samples, verbose=0), given[f"{kind} scores"], atol=1e-5)
    assert np.ptp(SonoNetAugmentation(seed=0)(samples, training=True)) > 0
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_on_jax_the_scores_are_the_same(tmp_path: Path) -> None:
    given: dict[str, np.ndarray] = {}
    for kind, shape in SHAPES.items():
        net = sononet(kind, features=2, shape=shape, standardise=True)
        given |= {f"{kind} {number}": value for number, value in enumerate(net.get_weights())}
        given |= {f"{kind} samples": noise(3, *shape)}
        given |= {f"{kind} scores": net.predict(given[f"{kind} samples"], verbose=0)}
    np.savez(tmp_path / "given.npz", **given)
    call = [sys.executable, "-c", ON_JAX, tmp_path / "given.npz"]
    done = subprocess.run(
        call, env={**os.environ, "KERAS_BACKEND": "jax"}, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
