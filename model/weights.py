"""Weight files: Keras 3's ``.weights.h5``, and the full-model ``.h5`` of Keras 2 as released in 2021.

A file is opened as data only. The network is built from code, and its arrays are compared with those
of the file before one is assigned: as many, of the same shapes, finite. A model is never
deserialised, links and storage outside the file are not followed.

A file that viptt wrote has its hash beside it, see ``model.sidecar``.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from model import sidecar
from model.sononet import HEAD
from model.sononet_weights import load_pth
from pipeline.errors import ConfigError, IntegrityError

Arrays = dict[str, h5py.Dataset]
OTHER_FILE = "give a weights file of this network, or train again"


def load_weights(model: keras.Model, path: str | Path, *, preset: str | None = None) -> None:
    """Set the weights of ``model`` from a ``.weights.h5`` file, or a legacy ``.h5`` by position.

    A path that ends in ``.pth`` is a SonoNet's, maybe for other classes; ``preset`` decides how the last
    convolution begins then (see ``load_pth``). Raises ConfigError if there is no such file,
    IntegrityError if it is of another format, is damaged, holds other layers or shapes than the model,
    or numbers that are not finite; the model is then unchanged.

    Examples:
        >>> from model.network import viptt_net
        >>> network = viptt_net((4, 32, 32, 1), classes=2, weights="none")
        >>> network.save_weights("mine.weights.h5")
        >>> load_weights(network, "mine.weights.h5")
    """
    path = _checked(path)
    if path.suffix == ".pth":
        load_pth(model, path, preset=preset)
        return
    with _opened(path) as file:
        legacy = file.get("model_weights", file)
        # Only Keras 2 writes this attribute.
        if "layer_names" in legacy.attrs:
            _assign(model, _legacy_arrays(path, legacy, model))
            return
        _check_shapes(path, model, _arrays(path, file.get("layers", {})))
    with _readable(path):
        model.load_weights(path)


def load_body(model: keras.Model, path: str | Path) -> None:
    """Set all layers of ``model`` but its head from a file of the same network, maybe for other classes.

    Raises as ``load_weights`` does, and ConfigError for a network of the user's whose head is not known.
    """
    path = _checked(path)
    if path.suffix == ".pth":
        load_pth(model, path, head=False)
        return
    head = _head(model)
    if not head:
        reason = f"the last layer of {model.name} has no classes to leave out"
        raise ConfigError.of(path, "no-head", reason, "give `--weights FILE` in place of `--init`")
    donor = _donor(model, path, _shapes_in(path))
    # All but the head: its size depends on the classes, and it is trained anew.
    for layer, source in zip(model.layers, donor.layers, strict=True):
        if layer.name not in head:
            layer.set_weights(source.get_weights())


def load_layer(model: keras.Model, name: str, path: str | Path) -> None:
    """Set one layer of ``model``, itself a network, from a file of that network alone or of a whole one.

    A whole one is the same network as ``model``, for as many classes or others. Raises as
    ``load_weights`` does.
    """
    layer, shapes = model.get_layer(name), _shapes_in(_checked(path))
    # As many arrays as the whole network has: then it is one, whatever its classes.
    if shapes.total() == len(model.weights):
        layer.set_weights(_donor(model, path, shapes).get_layer(name).get_weights())
    else:
        load_weights(layer, path)


def _checked(path: str | Path) -> Path:
    """The path of a weights file that is there, and has the hash that is written beside it."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError.of(path, "no-weights", "there is no such file", "give the path of a weights file")
    sidecar.check(path, remedy=OTHER_FILE)
    return path


def _shapes_in(path: Path) -> Counter[tuple[int, ...]]:
    with _opened(path) as file:
        arrays = _arrays(path, file.get("model_weights", file.get("layers", file)))
        return Counter(item.shape for name, item in arrays.items() if "seed_generator" not in name)


def _head(model: keras.Model) -> tuple[str, ...]:
    """Names of the layers that depend on the number of classes: a last dense one, or those of a SonoNet."""
    names = tuple(layer.name for layer in model.layers)
    if hasattr(model.layers[-1], "units"):
        return names[-1:]
    return tuple(name for name in names if name.startswith(HEAD))


def _donor(model: keras.Model, path: str | Path, shapes: Counter[tuple[int, ...]]) -> keras.Model:
    """A new network like ``model``, for the classes that a file holds, with the weights of the file."""
    donor = _with_head(model, _classes_in(shapes, model))
    load_weights(donor, path)
    return donor


def _classes_in(shapes: Counter[tuple[int, ...]], model: keras.Model) -> int:
    """Classes of the head among these shapes: the one length of vectors that the body does not have."""
    # Shapes alone decide, since layer names differ between versions of Keras.
    head = _head(model)
    body = Counter(tuple(w.shape) for layer in model.layers if layer.name not in head for w in layer.weights)
    biases = [shape[0] for shape in (shapes - body) if len(shape) == 1]
    return int(biases[0] if len(biases) == 1 else model.output_shape[-1])


