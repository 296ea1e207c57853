"""Which slices a decision rests on, and where in the most important slice: arrays in, arrays out.

Volumes are float32 (depth, height, width) in [0, 1]; a class is an index into the run's classes.

The backbone sees each slice alone. So it runs once over each slice and once over an empty one. The
features of a volume with some slices emptied are then known: those of the empty slice take their place,
and only LSTM and head run again. This is exact, not an estimate. Empty means 0: air in CT, black in a
video.

Occlusion: M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV
2014. Grad-CAM: R. R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via
gradient-based localization", ICCV 2017, equations 1 and 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray

from model.applications import BACKBONE
from model.network import ADAPTER, summary

Float32 = NDArray[np.float32]
SLICES_AT_ONCE = 14  # VGG-16 takes about 50 MB for a slice of 224 x 224
LEAST_DROP = 0.01  # of a probability: what is less is noise
WINDOWS = 6  # in a volume, each emptied in turn; with narrower ones the demo's lesions were found less often
POOLINGS = (layers.MaxPooling2D, layers.AveragePooling2D, layers.GlobalAveragePooling2D)


@dataclass(frozen=True)
class SliceFeatures:
    """The backbone's output for each slice, (depth, features), and for an empty one, (features,).

    Where the network reads feature maps, ``features`` stands for (height, width, features).
    """

    slices: Float32
    empty: Float32


@dataclass(frozen=True)
class Explanation:
    """A decision: the class, its probability, and what it rests on.

    ``drops[i]`` is the fall of the probability when the slices around ``i`` are emptied (negative: it
    rises); ``decisive`` is the slice with the largest drop; ``heat`` (height, width) is Grad-CAM in
    [0, 1] for that slice.
    """

    label: int
    probability: float
    drops: Float32
    decisive: int
    heat: Float32

    @property
    def lowers(self) -> bool:
        """Whether emptying some slices lowers the probability by more than noise."""
        return bool(self.drops.max() >= LEAST_DROP)


def explain(nets: Sequence[keras.Model], volume: Float32) -> Explanation:
    """Explain the decision of one network, or of several whose probabilities are averaged.

    The drop of an average is the average of the drops. Averaging the heat maps is our own choice.
    """
    pairs = [(net, extract_features(net, volume)) for net in nets]
    mean = np.mean([_probabilities(net, features.slices[None])[0] for net, features in pairs], axis=0)
    label, width = int(mean.argmax()), max(1, len(volume) // WINDOWS)
    drops = np.mean([occlusion(net, item, label=label, width=width) for net, item in pairs], axis=0)
    decisive = int(drops.argmax())
    heats = [grad_cam(net, item, volume, decisive, label=label) for net, item in pairs]
    return Explanation(label, float(mean[label]), drops, decisive, np.mean(heats, axis=0))


def extract_features(net: keras.Model, volume: Float32) -> SliceFeatures:
    """Run the backbone over each slice of a volume and over an empty slice, a few at a time."""
    # The empty slice comes last, so that slice i stays at position i.
    frames = np.concatenate([volume, np.zeros_like(volume[:1])])[..., np.newaxis]
    pieces = [frames[start : start + SLICES_AT_ONCE] for start in range(0, len(frames), SLICES_AT_ONCE)]
    backbone = net.get_layer(BACKBONE)
    outputs = [ops.convert_to_numpy(backbone(_backbone_input(net, piece))) for piece in pieces]
    features = np.concatenate(outputs)
    return SliceFeatures(features[:-1], features[-1])


def occlusion(net: keras.Model, features: SliceFeatures, *, label: int, width: int) -> Float32:
    """The fall of a class's probability when ``width`` slices around each slice are emptied, (depth,).

    At the ends of the volume the window is cut off. An even window has one slice more before its
    centre than after it.
    """
    depth = len(features.slices)
    # A row for each window, a column for each slice: True where the window empties the slice.
    distance = np.arange(depth) - np.arange(depth)[:, np.newaxis]  # [window, slice]
    emptied = (distance >= -(width // 2)) & (distance < width - width // 2)
    emptied = emptied.reshape(*emptied.shape, *(1 for _ in features.empty.shape))
    without = np.where(emptied, features.empty, features.slices)
    whole = _probabilities(net, features.slices[np.newaxis])
    drops: Float32 = whole[0, label] - _probabilities(net, without)[:, label]
    return drops


def grad_cam(
    net: keras.Model, features: SliceFeatures, volume: Float32, index: int, *, label: int
) -> Float32:
    """Where in slice ``index`` the score of a class comes from: (height, width) in [0, 1].

    The score is that before the softmax, the feature maps are the last before the backbone's last
    poolings (14 x 14 for VGG-16 at 224 x 224). The largest value is 1, or all are 0 where nothing
    in the slice supports the class.
    """
    backbone = _with_maps(net.get_layer(BACKBONE))
    # Only this slice needs gradients; the features of the others are constants.
    before, after = features.slices[:index], features.slices[index + 1 :]
    with tf.GradientTape() as tape:
        maps, feature = backbone(_backbone_input(net, volume[index, np.newaxis, ..., np.newaxis]))
        score = _scores(net, ops.concatenate([before, feature, after])[None])[0, label]
    # Equation 1: the importance of a feature map is the mean of its gradients.
    weights = ops.mean(tape.gradient(score, maps), axis=(1, 2), keepdims=True)
    # Equation 2: only what raises the score counts.
    heat = ops.relu(ops.sum(weights * maps, axis=-1, keepdims=True))
    heat = ops.image.resize(heat, volume.shape[1:], interpolation="bilinear")[0, ..., 0]
    # The small number keeps a map without any heat at 0 instead of NaN.
    found: Float32 = ops.convert_to_numpy(heat / ops.maximum(ops.max(heat), 1e-12))
    return found


def _backbone_input(net: keras.Model, frames: Float32) -> Any:
    """Slices (n, height, width, 1) through the adapter: (n, height, width, 3)."""
    return net.get_layer(ADAPTER)(frames[np.newaxis])[0]


def _with_maps(backbone: keras.Model) -> keras.Model:
    """The backbone with two outputs: the last feature maps before its last poolings, and its own."""
    last = next(layer for layer in reversed(backbone.layers) if not isinstance(layer, POOLINGS))
    return keras.Model(backbone.input, [last.output, backbone.output])


def _probabilities(net: keras.Model, sequences: Float32) -> Float32:
    found: Float32 = ops.convert_to_numpy(net.get_layer("head")(summary(net, sequences)))
    return found


def _scores(net: keras.Model, sequences: Any) -> Any:
    """The output of the head before its softmax."""
    head = net.get_layer("head")
    # The head is a Dense layer with its softmax inside; its weights give the values before that.
    return ops.matmul(summary(net, sequences), head.kernel) + head.bias
