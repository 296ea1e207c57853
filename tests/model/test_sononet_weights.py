from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
from pth_files import write_legacy, write_zip

from model.sononet import sononet
from model.weights import load_body, load_weights, save_weights
from pipeline.errors import ConfigError, IntegrityError, VipttError

SHAPES = {"2d": (16, 16, 1), "3d": (5, 16, 16, 1), "2+1d": (5, 16, 16, 1)}
# Features 2: channels in and out of each convolution, its number in the two layouts.
CONVOLUTIONS = [
    (1, 2, "0", "0.0"),
    (2, 2, "1", "0.1"),
    (2, 4, "3", "1.0"),
    (4, 4, "4", "1.1"),
    (4, 8, "6", "2.0"),
    (8, 8, "7", "2.1"),
    (8, 8, "8", "2.2"),
    (8, 16, "10", "3.0"),
    (16, 16, "11", "3.1"),
    (16, 16, "12", "3.2"),
    (16, 16, "14", "4.0"),
    (16, 16, "15", "4.1"),
    (16, 16, "16", "4.2"),
]

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def block(prefixes: tuple[str, str], shape: tuple[int, ...]) -> Shapes:
    yield f"{prefixes[0]}.weight", shape
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{prefixes[1]}.{part}", shape[:1]
    yield f"{prefixes[1]}.num_batches_tracked", ()


def factored(prefix: str, before: int, after: int, size: int) -> Shapes:
    yield from block((f"{prefix}.spatial_conv.0", f"{prefix}.spatial_conv.1"), (after, before, 1, size, size))
    yield from block((f"{prefix}.temporal_conv.0", f"{prefix}.temporal_conv.1"), (after, after, size, 1, 1))


def names_and_shapes(kind: str, classes: int, *, old: bool) -> Shapes:
    body, head = ("features", "adaption") if old else ("_features", "_adaptation")
    axes = 2 if kind == "2d" else 3
    for before, after, new, previous in CONVOLUTIONS:
        prefix = f"{body}.{previous if old else new}"
        if kind == "2+1d":
            yield from factored(f"{prefix}.0", before, after, 3)
        else:
            yield from block((f"{prefix}.0", f"{prefix}.1"), (after, before, *[3] * axes))
    if kind == "2+1d":
        yield from factored(f"{head}.0", 16, 8, 1)
        yield from factored(f"{head}.1", 8, classes, 1)
    else:
        yield from block((f"{head}.0", f"{head}.1"), (8, 16, *[1] * axes))
        yield from block((f"{head}.3", f"{head}.4"), (classes, 8, *[1] * axes))


def tensors(kind: str = "2d", classes: int = 3, *, old: bool = False, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: np.array(5, "i8") if name.endswith("tracked") else rng.random(shape, dtype=np.float32) + 0.5
        for name, shape in names_and_shapes(kind, classes, old=old)
    }


def net_for(kind: str = "2d", classes: int = 3) -> keras.Model:
    return sononet(kind, features=2, classes=classes, shape=SHAPES[kind], activation=None)


def weights_by_layer(net: keras.Model) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in net.layers if layer.weights}


def unequal(a: Mapping[str, list[np.ndarray]], b: Mapping[str, list[np.ndarray]]) -> list[str]:
    return [name for name in a if not all(map(np.array_equal, a[name], b[name]))]


# --- what loads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SHAPES)
def test_every_tensor_arrives_in_its_place(tmp_path: Path, kind: str) -> None:
    net, given = net_for(kind), tensors(kind)
    load_weights(net, write_zip(tmp_path / "a.pth", given))
    values = [value for name, value in given.items() if not name.endswith("tracked")]
    # The layers stand in the order of the file; of kernels, the first two axes become the last.
    assert len(values) == len(net.weights)
    for value, weight in zip(values, net.weights, strict=True):
        order = [*range(2, value.ndim), 1, 0] if value.ndim > 1 else [0]
        np.testing.assert_array_equal(weight.numpy(), value.transpose(order), err_msg=weight.path)