def _with_head(model: keras.Model, classes: int) -> keras.Model:
    """A new network like ``model``, its head for ``classes``."""
    head, before = _head(model), model.output_shape[-1]

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        sizes = [name for name in ("units", "filters") if config.get(name) == before]
        if layer.name in head:
            config |= dict.fromkeys(sizes, classes)
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=copied)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    with _readable(path), h5py.File(path, "r") as file:
        yield file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the many errors with which HDF5 reports damage into one."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = f"not a sound HDF5 file: {error}"
        raise IntegrityError.of(path, "weights-unreadable", reason, OTHER_FILE) from error


def _arrays(path: Path, group: h5py.Group) -> Arrays:
    """Every array in a group by its path; links are not followed, odd storage is refused."""
    found: Arrays = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    if group:
        group.visititems(visit)
    for name, item in found.items():
        if item.external or item.is_virtual:
            raise IntegrityError.of(path, "outside-storage", f"{name} lies in another file", OTHER_FILE)
        if item.shape is None:  # what HDF5 calls a null dataspace
            raise IntegrityError.of(path, "weights-unreadable", f"{name} holds no array", OTHER_FILE)
    return found


def _finite(path: Path, name: str, item: h5py.Dataset) -> NDArray[np.float32]:
    values = np.asarray(item[()], dtype=np.float32)
    if not np.isfinite(values).all():
        raise IntegrityError.of(path, "non-finite", f"{name} holds NaN or infinity", OTHER_FILE)
    return values


# --- Keras 3 ------------------------------------------------------------------------------------


def _check_shapes(path: Path, model: keras.Model, arrays: Arrays) -> None:
    """Refuse a file whose arrays are not exactly the model's; Keras would ignore what is left over."""
    arrays = {name: item for name, item in arrays.items() if "seed_generator" not in name}
    # As multisets: Keras 3 numbers its layers anew in each process, so names mean little.
    in_file = Counter(item.shape for item in arrays.values())
    in_model = Counter(tuple(weight.shape) for weight in model.weights)
    if in_file != in_model:
        extra, lacking = in_file - in_model, in_model - in_file
        file_says = [f"{name} {item.shape}" for name, item in arrays.items() if item.shape in extra]
        model_says = [f"{w.path} {tuple(w.shape)}" for w in model.weights if tuple(w.shape) in lacking]
        raise _mismatch(path, file_says, model_says)
    for name, item in arrays.items():
        _finite(path, name, item)


def _mismatch(path: Path, file_says: Sequence[str], model_says: Sequence[str]) -> IntegrityError:
    reason = f"the file has {_few(file_says)}; the network has {_few(model_says)}"
    return IntegrityError.of(path, "other-network", reason, OTHER_FILE)


def _few(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + rest or "nothing more"


# --- Keras 2 ------------------------------------------------------------------------------------


def _legacy_arrays(path: Path, group: h5py.Group, model: keras.Model) -> list[NDArray[np.float32]]:
    """The arrays of a legacy file in the order of ``model.weights``, matched layer by layer."""
    in_file = _legacy_layers(path, group)
    in_model = [layer for layer in model.layers if layer.weights]
    if len(in_file) != len(in_model):
        names = [layer.name for layer in in_model]
        raise _mismatch(path, [f"layers {', '.join(in_file)}"], [f"layers {', '.join(names)}"])
    values: list[NDArray[np.float32]] = []
    for (name, arrays), layer in zip(in_file.items(), in_model, strict=True):
        shapes = [item.shape for item in arrays.values()]
        expected = [tuple(weight.shape) for weight in layer.weights]
        if shapes != expected:
            raise _mismatch(path, [f"{name} {shapes}"], [f"{layer.name} {expected}"])
        values += [_finite(path, array_name, item) for array_name, item in arrays.items()]
    return values


def _legacy_layers(path: Path, group: h5py.Group) -> dict[str, Arrays]:
    """Layer name to its arrays, in the file's order; layers without weights are left out."""
    arrays = _arrays(path, group)
    layers: dict[str, Arrays] = {}
    for layer in _names(group, "layer_names"):
        weights = [f"{layer}/{weight}" for weight in _names(group[layer], "weight_names")]
        if weights:
            layers[layer] = {name: arrays[name] for name in weights}
    return layers


def _names(group: h5py.Group, attribute: str) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs[attribute]]


def _assign(model: keras.Model, values: Sequence[NDArray[np.float32]]) -> None:
    targets = [weight for layer in model.layers for weight in layer.weights]
    # All arrays have been checked by now: either all are assigned or none.
    for weight, value in zip(targets, values, strict=True):
        weight.assign(value)


# --- writing ------------------------------------------------------------------------------------


def save_weights(model: keras.Model, path: Path) -> None:
    """Write ``path`` and its hash so that, killed at any moment, a file that loads is there."""
    # Keras demands that the name ends in .weights.h5, so the mark goes in front.
    partial = path.with_name(f"partial.{path.name}")
    model.save_weights(partial)
    sidecar.publish(partial, path)
