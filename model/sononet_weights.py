"""Weights of a SonoNet from the ``.pth`` files of the original programs.

Two layouts of names: that of SpaceTime-SonoNet, where convolutions and poolings are counted through,
``_features.3.0.weight``, and that of the SonoNet it was taken from, ``features.1.0.0.weight``, by stack
and convolution. Every tensor has to be there, under its name, in the shape of the network, and finite;
only then the first one is assigned.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from model.pth import read_tensors
from model.sononet import HEAD, STACKS
from pipeline.errors import ConfigError, IntegrityError

PRESET = "sononet-2025"
OTHER_FILE = "give the weights of this SonoNet, or build the network that they are of"
UNUSED = ".num_batches_tracked"
KERNEL, NORMALISATION = ("weight",), ("weight", "bias", "running_mean", "running_var")

Tensors = dict[str, NDArray[Any]]
Weights = dict[str, tuple[str, Any]]  # the layer and the variable that a tensor is for


def load_pth(net: keras.Model, path: Path, *, head: bool = True, preset: str | None = None) -> None:
    """Set the weights of ``net``, a SonoNet, from a PyTorch file; nothing in the file is executed.

    A file for another number of classes gives all but the last convolution and its normalisation, which
    then begin anew: scale and variance 1, mean and bias 0. With ``preset`` "sononet-2025" they are all
    0, as in the original, where training has to lift every logit from 0. ``head`` False leaves the last
    convolution as it is, whatever the file has. Raises ConfigError for another preset, IntegrityError if
    the file is damaged, is of another network, or has numbers that are not finite; ``net`` is then
    unchanged.
    """
    if preset not in (None, PRESET):
        raise ConfigError.of("preset", "bad-value", f"{preset!r} is not known", f"give {PRESET} or none")
    tensors = _renamed(read_tensors(path))
    weights = _weights(net, path)
    last = [name for name in weights if weights[name][0].startswith(HEAD)]
    other_classes = _classes(tensors, last) not in (None, net.output_shape[-1])
    left_out = last if other_classes or not head else []
    values = _checked(path, weights, tensors, left_out)
    for name, value in values.items():
        weights[name][1].assign(value)
    if other_classes and head:
        _begin_anew(net, zeros=preset == PRESET)


def _classes(tensors: Tensors, last: Sequence[str]) -> int | None:
    """Number of classes in a file, None if it has no head."""
    found = tensors.get(last[-1])
    return None if found is None or found.ndim != 1 else len(found)


# --- names --------------------------------------------------------------------------------------


def _convolutions() -> Iterator[tuple[str, str, str]]:
    """Names of each convolution of the stacks: here, in SpaceTime-SonoNet, in the SonoNet before it."""
    child = 0
    for stack, (convolutions, _) in enumerate(STACKS):
        for number in range(convolutions):
            yield f"stack{stack + 1}_conv{number + 1}", f"_features.{child}", f"features.{stack}.{number}"
            child += 1
        child += 1  # the pooling after the stack is counted, too


def _names(block: str, whole: str, normalised: str, split: str) -> dict[str, str]:
    """Names in PyTorch of the layers of a block, whether it is one convolution or split into two."""
    halves = {"space": f"{split}.spatial_conv", "time": f"{split}.temporal_conv"}
    kernels = {f"{block}_{half}": f"{name}.0" for half, name in halves.items()}
    normalisations = {f"{block}_{half}_bn": f"{name}.1" for half, name in halves.items()}
    return {block: whole, f"{block}_bn": normalised, **kernels, **normalisations}


PREFIXES = _names("adapt1", "_adaptation.0", "_adaptation.1", "_adaptation.0")
PREFIXES |= _names(HEAD, "_adaptation.3", "_adaptation.4", "_adaptation.1")
for _block, _new, _ in _convolutions():
    PREFIXES |= _names(_block, f"{_new}.0", f"{_new}.1", f"{_new}.0")
RENAMED = {"adaption": "_adaptation", **{old: new for _, new, old in _convolutions()}}


def _renamed(tensors: Tensors) -> Tensors:
    """The tensors that are weights, under the names of SpaceTime-SonoNet."""
    old = re.compile(r"^(features\.\d\.\d|adaption)(?=\.)")
    return {
        old.sub(lambda found: RENAMED.get(found[0], found[0]), name): value
        for name, value in tensors.items()
        if not name.endswith(UNUSED)
    }


def _weights(net: keras.Model, path: Path) -> Weights:
    """The weights of the network under the names of SpaceTime-SonoNet."""
    found = {}
    for layer in net.layers:
        if layer.name in PREFIXES:
            parts = NORMALISATION if layer.name.endswith("_bn") else KERNEL
            for part, weight in zip(parts, layer.weights, strict=True):
                found[f"{PREFIXES[layer.name]}.{part}"] = (layer.name, weight)
    if not found or len(found) != len(net.weights):
        reason = f"these are the weights of a SonoNet, {net.name} is none"
        raise ConfigError.of(path, "other-network", reason, "give weights that end in .h5")
    return found


# --- values -------------------------------------------------------------------------------------


def _checked(path: Path, weights: Weights, tensors: Tensors, left_out: Sequence[str]) -> Tensors:
    """The value of each weight, but for those left out, in the axes of Keras."""
    _check_names(path, weights, tensors)
    values = {}
    for name, (_, weight) in weights.items():
        if name in left_out:
            continue
        tensor, expected = tensors[name], _in_pytorch(weight.shape)
        if tensor.shape != expected:
            reason = f"{name} has the shape {tensor.shape}; the network has {expected}"
            raise IntegrityError.of(path, "other-network", reason, OTHER_FILE)
        values[name] = _in_keras(tensor)
        if not np.isfinite(values[name]).all():
            raise IntegrityError.of(path, "non-finite", f"{name} holds NaN or infinity", OTHER_FILE)
    return values


def _check_names(path: Path, weights: Weights, tensors: Tensors) -> None:
    lacking, extra = (sorted(a.keys() - b.keys()) for a, b in ((weights, tensors), (tensors, weights)))
    for names, what in ((lacking, "it lacks"), (extra, "the network lacks")):
        if names:
            rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise IntegrityError.of(path, "other-network", f"{what} {names[0]:.80}{rest}", OTHER_FILE)


def _in_pytorch(shape: Sequence[int]) -> tuple[int, ...]:
    """([t,] h, w, in, out) to (out, in, [t,] h, w); the shape of a vector as it is."""
    return (*reversed(shape[-2:]), *shape[:-2])


def _in_keras(tensor: NDArray[Any]) -> NDArray[np.float32]:
    """Kernels (out, in, [t,] h, w) to ([t,] h, w, in, out); vectors as they are."""
    axes = (0,) if tensor.ndim == 1 else (*range(2, tensor.ndim), 1, 0)
    with np.errstate(over="ignore"):  # what is too large for float32 is told to be infinite
        return tensor.transpose(axes).astype(np.float32)


def _begin_anew(net: keras.Model, *, zeros: bool) -> None:
    for layer in net.layers:
        if layer.name.startswith(HEAD) and layer.name.endswith("_bn"):
            one = np.zeros if zeros else np.ones
            width = layer.weights[0].shape
            layer.set_weights([one(width), np.zeros(width), np.zeros(width), one(width)])
        elif layer.name.startswith(HEAD) and layer.weights:
            kind = keras.initializers.HeUniform() if zeros else layer.kernel_initializer
            (kernel,) = layer.weights
            kernel.assign(kind(kernel.shape))