def test_a_few_places_by_name(tmp_path: Path) -> None:
    net, given = net_for(), tensors()
    load_weights(net, write_zip(tmp_path / "a.pth", given))
    kernel, normalisation = net.get_layer("stack2_conv1"), net.get_layer("stack5_conv3_bn")
    assert kernel.get_weights()[0][0, 2, 1, 3] == given["_features.3.0.weight"][3, 1, 0, 2]
    np.testing.assert_array_equal(normalisation.moving_variance, given["_features.16.1.running_var"])
    np.testing.assert_array_equal(normalisation.gamma, given["_features.16.1.weight"])
    np.testing.assert_array_equal(net.get_layer("adapt2_bn").beta, given["_adaptation.4.bias"])


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_the_old_names_set_the_same_weights(tmp_path: Path, write: type[write_zip]) -> None:
    new, old = net_for(), net_for()
    load_weights(new, write(tmp_path / "new.pth", tensors()))
    given = {name: value for name, value in tensors(old=True).items() if not name.endswith("tracked")}
    load_weights(old, write(tmp_path / "old.pth", given))
    assert unequal(weights_by_layer(new), weights_by_layer(old)) == []


@pytest.mark.parametrize("kind", SHAPES)
def test_what_viptt_saves_loads(tmp_path: Path, kind: str) -> None:
    net, other = net_for(kind), net_for(kind)
    save_weights(net, tmp_path / "a.weights.h5")
    load_weights(other, tmp_path / "a.weights.h5")
    assert unequal(weights_by_layer(net), weights_by_layer(other)) == []


# --- other classes ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SHAPES)
def test_for_other_classes_the_last_convolution_begins_anew(tmp_path: Path, kind: str) -> None:
    keras.utils.set_random_seed(0)
    same, net = net_for(kind, 14), net_for(kind, 7)
    path = write_zip(tmp_path / "a.pth", tensors(kind, 14))
    load_weights(same, path)
    load_weights(net, path)
    ours, theirs = weights_by_layer(net), weights_by_layer(same)
    last = [name for name in ours if name.startswith("adapt2")]
    assert unequal({name: ours[name] for name in ours if name not in last}, theirs) == []
    for name in last:
        if name.endswith("_bn"):
            np.testing.assert_array_equal(ours[name], np.outer([1, 0, 0, 1], np.ones(7)))
        else:
            assert ours[name][0].std() > 0
    samples = np.random.default_rng(0).random((2, *SHAPES[kind]))
    assert np.ptp(net.predict(samples, verbose=0)) > 0


def test_the_preset_makes_every_logit_begin_at_0(tmp_path: Path) -> None:
    net = net_for(classes=7)
    load_weights(net, write_zip(tmp_path / "a.pth", tensors(classes=14)), preset="sononet-2025")
    assert not np.any(net.get_layer("adapt2_bn").get_weights())
    (kernel,) = net.get_layer("adapt2").get_weights()
    assert 0.5 < np.abs(kernel).max() <= np.sqrt(6 / 8)
    assert not net.predict(np.random.default_rng(0).random((2, *SHAPES["2d"])), verbose=0).any()


def test_for_the_same_classes_the_preset_changes_nothing(tmp_path: Path) -> None:
    net, other, path = net_for(), net_for(), write_zip(tmp_path / "a.pth", tensors())
    load_weights(net, path)
    load_weights(other, path, preset="sononet-2025")
    assert unequal(weights_by_layer(net), weights_by_layer(other)) == []


@pytest.mark.parametrize("classes", [3, 14])
def test_of_the_body_alone_the_head_stays(tmp_path: Path, classes: int) -> None:
    net = net_for()
    before = weights_by_layer(net)
    load_body(net, write_zip(tmp_path / "a.pth", tensors(classes=classes)))
    after = weights_by_layer(net)
    assert set(before) - set(unequal(before, after)) == {"adapt2", "adapt2_bn"}


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 7])
@pytest.mark.parametrize("kind", SHAPES)
def test_what_viptt_saves_gives_its_body_also_for_other_classes(
    tmp_path: Path, kind: str, classes: int
) -> None:
    donor, net = net_for(kind, classes), net_for(kind)
    save_weights(donor, tmp_path / "a.weights.h5")
    before, given = weights_by_layer(net), weights_by_layer(donor)
    load_body(net, tmp_path / "a.weights.h5")
    after = weights_by_layer(net)
    head = {name for name in after if name.startswith("adapt2")}
    assert unequal({name: after[name] for name in head}, before) == []
    assert unequal({name: after[name] for name in after if name not in head}, given) == []
    assert {name for name in unequal(before, after) if not name.endswith("_bn")} == {
        name for name in after if name not in head and not name.endswith("_bn")
    }


