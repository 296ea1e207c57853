import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from model.network import viptt_net
from model.weights import load_weights, save_weights
from pipeline.errors import ConfigError, IntegrityError

RELEASED = Path(__file__).parents[3] / "shared/data/weights/ViPTT-Net-UCF50.h5"
SHAPE = (2, 8, 8, 1)


def small_net(classes: int = 3, units: int = 4) -> keras.Model:
    """Every kind of layer of the real network, small; the nested model included."""
    frame = keras.Input((8, 8, 3))
    inner = keras.Model(frame, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(5, 3)(frame)))
    volume = keras.Input(SHAPE)
    frames = keras.ops.reshape(keras.layers.Conv3D(3, 1)(volume), (-1, 8, 8, 3))
    sequence = keras.ops.reshape(inner(frames), (-1, 2, 5))
    state = keras.layers.LSTM(units, name="lstm")(sequence)
    return keras.Model(volume, keras.layers.Dense(classes, name="head")(state))


def same(a: keras.Model, b: keras.Model) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


def write_legacy(path: Path, net: keras.Model) -> None:
    """The layout of TensorFlow 2.4: a group per layer, arrays named in attributes."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = np.array([layer.name.encode() for layer in net.layers])
        for layer in net.layers:
            group = root.create_group(layer.name)
            names = [f"{layer.name}/{index}/kernel:0" for index in range(len(layer.weights))]
            group.attrs["weight_names"] = np.array([name.encode() for name in names], dtype="S")
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = weight.numpy()


# --- what loads ---------------------------------------------------------------------------------


def test_what_is_saved_loads(tmp_path: Path) -> None:
    net, other = small_net(), small_net()
    save_weights(net, tmp_path / "model.weights.h5")
    assert not same(net, other)
    load_weights(other, tmp_path / "model.weights.h5")
    assert same(net, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.weights.h5", "model.weights.h5.sha256"]


def test_a_legacy_file_loads_by_position_whatever_its_names(tmp_path: Path) -> None:
    net, other = small_net(), small_net()
    write_legacy(tmp_path / "old.h5", net)
    load_weights(other, tmp_path / "old.h5")
    assert same(net, other)


@pytest.mark.slow
def test_the_optimizer_of_a_foreign_file_is_ignored(tmp_path: Path) -> None:
    net, other = small_net(), small_net()
    net.compile("adam", "mse")
    net.fit(np.zeros((1, *SHAPE)), np.zeros((1, 3)), verbose=0)
    net.save_weights(tmp_path / "a.weights.h5")
    load_weights(other, tmp_path / "a.weights.h5")
    assert same(net, other)


@pytest.mark.slow
@pytest.mark.skipif(not RELEASED.exists(), reason="the released file is not here")
def test_the_released_file_predicts_as_tensorflow_2_4_did() -> None:
    net = viptt_net(weights=None)
    load_weights(net, RELEASED)
    volume = np.random.RandomState(0).rand(1, 70, 224, 224, 1).astype("float32")
    expected = np.load(RELEASED.with_suffix(".expected.npy"))
    np.testing.assert_allclose(net.predict(volume, verbose=0), expected, rtol=0, atol=1e-6)


# --- what is refused ----------------------------------------------------------------------------


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-weights"):
        load_weights(small_net(), tmp_path / "none.weights.h5")


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_file_that_is_not_hdf5_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.weights.h5").write_bytes(content)
    with pytest.raises(IntegrityError, match="weights-unreadable"):
        load_weights(small_net(), tmp_path / "a.weights.h5")


def test_an_empty_hdf5_file_is_refused(tmp_path: Path) -> None:
    h5py.File(tmp_path / "a.h5", "w").close()
    with pytest.raises(IntegrityError, match="the file has nothing more; the network has conv3d"):
        load_weights(small_net(), tmp_path / "a.h5")


@pytest.mark.parametrize("legacy", [False, True])
def test_another_network_is_refused_and_both_are_named(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "a.weights.h5"
    (write_legacy(path, small_net(7)) if legacy else small_net(7).save_weights(path))
    net = small_net(6)
    before = net.get_weights()
    with pytest.raises(IntegrityError, match=r"other-network: the file has .*7.*; the network has head.*6"):
        load_weights(net, path)
    assert all(np.array_equal(x, y) for x, y in zip(before, net.get_weights(), strict=True))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_layer_too_many_is_refused(tmp_path: Path, legacy: bool) -> None:
    path, net = tmp_path / "a.weights.h5", small_net()
    longer = keras.Model(net.input, keras.layers.Dense(2, name="extra")(net.output))
    (write_legacy(path, longer) if legacy else longer.save_weights(path))
    with pytest.raises(IntegrityError, match="other-network"):
        load_weights(small_net(), path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, legacy: bool, value: float) -> None:
    path, net = tmp_path / "a.weights.h5", small_net()
    kernel = net.get_layer("lstm").weights[0]
    kernel.assign(np.where(np.arange(4 * 4) == 3, value, kernel.numpy()))
    (write_legacy(path, net) if legacy else net.save_weights(path))
    with pytest.raises(IntegrityError, match=r"non-finite: .*lstm"):
        load_weights(small_net(), path)


def test_arrays_outside_the_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(1000))
    path = tmp_path / "a.h5"
    write_legacy(path, small_net())
    with h5py.File(path, "a") as file:
        names = file["model_weights/head"].attrs["weight_names"]
        group, name = file["model_weights/head"], names[1].decode()
        del group[name]
        group.create_dataset(name, (3,), "f4", external=[(str(tmp_path / "secret"), 0, 12)])
    with pytest.raises(IntegrityError, match="outside-storage"):
        load_weights(small_net(), path)


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "a.h5", tmp_path / "b.h5"
    write_legacy(path, small_net())
    shutil.copyfile(path, other)
    with h5py.File(path, "a") as file:
        del file["model_weights/head"]
        file["model_weights/head"] = h5py.ExternalLink(str(other), "model_weights/head")
    with pytest.raises(IntegrityError, match="weights-unreadable"):
        load_weights(small_net(), path)


# --- the sidecar --------------------------------------------------------------------------------


def test_a_flipped_bit_is_found_by_the_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    save_weights(small_net(), path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="weights-changed"):
        load_weights(small_net(), path)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(6))
def test_killed_at_any_step_of_a_save_the_old_or_the_new_weights_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    old, new, path = small_net(), small_net(), tmp_path / "model.weights.h5"
    save_weights(old, path)
    calls = iter(range(100))
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        number = next(calls)
        if number == step // 2 and step % 2 == 0:
            raise Killed
        moved = real(self, target)
        if number == step // 2:
            raise Killed
        return moved

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(Killed):
        save_weights(new, path)
    monkeypatch.undo()
    found = small_net()
    load_weights(found, path)
    assert same(found, old) or same(found, new)
    for net in (old, new):  # and the next saves find their way
        save_weights(net, path)
        load_weights(found, path)
        assert same(found, net)


@pytest.mark.slow
def test_killed_fifty_times_in_a_save_the_last_good_weights_load(tmp_path: Path, seed: int) -> None:
    call = [sys.executable, Path(__file__).with_name("kills.py"), tmp_path, str(seed), "50"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    tries, last = [json.loads(line) for line in done.stdout.splitlines()], 0.0
    for attempt in tries:
        assert attempt["found"] in ([last], [attempt["number"]]), attempt  # never a mixture
        assert attempt["sidecar"], attempt
        (last,) = attempt["found"]
        assert attempt["killed"] or last == attempt["number"]
    assert sum(attempt["killed"] for attempt in tries) == 50
    assert last > 0  # some saves were done