def test_weights_of_another_kind_give_no_body(tmp_path: Path) -> None:
    save_weights(net_for("2d", 7), tmp_path / "a.weights.h5")
    with pytest.raises(IntegrityError, match="other-network"):
        load_body(net_for("3d"), tmp_path / "a.weights.h5")


def test_the_weights_of_the_fetal_database_serve_seven_classes(shared: Path) -> None:
    net = sononet("2d", features=16, shape=(288, 224, 1), activation=None, standardise=True)
    load_weights(net, shared / "oracle/weights/SonoNet2D-16-FetalDB.pth")
    features = net.get_layer("stack5_conv3_relu").output
    oracle = np.load(shared / "oracle/sononet2d16-dev.npz")
    found = keras.Model(net.input, features).predict(
        np.moveaxis(oracle["image_inputs"], 1, -1)[:1], verbose=0
    )
    np.testing.assert_allclose(np.moveaxis(found, -1, 1), oracle["image0_features_last"], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(net.get_layer("adapt2_bn").moving_variance, np.ones(7))


# --- what is refused ----------------------------------------------------------------------------


def changed(name: str, value: np.ndarray | None) -> dict[str, np.ndarray]:
    return {key: kept for key, kept in {**tensors(), name: value}.items() if kept is not None}


NAN = np.full((4, 2, 3, 3), np.nan, "f4")


@pytest.mark.parametrize(
    ("given", "code", "match"),
    [
        (changed("_features.3.0.weight", None), "other-network", "it lacks _features.3.0.weight"),
        (changed("_adaptation.4.weight", None), "other-network", "it lacks _adaptation.4.weight"),
        (changed("fc.weight", np.zeros(3)), "other-network", "the network lacks fc.weight"),
        (changed("_features.3.0.weight", np.zeros((2, 4, 3, 3))), "other-network", r"\(2, 4, 3, 3\)"),
        (
            changed("_features.3.0.weight", np.zeros(4)),
            "other-network",
            r"\(4,\); the network has \(4, 2, 3, 3",
        ),
        (changed("_features.0.1.weight", np.array(1.0)), "other-network", r"the shape \(\)"),
        (changed("_adaptation.3.weight", np.zeros((14, 8, 1, 1))), "other-network", r"\(14, 8, 1, 1\)"),
        (changed("_features.3.0.weight", NAN), "non-finite", "_features.3.0.weight holds NaN"),
        (changed("_features.0.1.bias", np.array([0, 1e300])), "non-finite", "_features.0.1.bias"),
        (tensors("3d"), "other-network", "the network has"),
        (tensors("2+1d"), "other-network", "it lacks"),
        ({"a": np.zeros(3)}, "other-network", "it lacks _adaptation.0.weight and 74 more"),
    ],
)
def test_another_network_is_refused_and_nothing_is_changed(
    tmp_path: Path, given: dict[str, np.ndarray], code: str, match: str
) -> None:
    net = net_for()
    before = weights_by_layer(net)
    with pytest.raises(IntegrityError, match=match) as caught:
        load_weights(net, write_zip(tmp_path / "a.pth", given))
    assert [problem.code for problem in caught.value.problems] == [code]
    assert unequal(before, weights_by_layer(net)) == []


def test_other_classes_excuse_nothing_else(tmp_path: Path) -> None:
    net = net_for(classes=7)
    with pytest.raises(IntegrityError, match="other-network"):
        load_weights(net, write_zip(tmp_path / "a.pth", {**tensors(), "_features.0.0.weight": np.zeros(2)}))


def test_a_missing_file_and_a_changed_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-weights"):
        load_weights(net_for(), tmp_path / "none.pth")
    path = write_zip(tmp_path / "a.pth", tensors())
    (tmp_path / "a.pth.sha256").write_text(f"{'0' * 64}  a.pth\n")
    with pytest.raises(IntegrityError, match="weights-changed"):
        load_weights(net_for(), path)


@pytest.mark.parametrize("preset", ["sononet", "viptt-2021"])
def test_another_preset_is_refused(tmp_path: Path, preset: str) -> None:
    with pytest.raises(ConfigError, match="preset: bad-value"):
        load_weights(net_for(), write_zip(tmp_path / "a.pth", tensors()), preset=preset)


def test_a_network_that_is_no_sononet_takes_no_such_file(tmp_path: Path) -> None:
    dense = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ConfigError, match="other-network: these are the weights of a SonoNet") as caught:
        load_weights(dense, write_zip(tmp_path / "a.pth", tensors()))
    assert isinstance(caught.value, VipttError)
